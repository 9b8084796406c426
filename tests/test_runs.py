"""The master registry and `atlas runs`: made from the run folders, and never the truth."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from atlas.quantities import Quantity
from atlas.record import RunView
from atlas.run.journal import Journal
from atlas.run.ledger import CSV, INDEX, refresh, written_rows
from atlas.run.workspace import LocalWorkspace
from atlas.testing import Atlas

GOVERNED = "PYH-SML-20261122-001"
RUN = "PYH-AAA-20261122-001"
SECOND = "PYH-AAA-20261122-002"
RECORD = "BSA-SML-20261122-001"


@pytest.fixture
def desk(tmp_path: Path) -> Atlas:
    return Atlas(tmp_path, {})


@pytest.fixture
def two(desk: Atlas, write_plain_run: Callable[..., RunView]) -> Atlas:
    """Two ungoverned runs of one quantity, 3.0 and 3.1 with a bound and a standard error of 0.2."""
    for name, value in ((RUN, 3.0), (SECOND, 3.1)):
        measured = (
            Quantity("lambda_max", value, 0.001, "residual_bound", slice="a"),
            Quantity("trace", value, 0.2, "standard_error", slice="a"),
        )
        write_plain_run(desk.folder / "runs" / name, quantities=measured)
    return desk


def _index(runs: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(runs / INDEX)) as index:
        return index.execute("SELECT run_id, state, tier, head FROM runs ORDER BY run_id").fetchall()


def test_table_and_index_say_what_the_journals_say(desk: Atlas, governed: RunView) -> None:
    runs = desk.folder / "runs"
    (row,) = refresh(runs)

    assert _index(runs) == [(GOVERNED, "done", "A", str(governed.head))]
    assert (row["reads"], row["records"], row["operator"]) == ("0 1 2", RECORD, "A. Technician")
    assert written_rows(runs) == [row]


def test_what_was_lost_or_damaged_is_made_again_from_the_run_folders(two: Atlas) -> None:
    runs = two.folder / "runs"
    refresh(runs)
    before = (runs / CSV).read_bytes(), _index(runs)

    (runs / CSV).unlink()
    (runs / INDEX).write_bytes(b"not a database")
    refresh(runs)

    assert ((runs / CSV).read_bytes(), _index(runs)) == before


def test_a_run_that_changed_is_read_again_and_others_are_not(two: Atlas) -> None:
    runs = two.folder / "runs"
    refresh(runs)
    with closing(sqlite3.connect(runs / INDEX)) as index:
        index.execute("UPDATE runs SET name = 'as indexed'")
        index.commit()
    journal = runs / RUN / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b"torn")  # ignored by readers, and it changes the size

    assert [row["name"] for row in refresh(runs)] == ["contested-curvature", "as indexed"]
    assert [row["name"] for row in refresh(runs, anew=True)] == ["contested-curvature"] * 2


def test_every_change_of_a_run_reaches_the_registry(desk: Atlas, write_run: Callable[..., RunView]) -> None:
    root = write_run(desk.folder / "runs" / RUN, until="measured").root
    LocalWorkspace(desk.folder / "runs").abandon(root, author="A. Technician", reason="a trial")

    (row,) = written_rows(desk.folder / "runs") or []
    assert row["state"] == "abandoned"


def test_the_list_can_be_narrowed(two: Atlas, write_run: Callable[..., RunView]) -> None:
    write_run(two.folder / "runs" / "PYH-SML-20261122-003", until="measured")

    done = json.loads(two("runs", "list", "--state", "done", "--json").out)
    assert [row["run_id"] for row in done] == [RUN, SECOND]
    assert two("runs", "list", "--tier", "A").out.startswith("no such runs")
    assert "no tier" in two("runs", "list", "--instrument", "pyhessian").out


def test_values_stand_side_by_side_with_their_errors_and_grade(two: Atlas) -> None:
    outcome = two("runs", "compare", RUN, SECOND, "--json")
    assert outcome.code == 0, outcome.err

    found = {line["name"]: line["agreement"][SECOND] for line in json.loads(outcome.out)}
    # 0.1 apart: beyond two bounds of 0.001, within three of the combined standard error 0.28.
    assert found == {"lambda_max of a": "differs", "trace of a": "statistically equal"}
    shown = two("runs", "compare", RUN, SECOND, "--quantity", "trace").out
    assert "3.10 ± 0.20 (statistically equal)" in shown
    assert "lambda_max" not in shown


def test_a_governed_run_is_compared_only_after_reads_0_and_1(
    two: Atlas, governed: RunView, write_run: Callable[..., RunView]
) -> None:
    measured = write_run(two.folder / "runs" / "PYH-SML-20261122-009", until="measured")
    with Journal.open(measured.root) as journal:
        journal.append("gate-opened", {"gate": "read-1", "stage": "interpret", "title": "Read #1"})

    closed = two("runs", "compare", SECOND, "PYH-SML-20261122-009")
    assert (closed.code, "read-1 of it is not sealed" in closed.err) == (2, True)
    opened = two("runs", "compare", GOVERNED, GOVERNED)
    assert opened.code == 0, opened.err


def test_the_check_names_each_broken_link_field_and_tier(two: Atlas, governed: RunView) -> None:
    runs = two.folder / "runs"
    copy = runs / "PYH-SML-20261122-009"
    governed.root.rename(copy)
    (runs / SECOND / "journal.jsonl").write_bytes(b"{}\n")
    refresh(runs)
    shutil.rmtree(runs / RUN, ignore_errors=True)

    outcome = two("runs", "check")

    assert outcome.code == 4
    for text in (
        f"FAULT  {RUN}: it is listed in registry.csv, and its folder is gone",
        f"FAULT  {SECOND}: its journal cannot be read: not a journal line",
        f"FAULT  {copy.name}: its journal is that of {GOVERNED}: the folder was renamed or copied",
        f"FAULT  {copy.name}: it hangs on {RECORD}, which is not in this folder; the run holds a copy",
    ):
        assert text in outcome.out


def test_a_sound_folder_passes_the_check(two: Atlas) -> None:
    two("runs", "rebuild")
    outcome = two("runs", "check")

    assert (outcome.code, outcome.out) == (0, "nothing is wrong\n")
