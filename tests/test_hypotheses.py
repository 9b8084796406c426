"""Declared hypotheses from manifest to verdict, by the command line; the gauge counts characters."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from atlas.catalog import Catalog
from atlas.contracts import Slice, StimulusItem
from atlas.errors import BadInput
from atlas.outcomes import verdicts
from atlas.quantities import Quantity
from atlas.run.forecasts import forecasts
from atlas.run.journal import Journal
from atlas.run.judging import explore, judge
from atlas.run.store import Store
from atlas.testing import Atlas

GAUGE = Path(__file__).parent / "gauge"

MANIFEST = """\
atlas: 1
name: lengths
lineage: SML
seed: 7
governance: none
declare:
  - {id: h1, quantity: gauge.characters, group: {tier: contested}, against: {tier: ground_truth},
     expect: greater}
  - {id: h2, quantity: gauge.mean, group: {tier: contested}, against: {tier: ground_truth},
     expect: different, smallest_effect: 0.3}
stimulus: {use: bsa, version: "0.2", where: {tier: [contested, ground_truth]}, each: pair}
steps:
  - {id: gauge, use: gauge, params: {draws: 64}}
"""

PAIRED = """\
atlas: 1
name: lengths
lineage: SML
seed: 7
governance: none
declare:
  - {id: h1, quantity: gauge.characters, group: {side: a}, against: {side: b}, expect: less, pair_by: pair}
stimulus: {use: file, path: items.csv, each: item}
steps:
  - {id: gauge, use: gauge}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    """A finished run with two declared hypotheses."""
    atlas = Atlas(tmp_path_factory.mktemp("finished"), {"PYTHONPATH": str(GAUGE)})
    atlas.write("m.yaml", MANIFEST)
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err
    return atlas


def _values(atlas: Atlas, run: str, hypothesis: str, stem: str = "hypotheses") -> dict[str, list[float]]:
    text = atlas.view(run).text(f"verdicts/slices/{stem}.csv")
    sides: dict[str, list[float]] = {"group": [], "against": []}
    for row in csv.DictReader(io.StringIO(text)):
        if row["hypothesis"] == hypothesis:
            sides[row["side"]].append(float(row["value"]))
    return sides


def test_a_declared_hypothesis_is_judged_on_the_slices_of_its_tiers(finished: Atlas) -> None:
    run = finished.runs()[0].name
    row = verdicts(finished.view(run))[0]
    sides = _values(finished, run, "h1")

    assert (row["n_group"], row["n_against"], row["registered"]) == (12, 9, "declared")
    effect = sum(sides["group"]) / 12 - sum(sides["against"]) / 9
    assert row["effect"] == pytest.approx(effect, rel=1e-12)
    theirs = stats.ttest_ind(
        sides["group"],
        sides["against"],
        equal_var=False,
        alternative="greater",
        method=stats.PermutationMethod(n_resamples=19_999, random_state=5),
    )
    # Two Monte Carlo p-values of 19,999 draws each: five standard errors of their difference.
    assert row["p"] == pytest.approx(theirs.pvalue, abs=5 * (2 * 0.25 / 19_999) ** 0.5)


def test_holm_is_taken_over_the_declared_set(finished: Atlas) -> None:
    rows = verdicts(finished.view(finished.runs()[0].name))

    small, large = sorted(row["p"] for row in rows)
    expected = {small: min(1.0, 2 * small), large: max(min(1.0, 2 * small), large)}
    assert {row["p"]: row["p_holm"] for row in rows} == expected


def test_standard_errors_of_the_values_stand_beside_the_effect(finished: Atlas) -> None:
    run = finished.runs()[0].name
    row = verdicts(finished.view(run))[1]
    errors = {
        slice_: q.uncertainty or 0.0
        for slice_, q in ((q.slice, q) for _, q in finished.view(run).quantities() if q.quantity == "mean")
    }
    text = finished.view(run).text("verdicts/slices/hypotheses.csv")
    sides: dict[str, list[float]] = {"group": [], "against": []}
    for line in csv.DictReader(io.StringIO(text)):
        if line["hypothesis"] == "h2":
            sides[line["side"]].append(errors[line["slice"]])

    variance = sum(sum(e * e for e in part) / len(part) ** 2 for part in sides.values())
    assert row["measurement_error"] == pytest.approx(variance**0.5, rel=1e-12)
    assert row["measurement_bound"] == 0.0


def test_means_of_equal_draws_are_shown_to_differ_by_less_than_what_matters(finished: Atlas) -> None:
    """64 uniform draws a slice: the means of 12 and 9 slices differ by about 0.016; 0.3 would matter."""
    row = verdicts(finished.view(finished.runs()[0].name))[1]

    assert row["verdict"] == "contradicted"


def test_the_page_and_the_terminal_show_the_verdicts(finished: Atlas) -> None:
    root = finished.runs()[0]
    shown = finished("hypothesis", "show", root.name).out
    page = (root / "report.html").read_text(encoding="utf-8")

    for text in ("h2", "contradicted", "12 and 9 independent slices"):
        assert text in shown
        assert text in page


def test_a_hypothesis_added_later_is_exploratory_and_changes_no_declared_verdict(finished: Atlas) -> None:
    root = finished.runs()[0]
    before = verdicts(finished.view(root.name))
    add = ("hypothesis", "add", root.name, "--quantity", "gauge.mean", "--expect", "greater")
    groups = ("--group", "domain=legal", "--against", "domain=medical")
    outcome = finished(*add, *groups, "--id", "x1")
    assert outcome.code == 0, outcome.err
    after = verdicts(finished.view(root.name))

    assert after[: len(before)] == before
    assert [(r["hypothesis"], r["registered"], r["p_holm"]) for r in after[2:]] == [
        ("x1", "exploratory", None)
    ]
    assert "exploratory" in outcome.out
    assert "choose another id" in finished(*add, *groups, "--id", "h1").err
    slip = finished(*add, "--group", "domain=legl", "--against", "domain=medical", "--id", "x2")
    assert (slip.code, "no slice of the run has domain legl" in slip.err) == (2, True)
    assert "domain=legal" in slip.err
    checked = finished("verify", root.name)
    assert checked.code == 0, checked.out
    assert "hypotheses: declared before the first step started" in checked.out


def test_a_bundle_carries_the_verdicts_and_the_values_behind_them(finished: Atlas) -> None:
    run = finished.runs()[0].name
    assert finished("pack", run, "--to", "out").code == 0

    with zipfile.ZipFile(finished.folder / "out" / f"{run}.zip") as bundle:
        names = {name.partition("/data/")[2] for name in bundle.namelist()}
        tables = json.loads(
            bundle.read(next(name for name in bundle.namelist() if name.endswith("datapackage.json")))
        )
    paths = {"verdicts/hypotheses.csv", "verdicts/slices/hypotheses.csv"}
    assert paths <= names
    assert paths <= {resource["path"] for resource in tables["resources"]}
    assert finished("verify", f"out/{run}.zip").code == 0


def test_pairs_are_compared_within_each_pair(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(GAUGE)})
    lines = [f"{n}a,{'x' * (10 + n)},{n},a\n" for n in range(8)]
    lines += [f"{n}b,{'x' * (13 + n + n % 3)},{n},b\n" for n in reversed(range(8))]
    atlas.write("items.csv", "id,text,pair,side\n" + "".join(lines))
    atlas.write("m.yaml", PAIRED)
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err

    (row,) = verdicts(atlas.view(atlas.runs()[0].name))

    # Every pair differs by -3 to -5: of 256 choices of signs the data's own is the most extreme.
    assert (row["p"], row["verdict"]) == (1 / 256, "supported")
    assert row["design"] == "permutation of the differences of 8 pairs by pair: all 256 changes of sign"


def test_a_hypothesis_that_its_slices_cannot_decide_is_named_before_the_run(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(GAUGE)})
    atlas.write("m.yaml", MANIFEST)
    told = (
        "hypothesis h1 (0 slices against 1, permutation) CANNOT BE DECIDED: no slice is on the side `group`"
    )
    remedy = "(tier contested); tier is ground_truth in this stimulus"
    planned = atlas("plan", "m.yaml", "--set", "stimulus.limit=2").out
    assert f"{told} {remedy}; the card lists no quantities: whether 'characters' will be one" in planned
    outcome = atlas("run", "m.yaml", "--set", "stimulus.limit=2")
    assert outcome.code == 0, outcome.err

    assert f"{told} {remedy}" in outcome.err
    row = verdicts(atlas.view(atlas.runs()[0].name))[0]
    assert (row["verdict"], row["p"]) == ("inconclusive", None)
    assert "needs 2 values on each side, there are 0" in row["note"]


def forecast(pairs: int, *declared: dict[str, Any]) -> list[str | None]:
    """Return the obstacles of hypotheses on two tiers of so many slices each."""
    slices = [
        Slice(f"{tier}{n}", (StimulusItem(f"{tier}{n}", "x"),), {"tier": tier, "n": str(n)})
        for tier in ("a", "b")
        for n in range(pairs)
    ]
    sides = {"quantity": "s.q", "group": {"tier": "a"}, "against": {"tier": "b"}, "expect": "greater"}
    entries = [
        {**sides, "id": f"h{n}", "alpha": 0.05, "test": "permutation", **d} for n, d in enumerate(declared)
    ]
    found = forecasts({"declare": entries, "steps": []}, Catalog(()), slices)
    return [None if one.obstacle is None else f"{one.obstacle}; {one.fix}" for one in found]


def test_a_level_that_no_outcome_reaches_after_holm_is_told_with_a_way_out() -> None:
    """Smallest p-values: 1/20 of 3 against 3, 1/8 of 3 pairs, 1/16 of 4, 1/32 of 5."""
    assert forecast(3, {}) == [None]
    (told,) = forecast(3, {"expect": "different"})
    remedy = "take 4 slices a side, raise alpha, or declare fewer hypotheses"
    assert told == f"no outcome of its test reaches its level; {remedy}"
    assert forecast(5, {"pair_by": "n"}) == [None]
    (told,) = forecast(4, {"pair_by": "n"})
    assert "take 5 pairs" in (told or "")
    # 1/20 is above 0.05 / 2 for the first of two, and the second cannot be reached before the first.
    assert None not in forecast(3, {}, {})
    # 1/70 is below 0.05 / 2, which leaves 0.05 to the other: of these both can be decided.
    assert forecast(4, {}, {"alpha": 0.015}) == [None, None]
    assert forecast(12, {"pair_by": "n", "test": "bootstrap"}) == [
        "a bootstrap test needs 20 pairs; write `test: permutation`, or add slices"
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "expect: less, pair_by: pair",
            "expect: less, test: bootstrap",
            "a bootstrap test is made of pairs alone",
        ),
        ("quantity: gauge.characters", "quantity: gage.characters", "there is no step `gage`"),
    ],
)
def test_a_hypothesis_that_no_run_could_judge_is_a_mistake_of_the_manifest(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(GAUGE)})
    atlas.write("items.csv", "id,text,pair,side\n1,x,1,a\n")
    atlas.write("m.yaml", PAIRED.replace(old, new))
    outcome = atlas("plan", "m.yaml")

    assert (outcome.code, expected in outcome.err) == (2, True)


def test_groups_that_share_a_slice_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(GAUGE)})
    atlas.write("m.yaml", MANIFEST.replace("against: {tier: ground_truth}", "against: {domain: legal}"))
    outcome = atlas("run", "m.yaml")

    assert (outcome.code, atlas.runs()) == (2, [])
    assert "is on both sides" in outcome.err


PAIRS = [f"B-{number:02d}" for number in range(6)]
LATER = {
    "id": "h1",
    "quantity": "curvature.lambda_max",
    "group": {"series": "step2"},
    "against": {"series": "step1"},
    "expect": "greater",
    "pair_by": "slice",
    "alpha": 0.05,
    "test": "permutation",
}


@contextmanager
def series_run(run_writer: type, root: Path, **changes: Any) -> Iterator[Journal]:
    """Write a run of two checkpoints on six slices, measured; the second's values are larger by 1 to 6."""
    items = tuple(StimulusItem(f"{pair}a", "x", {"pair": pair, "tier": "contested"}) for pair in PAIRS)
    values = [
        Quantity(
            "lambda_max", 3.0 * n + later * (n + 1), 0.01, "residual_bound", slice=f"step{1 + later}: {pair}"
        )
        for later in (0, 1)
        for n, pair in enumerate(PAIRS)
    ]
    targets = {"lm": {"use": "hf", "path": "m", "series": {"revision": ["step1", "step2"]}}}
    data = run_writer.manifest(**{"governance": "none", "declare": [], "targets": targets} | changes)
    with Journal.create(root) as journal:
        writer = run_writer(root, journal, data)
        writer.prepare(None, items)
        for member in ("step1", "step2"):
            journal.append("target-fetched", {"target": "lm", "member": member, "params": "{}"})
        writer.curvature(tuple(values))
        yield journal


def test_members_of_a_series_are_compared_slice_by_slice(run_writer: type, tmp_path: Path) -> None:
    with series_run(run_writer, tmp_path / "PYH-SML-20261122-001") as journal:
        explore(journal, Store.open(journal), None, LATER)
        (row,) = verdicts(journal.view())

    # Differences 1 to 6: of 64 changes of sign the data's own is the most extreme.
    assert (row["n_group"], row["effect"], row["p"], row["verdict"]) == (6, 3.5, 1 / 64, "supported")
    assert row["design"].startswith("permutation of the differences of 6 pairs by slice")


def test_the_same_slices_of_two_members_are_no_independent_sides(run_writer: type, tmp_path: Path) -> None:
    unpaired = {key: value for key, value in LATER.items() if key != "pair_by"}
    with (
        series_run(run_writer, tmp_path / "PYH-SML-20261122-001") as journal,
        pytest.raises(BadInput, match="is on both sides, of two members of the series"),
    ):
        explore(journal, Store.open(journal), None, unpaired)


def test_models_are_not_compared_in_a_governed_run_whose_read_1_was_skipped(
    run_writer: type, tmp_path: Path
) -> None:
    """Skipping opens interpretation: what was declared stays inconclusive, and nothing is added."""
    governance = {"use": "cisp", "version": "1.1", "operator": "A. Technician"}
    root = tmp_path / "PYH-SML-20261122-001"
    with series_run(run_writer, root, governance=governance, declare=[LATER]) as journal:
        for gate, stage in (("read-0", "measure"), ("read-1", "interpret")):
            journal.append("gate-opened", {"gate": gate, "stage": stage, "title": gate})
            journal.append("gate-skipped", {"gate": gate, "author": "A. Technician", "reason": "no time"})
        judge(journal, Store.open(journal), None)
        (row,) = verdicts(journal.view())
        with pytest.raises(
            BadInput, match="models cannot be compared: read-0 and read-1 of it is not sealed"
        ):
            explore(journal, Store.open(journal), None, {**LATER, "id": "x1"})

    assert (row["verdict"], row["effect"], row["p"]) == ("inconclusive", None, None)
    assert "models were not compared: read-0 and read-1 of it is not sealed" in row["note"]


SERIES = """\
atlas: 1
name: weights
lineage: SML
governance: none
declare:
  - {id: h1, quantity: weigh.grams, group: {series: heavy/a}, against: {series: light/a}, expect: greater}
stimulus: {use: text, texts: [one, two], each: item}
targets:
  brass: {use: weight, series: {path: [heavy/a, light/a]}}
steps:
  - {id: weigh, use: scales, target: brass}
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("group: {series: heavy/a}", "group: {number: 1}", "the side names no member of `brass`"),
        (
            "series: light/a}, e",
            "series: light/b}, e",
            'the series `brass` has no member "light/b"; did you mean light/a',
        ),
        ("expect: greater", "expect: less", "pair them: `pair_by: slice`"),
        ("expect: greater", "expect: less, pair_by: slice", ""),
    ],
)
def test_sides_of_a_series_name_its_members_and_are_paired(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(GAUGE)})
    for name in ("heavy/a", "light/a"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "grams.txt").write_text("1")
    assert old in SERIES
    atlas.write("m.yaml", SERIES.replace(old, new))
    outcome = atlas("plan", "m.yaml")

    if expected:
        assert (outcome.code, expected in outcome.err) == (2, True), outcome.err
    else:
        assert "hypothesis h1 (2 pairs, permutation, p from 0.25" in outcome.out, outcome.err
