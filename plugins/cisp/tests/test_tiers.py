from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from atlas_cisp.policy import CispPolicy
from cisp_stories import MANIFEST, MOVES, PAIRS, READS, RECORD_ID, TICKED, Tell

from atlas.governance import TierReport
from atlas.record import RunView, open_record


def graded(view: RunView) -> TierReport:
    return CispPolicy(view.manifest["governance"]).tier(view)


def fallen(report: TierReport) -> dict[str, str | None]:
    return {c.name: c.otherwise for c in report.conditions if not c.met}


def without(*names: str) -> list[str]:
    return [move for move in MOVES if move not in names]


def moved(name: str, *, after: str) -> list[str]:
    rest = without(name)
    place = rest.index(after) + 1
    return [*rest[:place], name, *rest[place:]]


def replaced(name: str, *others: str) -> list[str]:
    place = MOVES.index(name)
    return [*MOVES[:place], *others, *MOVES[place + 1 :]]


def manifest(**changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(MANIFEST)), **changes}


def test_a_run_that_kept_every_rule_is_tier_a_with_evidence_for_each(tell: Tell) -> None:
    report = graded(tell())
    assert (report.tier, fallen(report)) == ("A", {})
    assert all(condition.evidence for condition in report.conditions)


SHEET = "the sanitisation sheet was completed before any model file"
READ_0 = "Read #0 was sealed before any model file"
DECLARED = "hypotheses were declared before any model file"
LINKED = "the stimulus slice is linked to a behavioural record"
MEASURED = "the raw output was sealed by a step that ended with a validated result"
ENVIRONMENT = "the environment was recorded before any model file"
ISOLATED = "every step ran in a process of its own"
PLANNED = "each step was given what the protocol lets it see"
CLEAN = "every package was inspected and holds no framework vocabulary"
UNSIGNED = "no problem was passed by a signature"
READ_1 = "Read #1 was sealed after the raw output and before any interpretation"
ONCE = "no package was put before a model again after an output had begun"
SYNTHESIS = "raw output and Read #1 were synthesised under version 1.1"
READ_2 = "Read #2 was sealed after the synthesis"
GOVERNED = "the run is governed by this protocol"

CASES: dict[str, tuple[str, set[str], list[str], dict[str, Any]]] = {
    "no sheet": ("C", {SHEET}, without("sanitisation"), {}),
    "sheet skipped": ("C", {SHEET}, replaced("sanitisation", "skip sanitisation"), {}),
    "sheet after the first step": ("C", {SHEET}, moved("sanitisation", after="measure"), {}),
    "a box open in the sealed sheet": (
        "C",
        {SHEET},
        list(MOVES),
        {"answers": {**READS, "sanitisation": TICKED.replace("[x] S3.", "[ ] S3.")}},
    ),
    "no read 0": ("C", {READ_0}, without("read-0"), {}),
    "read 0 skipped": ("C", {READ_0}, replaced("read-0", "skip read-0"), {}),
    "read 0 after the target was fetched": ("C", {READ_0}, moved("read-0", after="fetch"), {}),
    "read 0 without a paragraph": (
        "C",
        {READ_0},
        list(MOVES),
        {"answers": {**READS, "sanitisation": TICKED, "read-0": "# Read #0\n\nok\n"}},
    ),
    "no record linked": ("C", {LINKED}, without("record"), {}),
    "record not named": (
        "C",
        {LINKED},
        list(MOVES),
        {"manifest": manifest(governance={"use": "cisp", "version": "1.1", "operator": "A. Technician"})},
    ),
    "record of other pairs": ("C", {LINKED}, list(MOVES), {"pairs_of_record": PAIRS[:1]}),
    "nothing measured": ("C", {MEASURED, CLEAN, SYNTHESIS, READ_1, READ_2, ISOLATED}, list(MOVES[:7]), {}),
    "hypotheses after the fetch": ("B", {DECLARED}, moved("declared", after="fetch"), {}),
    "no environment": ("B", {ENVIRONMENT}, replaced("prepared", "prepared_without_environment"), {}),
    "inline measurement": ("B", {ISOLATED}, list(MOVES), {"isolation": {"curvature": "inline"}}),
    "inline synthesis": ("B", {ISOLATED}, list(MOVES), {"isolation": {"synthesis": "inline"}}),
    "read 0 in the package": (
        "B",
        {PLANNED},
        list(MOVES),
        {"sees": ("raw/curvature/quantities.csv", "reads/read-0.md", "reads/read-1.md")},
    ),
    "package not inspected": ("B", {CLEAN}, without("inspect"), {}),
    "package with a term": ("B", {CLEAN}, list(MOVES), {"problems": ("a term",)}),
    "override signed": ("B", {UNSIGNED}, replaced("read-1", "override", "read-1"), {}),
    "read 1 before the raw output": ("B", {READ_1}, moved("read-1", after="measure"), {}),
    "read 1 after the synthesis": (
        "B",
        {READ_1, SYNTHESIS, READ_2},
        moved("read-1", after="synthesis"),
        {"sees": ("raw/curvature/quantities.csv",)},
    ),
    "no synthesis": ("B", {CLEAN, SYNTHESIS, READ_2}, without("inspect", "synthesis"), {}),
    "asked again after an output": ("B", {ONCE}, replaced("synthesis", "begun", "begun", "synthesis"), {}),
    "synthesis of protocol 0.1": (
        "B",
        {SYNTHESIS},
        list(MOVES),
        {"facts": {"synthesis": {"protocol": "0.1"}}},
    ),
    "read 2 skipped": ("B", {READ_2}, replaced("read-2", "skip read-2"), {}),
    "read 2 before the synthesis": ("B", {READ_2}, moved("read-2", after="read-1"), {}),
}


@pytest.mark.parametrize(("tier", "unmet", "moves", "world"), CASES.values(), ids=CASES.keys())
def test_each_removed_condition_lowers_the_tier_with_its_reason(
    tell: Tell, tier: str, unmet: set[str], moves: list[str], world: dict[str, Any]
) -> None:
    report = graded(tell(moves, **world))
    assert (report.tier, set(fallen(report))) == (tier, unmet)


def test_read_1_skipped_is_tier_b(tell: Tell) -> None:
    world = {"sees": ("raw/curvature/quantities.csv",)}
    report = graded(tell(replaced("read-1", "skip read-1"), **world))
    assert (report.tier, set(fallen(report))) == ("B", {READ_1, SYNTHESIS, READ_2})


@pytest.mark.parametrize("name", ["facts.json", "answers.txt"])
def test_an_edited_record_no_longer_supports_the_run(tell: Tell, name: str) -> None:
    view = tell()
    file = view.root / "records" / RECORD_ID / "raw/bsa" / name
    file.write_bytes(file.read_bytes() + b" ")
    report = graded(open_record(view.root))
    assert (report.tier, set(fallen(report))) == ("C", {LINKED})


def test_a_record_that_was_replaced_no_longer_supports_the_run(tell: Tell) -> None:
    from cisp_stories import record_by_hand

    view = tell()
    folder = view.root / "records" / RECORD_ID
    shutil.rmtree(folder)
    record_by_hand(folder, tier="A")
    report = graded(open_record(view.root))
    assert (report.tier, set(fallen(report))) == ("C", {LINKED})


def named_none() -> dict[str, Any]:
    return manifest(governance={k: v for k, v in MANIFEST["governance"].items() if k != "bsa_record"})


def test_a_run_that_states_the_pairs_of_its_stimulus_is_a_behavioural_record_itself(tell: Tell) -> None:
    facts = {"curvature": {"pairs": " ".join(PAIRS)}}

    report = graded(tell(without("record"), manifest=named_none(), facts=facts))

    assert (report.tier, fallen(report)) == ("A", {})


@pytest.mark.parametrize("facts", [{}, {"curvature": {"pairs": PAIRS[0]}}])
def test_a_run_that_names_no_record_and_is_none_is_tier_c(tell: Tell, facts: dict[str, Any]) -> None:
    report = graded(tell(without("record"), manifest=named_none(), facts=facts))

    assert (report.tier, fallen(report)) == ("C", {LINKED: "C"})


def test_a_record_of_too_few_models_supports_a_run_and_the_evidence_says_so(tell: Tell) -> None:
    report = graded(tell(minimum_of_record="below minimum: 1 model of 1 lineage"))

    evidence = next(c.evidence for c in report.conditions if c.name == LINKED)
    assert report.tier == "A"
    assert evidence.endswith("; the record is below minimum: 1 model of 1 lineage")
