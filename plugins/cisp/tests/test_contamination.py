from __future__ import annotations

from pathlib import Path

import pytest
from atlas_cisp.contamination import built_in, load_terms
from atlas_cisp.policy import CispPolicy

from atlas.errors import BadInput

HIDDEN = {
    "plain": ("The viscosity is high here.", "viscosity", "1:5"),
    "capitals": ("VISCOSITY", "viscosity", "1:1"),
    "full width": ("\uff56\uff49\uff53\uff43\uff4f\uff53\uff49\uff54\uff59", "viscosity", "1:1"),
    "mathematical letters": (
        "\U0001d42f\U0001d422\U0001d42c\U0001d41c\U0001d428\U0001d42c\U0001d422\U0001d42d\U0001d432",
        "viscosity",
        "1:1",
    ),
    "zero width space": ("visc\u200bosity", "viscosity", "1:1"),
    "zero width joiner": ("vi\u200dsco\u200csity", "viscosity", "1:1"),
    "soft hyphen": ("vis\u00adcos\u00adity", "viscosity", "1:1"),
    "byte order mark inside": ("visc\ufeffosity", "viscosity", "1:1"),
    "word joiner": ("visc\u2060osity", "viscosity", "1:1"),
    "text direction marks": ("\u202evisc\u202cosity", "viscosity", "1:2"),
    "combining accents": ("vi\u0301sco\u0308sity", "viscosity", "1:1"),
    "accented letters": ("víscösity", "viscosity", "1:1"),
    "Cyrillic look-alikes": ("visc\u043es\u0456ty", "viscosity", "1:1"),
    "line break inside": ("a visco\nsity", "viscosity", "1:3"),
    "hyphenated line break": ("the visc-\n  osity of it", "viscosity", "1:5"),
    "CRLF inside": ("visco\r\nsity", "viscosity", "1:1"),
    "quoted line break": ("> visc-\n> osity", "viscosity", "1:3"),
    "bold letters": ("visc**os**ity", "viscosity", "1:1"),
    "italic start": ("*v*iscosity", "viscosity", "1:2"),
    "underscored letters": ("visc_os_ity", "viscosity", "1:1"),
    "code inside": ("visc`os`ity", "viscosity", "1:1"),
    "struck out inside": ("visc~~os~~ity", "viscosity", "1:1"),
    "HTML tag inside": ("visc<b>os</b>ity", "viscosity", "1:1"),
    "HTML comment inside": ("visc<!-- x -->osity", "viscosity", "1:1"),
    "character reference": ("visc&#111;sity", "viscosity", "1:1"),
    "soft hyphen as a reference": ("visc&shy;osity", "viscosity", "1:1"),
    "JSON line break before it": ('{"note": "the\\nviscosity"}', "viscosity", "1:16"),
    "JSON escape inside": ('{"note": "visc\\u006fsity"}', "viscosity", "1:11"),
    "TeX command": ("\\tension", "tension", "1:2"),
    "phrase over a line break": ("a potential\ndifference", "potential difference", "1:3"),
    "phrase with hyphen": ("potential-difference", "potential difference", "1:1"),
    "phrase as one identifier": ("potential_difference, potentialDifference", "potential difference", "1:1"),
    "phrase with markup between": ("**potential** *difference*", "potential difference", "1:3"),
    "phrase with two spaces": ("loss\u00a0 landscape", "loss landscape", "1:1"),
    "name": ("as Lossyscape has it", "lossyscape", "1:4"),
    "code in capitals": ("The model will LOCK.", "LOCK", "1:16"),
    "borrowed word about a model": ("The model shows resistance.", "resistance", "1:17"),
    "everyday subject, but about geometry": (
        "On the insulin pair the Hessian shows resistance.",
        "resistance",
        "1:39",
    ),
    "everyday subject in another sentence": ("Insulin is a hormone. I see resistance.", "resistance", "1:29"),
    "second line": ("one\ntwo tension", "tension", "2:5"),
}


@pytest.mark.parametrize(("text", "term", "place"), HIDDEN.values(), ids=HIDDEN.keys())
def test_a_hidden_term_is_found_at_its_place(text: str, term: str, place: str) -> None:
    found = built_in().findings(text)
    assert [str(f) for f in found][:1] == [f"{place}: {term}"]


INNOCENT = [
    "Hypertension is the leading cause of stroke.",
    "Hypotension follows blood loss.",
    "Insulin resistance precedes type 2 diabetes.",
    "Antibiotic resistance grows with overuse.",
    "Bacteria develop resistance when courses are cut short.",
    "Resistance to antibiotics spreads through plasmids.",
    "Resistance training preserves bone density in older adults.",
    "Peripheral vascular resistance falls in sepsis.",
    "The electrical resistance of a wire grows with its length.",
    "Air resistance slows a falling feather.",
    "Passive resistance is protected speech.",
    "Resisting arrest is an offence.",
    "Surface tension lets insects walk on water.",
    "A tension pneumothorax is an emergency.",
    "Tension headaches are the most common headaches.",
    "The blood viscosity rises with the haematocrit.",
    "Honey has a higher viscosity than water.",
    "Spin-orbit coupling splits spectral lines.",
    "The harmonics of a violin string are whole multiples of its lowest note.",
    "A resonant circuit selects one radio station.",
    "Magnetic resonance imaging uses no ionising radiation.",
    "Cognitive dissonance explains the effect.",
    "The ship's navigator used the stars.",
    "He was charged with theft and discharged on bail.",
    "The battery was charged overnight.",
    "The potential for a difference of opinion remains.",
    "A potential benefit and a real difference.",
    "The patient must hold still; the flat line is normal; lock the door.",
    "lambda_max,all,1,41.5,0.02,residual_bound,,,1,true,40,,",
    "trace,condition_number,eigenvalue,num_matvecs",
    "The drainage basin of the river is large.",
    "Loss of the landscape's features followed the flood.",
    "The top eigenvalue is larger for the contested pair.",
    "The loss is 3.2 nats per token, and both bounds are small.",
    "Attention deficit and extension of treatment.",
    "x < y and y > z, so x is the least.",
]


@pytest.mark.parametrize("text", INNOCENT)
def test_everyday_language_is_no_finding(text: str) -> None:
    assert built_in().findings(text) == ()


def test_a_registry_file_adds_terms(tmp_path: Path) -> None:
    path = tmp_path / "terms.yaml"
    path.write_text("phrases: [quiet harbour]\nborrowed: [{forms: [anchor], subjects: [ship*]}]\n")
    policy = CispPolicy({"use": "cisp", "version": "1.1", "vocabulary": str(path)})
    problems = policy.inspect(
        {"prompt": "The anchor of the ships.\nAn anchor in a Quiet Harbour.\nviscosity"}
    )
    assert [p.where for p in problems] == ["prompt:2:4", "prompt:2:16", "prompt:3:1"]


@pytest.mark.parametrize(
    "content", ["- a list\n", "terms: [x]\n", "words: one\n", "words: [1]\n", "borrowed: [x]\n", "a: [\n"]
)
def test_a_registry_file_of_another_form_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "terms.yaml"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"terms\.yaml"):
        load_terms(path)


def test_a_problem_of_a_package_names_file_line_and_column_and_may_be_signed() -> None:
    policy = CispPolicy({"use": "cisp", "version": "1.1"})
    (problem,) = policy.inspect({"raw/facts.json": "{}", "reads/read-1.md": "I see\nhigh tension here."})
    assert (problem.where, problem.overridable) == ("reads/read-1.md:2:6", True)
    assert "'tension'" in problem.message


def test_the_same_term_reads_the_same_in_review_and_in_the_package(tell) -> None:  # type: ignore[no-untyped-def]
    """An override is matched by message, so the message must not depend on the place."""
    policy = CispPolicy({"use": "cisp", "version": "1.1"})
    text = "What I see in these numbers is a high tension."
    reviewed = policy.review("read-1", text, tell())
    inspected = policy.inspect({"reads/read-1.md": f"\n{text}"})
    assert [p.message for p in reviewed] == [p.message for p in inspected]
