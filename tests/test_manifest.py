"""Manifests: strict reading, resolving, overriding, expanding, planning, writing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas.catalog import Catalog, parse_card
from atlas.errors import BadInput
from atlas.governance import Gate
from atlas.manifest import Resolved, dump, expand, load_document, plan, resolve
from atlas.manifest.document import parse_document
from atlas.manifest.structure import check, manifest_schema
from atlas.record import Event, Head, RunView
from atlas.registry import Entry, Registry

CARD = b"""
api: 1
summary: A plugin for tests.
provides:
  instruments:
    spectrometer:
      summary: Measures a target.
      code: SPC
      phase: measure
      outputs: {spectrum: spectrum/1}
      needs: {target: true, stimulus: true, memory_gb: 8}
      params:
        type: object
        additionalProperties: false
        properties:
          top_k: {type: integer, minimum: 1, default: 5}
          tolerance: {type: number, default: 0.00001}
          trace:
            default: {}
            anyOf:
              - {const: false}
              - {type: object, additionalProperties: false, properties: {rel_se: {$ref: "#/$defs/share"}}}
          weights:
            type: object
            propertyNames: {x-atlas-kind: loss_terms}
            additionalProperties: {type: number}
        $defs: {share: {type: number, default: 0.05}}
    reader:
      summary: Interprets raw output.
      phase: interpret
      params:
        type: object
        additionalProperties: false
        required: [adapter]
        properties:
          adapter: {type: string, x-atlas-kind: synthesis_adapters}
          options: {type: object, default: {}, x-atlas-params-of: adapter}
  loss_terms: {next-token: {summary: Cross entropy.}}
  synthesis_adapters:
    by_hand:
      summary: A person carries the package.
      needs: {memory_gb: 2}
      params: {type: object, additionalProperties: false, properties: {paper: {type: integer, default: 4}}}
  targets:
    hf:
      summary: A checkpoint.
      params:
        type: object
        additionalProperties: false
        properties: {path: {type: string, x-atlas-path: anywhere}, revision: {type: string}}
  stimuli:
    claims:
      summary: Claims.
      params:
        type: object
        additionalProperties: false
        properties:
          path: {type: string, x-atlas-path: inside}
          texts: {type: array, items: {type: string}}
  governance:
    protocol:
      summary: A protocol.
      versions: ["1.0", "1.1"]
      params: {type: object, properties: {operator: {type: string}}}
"""
CATALOG = Catalog(
    (parse_card(CARD, plugin="tests", module="tests_plugin", distribution="atlas-tests", version="1.2"),)
)
REGISTRY = Registry(
    None, {"tests": Entry("tests", "atlas-tests", ">=1,<2", CATALOG.cards[0].sha256, "operational", {})}
)

GOVERNED: Mapping[str, Any] = {
    "atlas": 1,
    "name": "study",
    "lineage": "SML",
    "governance": {"use": "protocol", "operator": "A. Technician"},
    "targets": {"lm": {"use": "hf", "path": "model"}},
    "stimulus": {"use": "claims", "path": "data/claims.csv", "where": {"tier": "foil"}, "each": "pair"},
    "declare": [
        {
            "id": "h1",
            "quantity": "first.lambda_max",
            "group": {"side": "a"},
            "against": {"side": "b"},
            "expect": "less",
        }
    ],
    "steps": [
        {"id": "last", "use": "reader", "params": {"adapter": "by_hand"}, "sees": [{"from": "first.raw"}]},
        {"id": "first", "use": "spectrometer", "target": "lm"},
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "claims.csv").write_text("id,text\n")
    return tmp_path


def resolved(folder: Path, data: Mapping[str, Any] = GOVERNED, *overrides: str) -> Resolved:
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(dict(data)))
    return resolve(path, catalog=CATALOG, registry=REGISTRY, overrides=overrides)


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """Return GOVERNED with one value put in."""
    data: Any = deepcopy(dict(GOVERNED))
    here = data
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    return data  # type: ignore[no-any-return]


# Reading


def test_every_key_and_value_has_its_place() -> None:
    document = parse_document("a: [1, {é: x}]\n".encode(), "m.yaml")

    places = {path: place.text for path, place in document.places.items()}

    assert places[("a", 1, "é")] == "m.yaml:1:12"
    assert document.key_places[("a", 1, "é")].text == "m.yaml:1:9"


def test_a_byte_order_mark_and_crlf_are_read_as_nothing_special() -> None:
    document = parse_document(b"\xef\xbb\xbfatlas: 1\r\nname: x\r\n", "m.yaml")

    assert document.data == {"atlas": 1, "name": "x"}
    assert document.place(("name",)).text == "m.yaml:2:7"


def test_dates_stay_texts() -> None:
    assert parse_document(b"a: 2026-11-22\n", "m").data == {"a": "2026-11-22"}


def test_texts_of_the_stimulus_may_be_long_and_hold_what_they_hold() -> None:
    text = "\u202e\0" + "long " * 2000
    source = yaml.safe_dump({"stimulus": {"texts": [text]}}).encode()

    document = parse_document(source, "m")

    assert (document.mistakes, document.data["stimulus"]["texts"]) == ((), [text])


def test_a_billion_laughs_are_refused_at_the_first(folder: Path) -> None:
    levels = "".join(f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]\n" for n in range(1, 10))
    path = folder / "bomb.yaml"
    path.write_text(f"b0: &b0 [ha]\n{levels}")

    with pytest.raises(BadInput, match=r"bomb.yaml:1:5: the anchor &b0 is not allowed"):
        load_document(path)


@given(
    st.one_of(
        st.binary(max_size=200), st.text("{}[]:,-&*!|>'\"%@ \n\tab10.\\#?<~", max_size=80).map(str.encode)
    )
)
@settings(max_examples=400, deadline=1000)
def test_whatever_is_read_ends_in_a_document_or_a_bad_input(source: bytes) -> None:
    try:
        document = parse_document(source, "m.yaml")
    except BadInput as error:
        assert str(error).startswith("m.yaml:")
    else:
        assert isinstance(document.data, dict)


# Resolving


def test_defaults_of_format_and_card_are_filled_in(folder: Path) -> None:
    data = resolved(folder).data

    assert (data["seed"], data["seed_policy"], data["threads"]) == (0, "bound", 1)
    assert data["governance"] == {"use": "protocol", "operator": "A. Technician", "version": "1.1"}
    assert data["declare"][0]["alpha"] == 0.05
    assert data["stimulus"]["where"] == {"tier": ["foil"]}
    assert data["steps"][1] == {
        "id": "first",
        "use": "spectrometer",
        "target": "lm",
        "params": {"top_k": 5, "tolerance": 1e-05, "trace": {"rel_se": 0.05}},
        "sees": [],
        "threads": 1,
        "timeout_s": 86400,
        "isolation": "process",
        "network": False,
    }


def test_threads_of_the_run_are_those_of_its_steps(folder: Path) -> None:
    run = resolved(folder, changed(("threads",), 2), "steps.last.threads=4")

    assert [step.threads for step in run.steps] == [4, 2]
    assert [step["threads"] for step in run.data["steps"]] == [4, 2]


def test_the_first_step_gives_the_primary_instrument(folder: Path) -> None:
    assert resolved(folder).primary.name == "reader"


def test_every_offer_that_is_named_is_listed(folder: Path) -> None:
    data = changed(("steps", 1, "params"), {"weights": {"next-token": 1}})

    assert sorted(resolved(folder, data).offers) == [
        ("governance", "protocol"),
        ("instruments", "reader"),
        ("instruments", "spectrometer"),
        ("loss_terms", "next-token"),
        ("stimuli", "claims"),
        ("synthesis_adapters", "by_hand"),
        ("targets", "hf"),
    ]


def test_options_of_another_offer_are_checked_by_its_card(folder: Path) -> None:
    good = changed(("steps", 0, "params", "options"), {})
    bad = changed(("steps", 0, "params", "options"), {"papier": 4})

    assert resolved(folder, good).data["steps"][0]["params"]["options"] == {"paper": 4}
    with pytest.raises(BadInput, match="unknown key `papier` of the synthesis adapter 'by_hand'"):
        resolved(folder, bad)


def test_model_paths_become_absolute(folder: Path) -> None:
    assert resolved(folder).data["targets"]["lm"]["path"] == str(folder / "model")


def test_files_inside_the_folder_are_referred_to_where_the_run_will_keep_them(folder: Path) -> None:
    run = resolved(folder)

    assert run.data["stimulus"]["path"] == "stimulus/files/data/claims.csv"
    assert run.inside_files == {"data/claims.csv": folder / "data" / "claims.csv"}
    assert run.stimulus is not None and run.stimulus["path"] == "data/claims.csv"


def test_a_folder_inside_stands_for_all_its_files(folder: Path) -> None:
    (folder / "data" / "more").mkdir()
    (folder / "data" / "more" / "x.csv").write_text("")

    run = resolved(folder, changed(("stimulus", "path"), "data"))

    assert sorted(run.inside_files) == ["data/claims.csv", "data/more/x.csv"]


def rerun(run: Resolved, root: Path) -> Resolved:
    """Resolve a dumped manifest in a run folder as the host lays it out."""
    for relative, path in run.inside_files.items():
        copy = root / "stimulus" / "files" / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    manifest = root / "manifest.resolved.yaml"
    manifest.write_bytes(dump(run.data))
    return resolve(manifest, catalog=CATALOG, registry=REGISTRY)


def test_a_resolved_manifest_resolves_to_itself_in_the_run_folder(folder: Path) -> None:
    first = resolved(folder)

    second = rerun(first, folder / "run")

    assert second.data == first.data
    assert dump(second.data) == dump(first.data)
    assert sorted(second.inside_files) == sorted(first.inside_files)
    assert second.stimulus is not None and (folder / "run" / second.stimulus["path"]).is_file()


def test_a_dumped_manifest_reads_the_same_in_plain_yaml(folder: Path) -> None:
    data = resolved(folder).data

    assert yaml.safe_load(dump(data)) == data


PATHS: list[tuple[str | int, ...]] = [
    ("name",),
    ("seed",),
    ("governance",),
    ("governance", "version"),
    ("targets",),
    ("targets", "lm"),
    ("targets", "lm", "path"),
    ("stimulus",),
    ("stimulus", "use"),
    ("stimulus", "path"),
    ("stimulus", "where"),
    ("stimulus", "texts"),
    ("declare",),
    ("declare", 0),
    ("declare", 0, "group"),
    ("declare", 0, "quantity"),
    ("steps",),
    ("steps", 0),
    ("steps", 0, "id"),
    ("steps", 0, "use"),
    ("steps", 0, "target"),
    ("steps", 0, "params"),
    ("steps", 0, "params", "adapter"),
    ("steps", 0, "sees"),
    ("steps", 0, "sees", 0),
    ("steps", 0, "sees", 0, "from"),
    ("steps", 1, "threads"),
    ("matrix",),
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**64),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["lm", "read-0", "first.raw", "last.answer", "1e-3", "no", "12:30", "", "a: b", "../x", "\x85"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["use", "from", "id", "tier", "path", "x", "-"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@given(path=st.sampled_from(PATHS), value=VALUES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_anywhere_is_refused_or_resolves_to_itself(
    folder: Path, path: tuple[str | int, ...], value: Any
) -> None:
    try:
        first = resolved(folder, changed(path, value))
    except BadInput as error:
        assert all(line.startswith(str(folder)) for line in str(error).splitlines())
    else:
        assert rerun(first, folder / "run").data == first.data


def test_an_ungoverned_run_says_what_it_is_worth(folder: Path) -> None:
    data = {key: value for key, value in GOVERNED.items() if key != "governance"}

    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(data))
    run = resolve(path, catalog=CATALOG, registry=Registry(None))

    assert (run.governed, run.data["governance"], run.data["seed_policy"]) == (False, "none", "declared")
    assert run.notes == (
        "governance: none, so the run is capped at Tier C",
        "plugin 'tests', atlas-tests 1.2 is not admitted to governed runs: it is not in any registry",
    )


def test_a_governed_run_says_what_lowers_it(folder: Path) -> None:
    notes = resolved(folder, GOVERNED, "steps.first.isolation=inline", "seed_policy=declared").notes

    assert notes == (
        "seed_policy: declared, so the numbers could have been made before Read #0",
        "not isolated (inline): first; the run is capped at Tier B",
    )


# Overriding


def test_overrides_are_typed_by_the_rules_of_yaml(folder: Path) -> None:
    run = resolved(
        folder,
        GOVERNED,
        "steps.first.params.top_k=3",
        "steps.first.params.trace=false",
        "declare.h1.alpha=0.01",
        'targets.lm.revision="1.10"',
        "stimulus.where={tier: [foil, contested]}",
    )

    assert run.data["steps"][1]["params"] == {"top_k": 3, "tolerance": 1e-05, "trace": False}
    assert run.data["declare"][0]["alpha"] == 0.01
    assert run.data["targets"]["lm"]["revision"] == "1.10"
    assert run.data["stimulus"]["where"] == {"tier": ["foil", "contested"]}


def test_the_last_override_of_a_path_wins(folder: Path) -> None:
    assert resolved(folder, GOVERNED, "seed=1", "seed=2").data["seed"] == 2


@pytest.mark.parametrize(
    ("argument", "remedy"),
    [
        ("sead=3", "there is no key `sead` to set; did you mean seed?"),
        ("steps.frist.threads=3", "there is no step `frist` to set; did you mean first?"),
        (
            "steps.first.top_k=3",
            "a step has no key `top_k`; its parameters are set by steps.first.params.top_k",
        ),
        ("first.top_k=3", "no key `first` to set; did you mean steps.first.params.top_k?"),
        ("targets.ml.path=x", "there is no target `ml` to set; the only one is lm"),
        ("declare.h2.alpha=0.1", "there is no hypothesis `h2` to set; the only one is h1"),
        ("steps.first.treads=3", "unknown key `treads`; did you mean threads?"),
        ("steps.first.params.topk=3", "of the instrument 'spectrometer'; did you mean top_k?"),
        ("steps.first.params.top_k=1e3", 'got the text "1e3"; write 1000'),
        ("steps.last.sees.4.from=x", "`steps.last.sees` is a list of 1; it has no `4`; count from 0 to 0"),
        ("name.first=x", '`name` is "study", it has no `first`; set `name` as a whole'),
        ("steps..threads=3", "write keys joined by single dots"),
        ("matrix.seed=[1]", "there is no key `matrix` to set"),
        ("seed", "a path, `=` and a value are needed"),
        ("seed=", "a path, `=` and a value are needed"),
        ("seed=[", "not YAML"),
        ("seed=*a", "the alias *a is not allowed"),
        ("seed=0777", "write it in decimal"),
    ],
)
def test_an_override_that_cannot_be_is_refused_where_it_was_typed(
    folder: Path, argument: str, remedy: str
) -> None:
    with pytest.raises(BadInput) as caught:
        resolved(folder, GOVERNED, argument)

    assert str(caught.value).startswith(f"--set {argument}:")
    assert remedy in str(caught.value)


# The matrix


def test_a_matrix_makes_a_run_of_each_combination(folder: Path) -> None:
    path = folder / "manifest.yaml"
    path.write_text(
        yaml.safe_dump(changed(("matrix",), {"seed": [1, 2], "targets.lm.revision": ["a", "1.0"]}))
    )

    runs = expand(path, ["threads=2"])

    assert runs == [
        (
            f"seed={seed}, targets.lm.revision={text}",
            ("threads=2", f"seed={seed}", f"targets.lm.revision={text}"),
        )
        for seed in (1, 2)
        for text in ("a", '"1.0"')
    ]
    data = resolve(path, catalog=CATALOG, registry=REGISTRY, overrides=runs[3][1]).data
    assert (data["seed"], data["targets"]["lm"]["revision"], "matrix" in data) == (2, "1.0", False)


def test_without_a_matrix_there_is_one_run_without_a_label(folder: Path) -> None:
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(dict(GOVERNED)))

    assert expand(path, ["seed=3"]) == [("", ("seed=3",))]


@pytest.mark.parametrize(
    ("matrix", "overrides", "complaint"),
    [
        ("{sead: [1]}", (), "1:10: there is no key `sead` to set; did you mean seed?"),
        ("{seed: 1}", (), "1:16: expected a list, got 1; write [1]"),
        ("{seed: []}", (), "1:16: the list is too short"),
        ("{targets: [{}], targets.lm.path: [a]}", (), "1:25: `targets.lm.path` overlaps another path"),
        ("{seed: [1]}", ("seed=2",), "1:10: `seed` is set on the command line too"),
        (f"{{seed: [{'1, ' * 40}], threads: [{'1, ' * 40}]}}", (), "1:9: the matrix makes 1,600 runs"),
    ],
)
def test_a_matrix_that_cannot_be_is_refused(
    folder: Path, matrix: str, overrides: tuple[str, ...], complaint: str
) -> None:
    path = folder / "manifest.yaml"
    path.write_text(f"matrix: {matrix}\n" + yaml.safe_dump(dict(GOVERNED)))

    with pytest.raises(BadInput) as caught:
        expand(path, overrides)

    assert str(caught.value).startswith(f"{path}:{complaint}")


def test_a_mistake_in_a_cell_is_reported_in_the_matrix(folder: Path) -> None:
    path = folder / "manifest.yaml"
    path.write_text("matrix: {seed: [1, two]}\n" + yaml.safe_dump(dict(GOVERNED)))

    with pytest.raises(BadInput, match=r"manifest.yaml:1:20: expected a whole number"):
        resolve(path, catalog=CATALOG, registry=REGISTRY, overrides=expand(path)[1][1])


# Planning


class Policy:
    """A policy of which only the gates are asked."""

    def gates(self) -> tuple[Gate, ...]:
        return tuple(
            Gate(f"read-{n}", f"Read #{n}", stage, f"reads/read-{n}.md", "", "")  # type: ignore[arg-type]
            for n, stage in enumerate(("measure", "interpret", "close"))
        )


def planned(
    folder: Path, data: Mapping[str, Any], policy: Any, *events: tuple[str, dict[str, Any]]
) -> list[str]:
    run = resolved(folder, data)
    view = RunView(
        folder,
        tuple(Event(n, kind, "", value) for n, (kind, value) in enumerate(events)),
        Head(len(events), ""),
    )
    lines = plan(run.data, CATALOG, policy, view if events else None)
    return [f"{line.id} {line.action} ({line.reason})" for line in lines]


def test_a_new_run_waits_at_its_first_gate(folder: Path) -> None:
    assert planned(folder, GOVERNED, Policy()) == [
        "read-0 WAIT (for a person)",
        "first WAIT (gate read-0)",
        "read-1 WAIT (gate read-0)",
        "last WAIT (gate read-0)",
        "read-2 WAIT (gate read-0)",
    ]


def test_an_ungoverned_run_runs_through(folder: Path) -> None:
    assert planned(folder, changed(("governance",), "none"), None) == ["first RUN (new)", "last RUN (new)"]


def test_a_step_comes_after_those_whose_results_it_sees(folder: Path) -> None:
    review = {
        "id": "review",
        "use": "reader",
        "params": {"adapter": "by_hand"},
        "sees": [{"from": "last.answer"}],
    }
    data = changed(("steps",), [review, *GOVERNED["steps"]]) | {"governance": "none"}

    assert planned(folder, data, None) == ["first RUN (new)", "last RUN (new)", "review RUN (new)"]


def test_a_plan_says_what_is_sealed_and_what_comes_next(folder: Path) -> None:
    events = [
        ("gate-opened", {"gate": "read-0"}),
        ("gate-answered", {"gate": "read-0", "sha256": "0123456789"}),
        ("step-started", {"step": "first"}),
        ("sealed", {"path": "raw/first/quantities.csv", "size": 1, "sha256": "ab", "role": "table"}),
        ("step-finished", {"step": "first"}),
        ("gate-opened", {"gate": "read-1"}),
        ("gate-skipped", {"gate": "read-1", "author": "A. Technician"}),
        ("step-started", {"step": "last"}),
        ("step-failed", {"step": "last", "reason": "timeout"}),
    ]

    assert planned(folder, GOVERNED, Policy(), *events) == [
        "read-0 DONE (sealed 01234567)",
        "first DONE (sealed b29f6b20)",
        "read-1 DONE (skipped by A. Technician)",
        "last RUN (failed before: timeout)",
        "read-2 WAIT (for a person)",
    ]


def test_a_step_that_asks_a_person_holds_back_what_follows(folder: Path) -> None:
    events = [("step-waiting", {"step": "last"}), ("gate-opened", {"gate": "last"})]

    assert planned(folder, changed(("governance",), "none"), None, *events) == [
        "first RUN (new)",
        "last WAIT (for a person's answer)",
    ]


def test_a_plan_names_needs_and_sights(folder: Path) -> None:
    first, last = plan(resolved(folder, changed(("governance",), "none")).data, CATALOG, None, None)

    assert (first.needs, first.sees) == (("target lm", "8 GB"), ())
    assert (last.needs, last.sees) == (("2 GB",), ("first.raw",))


# The reference


def keys_of(schema: Mapping[str, Any]) -> list[str]:
    """Return every key that the schema of manifests names, with its description."""
    found = []
    for name, entry in schema.get("properties", {}).items():
        assert entry.get("description"), f"{name} has no description"
        found += [name, *keys_of(entry)]
    for keyword in ("items", "additionalProperties", "else"):
        if isinstance(schema.get(keyword), dict):
            found += keys_of(schema[keyword])
    return found


def test_the_reference_names_every_key() -> None:
    page = (Path(__file__).parents[1] / "docs" / "manifest.md").read_text("utf-8")

    missing = [name for name in keys_of(manifest_schema()) if f"`{name}`" not in page]

    assert missing == []


def test_the_example_of_the_reference_keeps_the_format() -> None:
    page = (Path(__file__).parents[1] / "docs" / "manifest.md").read_text("utf-8")
    example = page.split("<!-- example -->\n```yaml\n")[1].split("```")[0]

    document = parse_document(example.encode("utf-8"), "docs/manifest.md")

    assert check(document, (), document.data, manifest_schema()) == []


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "manifests").glob("*.yaml")), ids=str)
def test_the_manifests_that_ship_keep_the_format(path: Path) -> None:
    document = load_document(path)

    assert check(document, (), document.data, manifest_schema()) == []
