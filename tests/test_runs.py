"""The master registry and `atlas runs`: made from the run folders, and never the truth."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from atlas.bundle.comparison import side_by_side
from atlas.bundle.differences import environment, inputs
from atlas.errors import BadInput
from atlas.quantities import Quantity
from atlas.record import RunView, open_record
from atlas.run.journal import Journal
from atlas.run.ledger import CSV, INDEX, folders, refresh, written_rows
from atlas.run.store import Deposit, Store
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
    """Each route by which numbers of a run could be seen beside others."""
    shut = "PYH-SML-20261122-009"
    measured = write_run(two.folder / "runs" / shut, until="measured")
    with Journal.open(measured.root) as journal:
        journal.append("gate-opened", {"gate": "read-1", "stage": "interpret", "title": "Read #1"})
    add = ("--id", "x1", "--quantity", "curvature.trace", "--group", "pair=B-01", "--against", "pair=B-02")

    for route in (
        ("runs", "compare", SECOND, shut),
        ("compare", shut, SECOND),
        ("compare", SECOND, shut),
        ("reproduce", shut),
    ):
        closed = two(*route)
        assert (closed.code, closed.out) == (2, ""), route
        assert "read-1 of it is not sealed" in closed.err
    closed = two("hypothesis", "add", shut, *add, "--expect", "greater")
    assert (closed.code, "hypotheses are closed" in closed.err) == (2, True)
    for engine in (side_by_side, lambda views: inputs(*views, {}), lambda views: environment(*views, {})):
        with pytest.raises(BadInput, match="read-1 of it is not sealed"):
            engine([open_record(two.folder / "runs" / SECOND), open_record(measured.root)])
    for route in (("runs", "compare", GOVERNED, GOVERNED), ("compare", GOVERNED, GOVERNED)):
        assert two(*route).code == 0, route


def test_table_and_index_hold_no_number_that_was_measured(
    desk: Atlas, write_run: Callable[..., RunView]
) -> None:
    runs = desk.folder / "runs"
    view = write_run(runs / GOVERNED, until="measured")
    refresh(runs)

    with closing(sqlite3.connect(runs / INDEX)) as index:
        held = "\n".join(index.iterdump())
    values = [repr(quantity.value) for _, quantity in view.quantities() if quantity.value is not None]
    assert [value for value in values if value in held + (runs / CSV).read_text("utf-8")] == []


def renamed(two: Atlas, run: str, **changes: str) -> str:
    """Copy a run under another id, its step `curvature` under another name, and return the id."""
    source, root = two.folder / "runs" / SECOND, two.folder / "runs" / run
    view = open_record(source)
    with Journal.create(root) as journal:
        store = Store.open(journal)
        for event in view.events:
            data = json.loads(json.dumps(event.data).replace("curvature", "sharpness").replace(SECOND, run))
            sealed = data.pop("sealed", None)
            if sealed is None:
                journal.append(event.type, data)
                continue
            deposits = []
            for old, item in zip(event.data["sealed"], sealed, strict=True):
                content = view.read(old["path"])
                if "manifest" in item["path"]:
                    content = content.replace(b"id: curvature", b"id: sharpness")
                    for key, value in changes.items():
                        content = content.replace(key.encode(), value.encode())
                deposits.append(Deposit(item["path"], content, item["role"]))
            store.seal_together(event.type, data, deposits)
    return run


def test_steps_of_other_names_are_matched_by_their_instrument(two: Atlas) -> None:
    other = renamed(two, "PYH-AAA-20261122-003")
    found = json.loads(two("runs", "compare", RUN, other, "--json").out)

    assert [(line["step"], line["name"], line["agreement"]) for line in found] == [
        ("curvature", "lambda_max of a", {other: "differs"}),
        ("curvature", "trace of a", {other: "statistically equal"}),
    ]


def test_steps_of_other_instruments_are_matched_where_that_is_declared(two: Atlas) -> None:
    other = renamed(two, "PYH-AAA-20261122-003", **{"use: pyhessian": "use: elsewhere"})

    refused = two("runs", "compare", RUN, other)
    assert (refused.code, "--match STEP=STEP" in refused.err) == (2, True)
    matched = two("runs", "compare", RUN, other, "--match", "curvature=sharpness", "--json")
    assert len(json.loads(matched.out)) == 2
    wrong = two("runs", "compare", RUN, other, "--match", "curvature=curvature")
    assert (wrong.code, f"{other} finished no step 'curvature'" in wrong.err) == (2, True)


def test_two_runs_are_told_apart_by_inputs_environment_and_numbers(two: Atlas) -> None:
    other = renamed(two, "PYH-AAA-20261122-003", **{"seed: 7": "seed: 8"})
    found = json.loads(two("compare", RUN, other, "--json").out)

    assert [(d["what"], d["first"], d["second"]) for d in found["inputs"]] == [("seed", "7", "8")]
    assert found["environment"] == []
    assert [line["name"] for line in found["numbers"]] == ["lambda_max of a", "trace of a"]
    shown = two("compare", RUN, other).out
    for text in (
        "inputs: 1 differ\n  seed: 7 | 8\n",
        "environment: the same",
        "1 differs, 1 statistically equal",
    ):
        assert text in shown


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


_APPENDING = """\
import sys
from pathlib import Path
from atlas.run.preparation import record_by_hand
from atlas.run.workspace import LocalWorkspace

runs = Path(sys.argv[1])
for number in range(10):
    run = record_by_hand(runs, "BSA", "AAA", tables={}, files={}, facts={"number": str(number)})
    LocalWorkspace(runs).event(run, "test.noted", {"number": number})
"""


def test_two_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    command = [sys.executable, "-c", _APPENDING, str(runs)]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [writer.communicate(timeout=60)[1] for writer in writers]
    assert errors == ["", ""]

    written = written_rows(runs) or []
    made = sorted(root.name for root in folders(runs))
    assert len(made) == 20
    assert [row["run_id"] for row in written] == [line[0] for line in _index(runs)] == made
    assert {row["head"] for row in written} == {str(open_record(root).head) for root in folders(runs)}
    assert {row["head"].partition(":")[0] for row in written} == {"4"}
