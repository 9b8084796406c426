"""Target series: one target several times over, each member opened when it is its turn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from atlas.record import open_record
from atlas.testing import Atlas

GAUGE = Path(__file__).parent / "gauge"
MANIFEST = """\
atlas: 1
name: weights
lineage: SML
governance: none
stimulus: {use: text, texts: [one]}
targets:
  brass:
    use: weight
    series: {path: [heavy/a, light/a, light/b]}
  single: {use: weight, path: light/b}
steps:
  - {id: weigh, use: scales, target: brass, params: {against: single}}
"""


@pytest.fixture
def atlas(tmp_path: Path) -> Atlas:
    for name, grams in (("heavy/a", 100), ("light/a", 2), ("light/b", 3)):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "grams.txt").write_text(str(grams))
    return Atlas(tmp_path, {"PYTHONPATH": str(GAUGE)})


def mistake(atlas: Atlas, old: str, new: str) -> str:
    assert old in MANIFEST
    atlas.write("m.yaml", MANIFEST.replace(old, new))
    outcome = atlas("plan", "m.yaml")
    assert outcome.code == 2, outcome.out
    return outcome.err


def test_members_are_measured_in_order_each_with_its_facts_and_one_open_at_a_time(atlas: Atlas) -> None:
    atlas.write("m.yaml", MANIFEST)
    ended = atlas("run", "m.yaml")
    assert ended.code == 0, ended.err

    (run,) = atlas.runs()
    view = open_record(run)
    facts = json.loads(view.read("raw/weigh/facts.json"))

    assert [(q.slice, q.value) for _, q in view.quantities()] == [
        ("heavy/a", 97.0),
        ("light/a", -1.0),
        ("light/b", 0.0),
    ]
    assert [facts[f"target.{label}.grams"] for label in ("heavy/a", "light/a")] == ["100.0", "2.0"]
    # The target held against lies open throughout; of the members none but the one whose turn it is.
    assert [facts[f"target.{label}.others_open"] for label in ("heavy/a", "light/b")] == ["1", "1"]
    assert facts["targets.single.grams"] == "3.0"
    assert [(e.data["target"], e.data.get("member")) for e in view.of("target-fetched")] == [
        ("brass", "heavy/a"),
        ("brass", "light/a"),
        ("brass", "light/b"),
        ("single", None),
    ]


def test_a_plain_target_is_a_series_of_one_without_a_label(atlas: Atlas) -> None:
    atlas.write("m.yaml", MANIFEST.replace("target: brass, params: {against: single}", "target: single"))
    assert atlas("run", "m.yaml").code == 0

    (run,) = atlas.runs()
    view = open_record(run)

    assert [(q.slice, q.value) for _, q in view.quantities()] == [("all", 3.0)]
    assert json.loads(view.read("raw/weigh/facts.json"))["target.grams"] == "3.0"


def test_a_target_gets_the_loss_terms_that_its_parameters_name(atlas: Atlas) -> None:
    one = MANIFEST.replace("target: brass, params: {against: single}", "target: single")
    atlas.write("m.yaml", one.replace("path: light/b}", "path: light/b, loss: {tare: 0.5}}"))
    assert atlas("run", "m.yaml").code == 0

    (run,) = atlas.runs()

    assert [q.value for _, q in open_record(run).quantities()] == [2.5]


def test_the_plan_names_the_members_and_the_resolved_manifest_repeats_them(atlas: Atlas) -> None:
    atlas.write("m.yaml", MANIFEST)
    planned = atlas("plan", "m.yaml").out
    assert "target brass (3: heavy/a, light/a, light/b), target single" in planned
    assert atlas("run", "m.yaml").code == 0

    (run,) = atlas.runs()
    shutil.copy(run / "manifest.resolved.yaml", atlas.folder / "again.yaml")

    assert atlas("plan", "again.yaml").out == planned


def test_a_changed_or_missing_member_is_named_when_a_run_is_repeated(atlas: Atlas) -> None:
    atlas.write("m.yaml", MANIFEST)
    assert atlas("run", "m.yaml").code == 0
    (run,) = atlas.runs()
    assert atlas("reproduce", str(run)).code == 0

    (atlas.folder / "light/a/grams.txt").write_text("5")
    shutil.rmtree(atlas.folder / "heavy")
    ended = atlas("reproduce", str(run))

    assert ended.code == 3
    assert "the model of target 'brass', heavy/a, is not here" in ended.err
    assert "the file grams.txt of target 'brass', light/a, is not the one that was measured" in ended.err


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("light/b]", "light/c]", "m.yaml:9:39: there is no file or folder"),
        ("light/b]", "./light/a]", 'm.yaml:9:39: the series holds "./light/a" twice, first at m.yaml:9:30'),
        ("light/b]", "7]", "m.yaml:9:39: expected a text, got 7"),
        ("path: [heavy/a, light/a, light/b]", "pith: [a, b]", "m.yaml:9:14: unknown key `pith`"),
        (
            "series: {path: [heavy/a, light/a, light/b]}",
            "path: light/a\n    series: {times: [0, 2]}",
            ":10:22",
        ),
        ("[heavy/a, light/a, light/b]", "[]", "m.yaml:9:20: the list is too short"),
        (
            "series: {path",
            "path: light/a\n    series: {path",
            "m.yaml:9:5: `path` is given here and in `series`",
        ),
        ("against: single", "against: double", "m.yaml:12:63: there is no target `double`"),
        ("against: single", "against: brass", "m.yaml:12:63: the target `brass` is a series"),
    ],
)
def test_every_member_is_checked_like_a_plain_target(atlas: Atlas, old: str, new: str, expected: str) -> None:
    assert expected in mistake(atlas, old, new)


def test_an_instrument_that_measures_one_model_takes_no_series(atlas: Atlas, tmp_path: Path) -> None:
    shutil.copytree(GAUGE, tmp_path / "plain")
    card = tmp_path / "plain" / "atlas_gauge" / "atlas-plugin.yaml"
    card.write_text(card.read_text().replace("{target: true, series: true}", "{target: true}"))
    plain = Atlas(tmp_path, {"PYTHONPATH": str(tmp_path / "plain")})

    assert "m.yaml:12:38: 'scales' measures one model and the target `brass` is a series" in mistake(
        plain, "single}}", "single}} "
    )
