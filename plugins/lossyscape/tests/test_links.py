"""The link sheet: what is high relative to a declared reference, and what is never said."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from atlas_lossyscape.links.comparison import difference, relation, unusable
from atlas_lossyscape.links.instrument import compare_proxies
from atlas_lossyscape.links.references import declared_reference, measured_steps
from atlas_lossyscape.links.schemas import RELATIONS
from atlas_lossyscape.links.section import render, status
from atlas_pyhessian.schemas import SERIES

from atlas.contracts import Slice, StimulusItem
from atlas.errors import BadInput
from atlas.quantities import Quantity
from atlas.record import canonical_json
from atlas.run.journal import Journal
from atlas.run.store import Deposit, Store
from atlas.run.workspace import LocalWorkspace
from atlas.tables import QUANTITIES, to_csv

TEXTS = ["A cat sat on a mat.", "Rain fell all day.", "The sun rose late."]


def estimate(value: float, error: float) -> Quantity:
    return Quantity("trace", value, error, "standard_error")


def bounded(value: float, bound: float, **more) -> Quantity:
    return Quantity("lambda_max", value, bound, "residual_bound", **more)


def test_equal_estimates_are_told_apart_as_often_as_95_per_cent_say():
    # z = (x - y) / sqrt(3^2 + 4^2) is normal, so that |z| > 1.96 in 5%; of 20,000 pairs the rate has a
    # standard error of 0.0015.
    rng = np.random.default_rng(0)
    pairs = zip(rng.normal(0, 3, 20_000), rng.normal(0, 4, 20_000), strict=True)

    sides = [difference(estimate(x, 3), estimate(y, 4)).side for x, y in pairs]

    assert sides.count("above") / len(sides) == pytest.approx(0.025, abs=0.005)
    assert sides.count("below") / len(sides) == pytest.approx(0.025, abs=0.005)


def test_bounds_add_up():
    assert [difference(bounded(5, 1), bounded(3, b)).side for b in (0.9, 1.1)] == ["above", "open"]


def test_a_bound_and_an_estimate_add_their_reach():
    found = difference(bounded(5, 1), estimate(2, 1))

    assert (found.low, found.high) == (pytest.approx(3 - 1 - 1.96), pytest.approx(3 + 1 + 1.96))


def test_asymmetric_intervals_meet_with_the_ends_that_face_each_other():
    wide = Quantity("trace", 10, 9, "interval_95", low=9, high=19)
    other = Quantity("trace", 7, 9, "interval_95", low=-2, high=8)

    found = difference(wide, other)

    assert (found.low, found.high) == (pytest.approx(3 - math.sqrt(2)), pytest.approx(3 + math.sqrt(162)))


def test_magnitudes_of_eigenvalues_are_compared():
    assert difference(bounded(-5, 1), bounded(3, 0.5), magnitude=True).side == "above"


def test_high_needs_the_declared_share_of_the_reference():
    sides = ["above", "above", "above", "open"]

    assert [relation(sides, share) for share in (0.75, 0.8)] == ["high", "within"]
    assert relation(["below"], 1.0) == "low"
    assert relation([], 0.75) == "undetermined"


@pytest.mark.parametrize(
    "quantity",
    [
        Quantity("trace", None, None, "undefined", note="why"),
        Quantity("trace", 1.0, None, "uncertified"),
        bounded(1.0, 0.1, converged=False),
    ],
)
def test_a_value_without_a_valid_error_is_not_compared(quantity):
    assert unusable(quantity) is not None


class Sheet:
    """What the instrument takes of its context, with sealed tables as files."""

    def __init__(self, folder: Path, reference: dict, quantities: list[Quantity], slices=()):
        self.params = {"reference": reference, "share": 0.75}
        self.slices, self.tables, self.facts = slices, {}, {}
        rows = to_csv(QUANTITIES, [q.as_record() for q in quantities])
        self.inputs = {f"raw/curvature/{n}": folder / n for n in ("quantities.csv", "facts.json")}
        (folder / "quantities.csv").write_bytes(rows)
        (folder / "facts.json").write_bytes(canonical_json({"operator": "hessian"}))

    def table(self, name, rows):
        self.tables[name] = rows

    def fact(self, name, value):
        self.facts[name] = value


def other_run(root: Path, *, governed: bool, operator: str = "hessian") -> Path:
    """Seal a run that measured lambda_max 5 on the slice `a`."""
    table = to_csv(QUANTITIES, [bounded(5, 0.1, slice="a").as_record()])
    with Journal.create(root) as journal:
        journal.append("created", {"run_id": root.name, "atlas": "0.1.0", "governed": governed})
        files = [
            Deposit("raw/curvature/quantities.csv", table, "raw"),
            Deposit("raw/curvature/facts.json", canonical_json({"operator": operator}), "facts"),
        ]
        Store.open(journal).seal_together("step-finished", {"step": "curvature", "attempt": 1}, files)
    return root


def test_a_value_is_compared_with_the_same_slice_of_another_run(tmp_path):
    run = other_run(tmp_path / "PYH-OTH-20261122-001", governed=False)
    measured = [bounded(7, 0.1, slice="a"), bounded(7, 0.1, slice="b")]
    sheet = Sheet(tmp_path, {"run": str(run)}, measured)

    compare_proxies(sheet)

    assert [row["relation"] for row in sheet.tables["relations"]] == ["high", "undetermined"]
    assert sheet.tables["references"][0]["reference"] == "PYH-OTH-20261122-001, a"
    assert sheet.facts["reference.head"].startswith("2:")


def part(key: str, **attributes: str) -> Slice:
    return Slice(key, (StimulusItem(key, "text"),), attributes)


def test_the_reference_is_of_the_declared_attributes_and_never_the_value_itself(tmp_path):
    slices = (part("a", tier="foil"), part("b", tier="contested"), part("c", tier="contested"))
    measured = [bounded(value, 0.1, slice=key) for key, value in (("a", 7), ("b", 5), ("c", 6))]
    sheet = Sheet(tmp_path, {"slices": {"tier": ["contested"]}}, measured, slices)

    compare_proxies(sheet)

    assert [(row["slice"], row["reference"]) for row in sheet.tables["references"]] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
        ("c", "b"),
    ]
    assert [row["relation"] for row in sheet.tables["relations"]] == ["high", "low", "high"]


def test_checkpoints_are_compared_on_the_same_slice(tmp_path):
    keys = [f"{label}: {key}" for label in ("step1", "step2") for key in ("a", "b")]
    measured = [bounded(value, 0.1, slice=key) for key, value in zip(keys, (1, 2, 3, 1), strict=True)]
    sheet = Sheet(tmp_path, {"checkpoints": ["step1"]}, measured)
    required = ("lambda_max", "loss", "gradient_norm")
    rows = [
        {"position": number, "label": label, "slice": key} | dict.fromkeys(required, 1.0)
        for number, label in enumerate(("step1", "step2"), start=1)
        for key in ("a", "b")
    ]
    (tmp_path / "series.csv").write_bytes(to_csv(SERIES, rows))
    (tmp_path / "series.schema.json").write_bytes(canonical_json(SERIES.descriptor()))
    sheet.inputs |= {
        f"raw/curvature/series.{end}": tmp_path / f"series.{end}" for end in ("csv", "schema.json")
    }

    compare_proxies(sheet)

    found = [(row["slice"], row["count"], row["relation"]) for row in sheet.tables["relations"]]
    assert found == [
        ("step1: a", 0, "undetermined"),
        ("step1: b", 0, "undetermined"),
        ("step2: a", 1, "high"),
        ("step2: b", 1, "low"),
    ]


def test_a_governed_run_without_its_reads_is_no_reference(tmp_path):
    run = other_run(tmp_path / "PYH-OTH-20261122-001", governed=True)

    with pytest.raises(BadInput, match="read-0 and read-1"):
        declared_reference(Sheet(tmp_path, {"run": str(run)}, []))


def test_another_matrix_is_another_quantity(tmp_path):
    run = other_run(tmp_path / "PYH-OTH-20261122-001", governed=False, operator="ggn")

    with pytest.raises(BadInput, match="operator"):
        compare_proxies(Sheet(tmp_path, {"run": str(run)}, [bounded(7, 0.1, slice="a")]))


def test_a_single_slice_has_no_other_slices(tmp_path):
    with pytest.raises(BadInput, match="no slice to compare"):
        declared_reference(Sheet(tmp_path, {"slices": "others"}, []))


def test_checkpoints_need_a_series(tmp_path):
    with pytest.raises(BadInput, match="series"):
        compare_proxies(Sheet(tmp_path, {"checkpoints": "others"}, [bounded(7, 0.1)]))


def test_a_sheet_that_sees_nothing_says_what_to_let_it_see():
    with pytest.raises(BadInput, match="no quantities") as error:
        measured_steps({})

    assert "sees" in str(error.value.fix)


def test_no_table_takes_a_technicians_call():
    row = {c.name: 1 if c.type == "integer" else "low" for c in RELATIONS.columns if c.name != "value"}

    with pytest.raises(BadInput, match="stays blank"):
        to_csv(RELATIONS, [row | {"status": "PROVISIONAL", "call": "yes"}])


def test_a_manifest_declares_the_reference_and_the_page_shows_where_values_stand(atlas, tiny_model):
    atlas.write(
        "m.yaml",
        yaml.safe_dump(
            {
                "atlas": 1,
                "name": "tiny",
                "lineage": "TIN",
                "governance": "none",
                "targets": {"lm": {"use": "hf", "path": str(tiny_model), "dtype": "float64"}},
                "stimulus": {"use": "text", "texts": TEXTS, "max_tokens": 8, "each": "item"},
                "steps": [
                    {
                        "id": "curvature",
                        "use": "pyhessian",
                        "target": "lm",
                        "params": {"top_k": 1, "trace": False},
                    },
                    {
                        "id": "links",
                        "use": "link-sheet",
                        "params": {"reference": {"slices": "others"}},
                        "sees": [{"from": "curvature.raw"}],
                    },
                ],
            }
        ),
    )
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err
    run = atlas.runs()[0].name
    view = atlas.view(run)

    rows = [row for row in view.tables("links")["relations"] if row["signal"] == "top-eigenvalue"]
    values = [q.value for _, q in view.quantities() if q.quantity == "lambda_max"]
    order = sorted(range(3), key=lambda i: values[i])
    # Of three certified values the largest is above both others, and the middle one above one.
    assert [rows[i]["relation"] for i in order] == ["low", "within", "high"]
    assert {(row["status"], row["call"]) for row in rows} == {("PROVISIONAL", None)}
    html = render(view, "links").html
    assert (html.count("PROVISIONAL"), "all other slices" in html) == (4, True)

    signed = {"signal": "trace", "author": "<b>", "record": "BSA-X", "tier": "A", "head": "9:abc"}
    LocalWorkspace(atlas.folder / "runs").event(run, "cisp.link-signed", signed)
    again = atlas.view(run)
    assert status(again, "trace") == "signed by <b> with BSA-X (Tier A, head 9:abc)"
    assert render(again, "links").html.count("PROVISIONAL") == 3
    assert "signed by &lt;b&gt; with BSA-X" in render(again, "links").html
