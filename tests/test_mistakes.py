"""Mistakes at the command line: each ends in one error that says what, where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas.errors import BadInput
from atlas.run.identity import allocate
from atlas.testing import Atlas

MANIFEST = """\
atlas: 1
name: small
lineage: SML
governance: none
stimulus: {use: text, texts: [one, two]}
steps:
  - {id: gauge, use: gauge}
"""
GAUGE = Path(__file__).parent / "gauge"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    """A finished run, an edited one, and files that are not what their names say."""
    atlas = Atlas(tmp_path_factory.mktemp("desk"), {"PYTHONPATH": str(GAUGE), "EDITOR": "", "VISUAL": ""})
    atlas.write("m.yaml", MANIFEST)
    atlas.write("plain", "a file")
    atlas.write("text.zip", "no zip")
    (atlas.folder / "folder").mkdir()
    assert atlas("run", "m.yaml").code == 0
    assert atlas("run", "m.yaml").code == 0
    finished, edited = atlas.runs()
    (edited / "raw" / "gauge" / "quantities.csv").write_text("edited", encoding="utf-8")
    finished.rename(finished.with_name("GAU-SML-20260101-001"))
    edited.rename(edited.with_name("GAU-SML-20260101-002"))
    return atlas


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        ("status NOPE", 2, "no run 'NOPE' in runs, and no file or folder of that name"),
        ("plan missing.yaml", 2, "missing.yaml: the manifest cannot be read: No such file or directory"),
        ("run folder", 2, "folder: the manifest cannot be read"),
        ("resume folder", 2, "'folder' is no run"),
        ("verify text.zip", 2, "text.zip: not a zip file"),
        ("verify folder", 2, "folder: this is neither a run folder nor a bundle"),
        ("verify GAU-SML-20260101-001 --head garbage", 2, "'garbage' is no journal head"),
        ("show GAU-SML-20260101-002", 4, "raw/gauge/quantities.csv: the file differs from what was sealed"),
        ("--runs plain/inside run m.yaml", 2, "the runs folder cannot be written"),
        ("pack GAU-SML-20260101-001 --to plain/inside", 2, "plain/inside"),
        ("answer GAU-SML-20260101-001 ../out", 2, "its answers are final"),
        ("workbook new GAU-SML-20260101-001", 2, "is not governed by cisp"),
        ("bsa import plain --lineage SML", 2, "plain:1: unknown column"),
    ],
)
def test_a_mistake_ends_in_one_error_with_a_way_out(
    desk: Atlas, arguments: str, code: int, what: str
) -> None:
    outcome = desk(*arguments.split())

    assert outcome.code == code
    assert outcome.err.count("error: ") == 1
    assert what in outcome.err.replace("\\", "/")
    assert "to do: " in outcome.err
    assert "Traceback" not in outcome.err


def test_a_lineage_that_makes_no_run_id_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'BSA' and 'TOOLONG' make no run id"):
        allocate(tmp_path, "BSA", "TOOLONG")

    assert list(tmp_path.iterdir()) == []


def test_a_broken_folder_does_not_hide_the_other_runs(desk: Atlas) -> None:
    broken = desk.folder / "runs" / "GAU-SML-20260101-003"
    broken.mkdir()

    outcome = desk("status")
    broken.rmdir()

    assert [line.split()[1] for line in outcome.out.splitlines()] == ["done", "done", "broken"]


def test_a_name_that_no_shape_has_is_answered_with_the_nearest(atlas: Atlas) -> None:
    """`use: moon` tells no shape; the message lists what can be written there."""
    atlas.write(
        "m.yaml",
        "atlas: 1\nname: m\nlineage: EX\nseed: 1\ngovernance: none\nsteps:\n"
        "  - {id: train, use: topoencoder, params: {data: {use: moon}}}\n",
    )

    outcome = atlas("plan", "m.yaml")

    assert "`use: moon` is unknown; did you mean moons?" in outcome.err


def test_of_several_shapes_the_one_that_is_named_is_judged(atlas: Atlas) -> None:
    """`use: moons` says which parameters are meant, whatever else is wrong."""
    atlas.write(
        "m.yaml",
        "atlas: 1\nname: m\nlineage: EX\nseed: 1\ngovernance: none\nsteps:\n"
        "  - {id: train, use: topoencoder, params: {data: {use: moons, cuont: 200}}}\n",
    )

    outcome = atlas("plan", "m.yaml")

    assert outcome.code == 2
    assert "did you mean count?" in outcome.err
