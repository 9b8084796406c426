"""Sealed files, and what is left of a run that was killed, cut off, refused or raced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from atlas.errors import BadInput, IntegrityBroken
from atlas.record import open_record
from atlas.run.journal import Journal
from atlas.run.paths import check_path
from atlas.run.store import Deposit, Store

CRASH = Path(__file__).parent / "crash"
posix = pytest.mark.skipif(os.name == "nt", reason="the campaign forks")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Journal.create(tmp_path / "run") as journal:
        journal.append("created", {"run_id": "run", "governed": False})
        yield Store.open(journal)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where the machine has such a place: campaigns sync thousands of times."""
    place = Path("/dev/shm")
    with TemporaryDirectory(dir=place if place.is_dir() else None) as folder:
        yield Path(folder)


def campaign(script: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a campaign in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(CRASH / script), str(folder), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def test_a_sealed_file_reads_back_and_is_never_replaced(store: Store) -> None:
    artifact = store.seal_new("reads/read-0.md", b"I expect.", role="read")
    with pytest.raises(BadInput, match=r"reads/read-0\.md is sealed already and is never replaced"):
        store.seal_new("reads/read-0.md", b"I expected.", role="read")
    with pytest.raises(BadInput, match="never replaced"):
        store.seal_new("Reads/READ-0.md", b"I expected.", role="read")
    assert open_record(store.root).read("reads/read-0.md") == b"I expect."
    assert open_record(store.root).artifacts == {"reads/read-0.md": artifact}


def test_sealing_the_same_bytes_again_changes_nothing(store: Store) -> None:
    first = store.seal_new("manifest.yaml", b"atlas: 1", role="manifest")
    head = store.journal.head
    assert (store.seal_new("manifest.yaml", b"atlas: 1", role="manifest"), store.journal.head) == (
        first,
        head,
    )


def test_files_sealed_together_are_one_event(store: Store, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 3_000_000)
    deposits = [
        Deposit("raw/s/a.csv", b"n\r\n", "table"),
        Deposit("raw/s/b.bin", tmp_path / "big", "attachment"),
    ]
    event = store.seal_together("step-finished", {"step": "s"}, deposits)
    view = open_record(store.root)
    assert (event.seq, view.head.length) == (1, 2)
    assert {path: (a.size, a.step) for path, a in view.artifacts.items()} == {
        "raw/s/a.csv": (3, "s"),
        "raw/s/b.bin": (3_000_000, "s"),
    }
    assert view.read("raw/s/b.bin") == b"x" * 3_000_000


@pytest.mark.parametrize("second", ["raw/s/a.csv", "raw/s/A.csv", "../a.csv"])
def test_together_means_none_where_one_may_not_be_sealed(store: Store, second: str) -> None:
    deposits = [Deposit("raw/s/a.csv", b"1", "table"), Deposit(second, b"2", "table")]
    with pytest.raises(BadInput):
        store.seal_together("step-finished", {"step": "s"}, deposits)
    assert (store.journal.head.length, (store.root / "raw").exists()) == (1, False)


def test_a_file_that_changed_since_it_was_announced_is_not_sealed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"changed")
    with pytest.raises(IntegrityBroken, match="changed after it was announced"):
        store.seal_together(
            "step-finished", {}, [Deposit("raw/s/a.csv", tmp_path / "a.csv", "table", "0" * 64)]
        )
    assert store.journal.head.length == 1


def test_a_log_is_sealed_where_it_lies(store: Store) -> None:
    log = store.root / "logs" / "s.1.stdout.txt"
    log.parent.mkdir()
    log.write_bytes(b"output")
    store.seal_together("step-finished", {"step": "s"}, [Deposit("logs/s.1.stdout.txt", log, "log")])
    assert [event.type for event in store.journal.view().events] == ["created", "step-finished"]
    assert open_record(store.root).read("logs/s.1.stdout.txt") == b"output"


def test_a_file_without_a_line_is_set_aside_and_never_trusted(store: Store) -> None:
    orphan = store.root / "raw" / "s" / "a.csv"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"forged")
    (store.root / "records" / "BSA-1").mkdir(parents=True)
    Store.open(store.journal)
    assert [dict(event.data) for event in store.journal.view().of("set-aside")] == [
        {"path": "raw/s/a.csv", "moved_to": "orphans/1/raw/s/a.csv"},
        {"path": "records/BSA-1", "moved_to": "orphans/2/records/BSA-1"},
    ]
    store.seal_new("raw/s/a.csv", b"measured", role="table", step="s")
    assert open_record(store.root).read("raw/s/a.csv") == b"measured"


def test_what_a_kill_left_at_a_name_is_set_aside_when_the_name_is_needed(store: Store) -> None:
    (store.root / "packages").mkdir()
    (store.root / "packages" / "p.json").write_bytes(b"half")
    store.seal_new("packages/p.json", b"whole", role="package")
    assert (store.root / "orphans/1/packages/p.json").read_bytes() == b"half"
    assert open_record(store.root).read("packages/p.json") == b"whole"


def test_what_people_and_records_keep_in_the_folder_stays(store: Store) -> None:
    store.journal.append("record-linked", {"record": "BSA-1", "folder": "records/BSA-1"})
    kept = [
        store.root / path for path in ("records/BSA-1/raw/a.csv", "drafts/read-0.md", "workbook/run.xlsx")
    ]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"mine")
    Store.open(store.journal)
    assert [path.read_bytes() for path in kept] == [b"mine"] * 3


def test_a_lent_file_is_a_checked_copy(store: Store, tmp_path: Path) -> None:
    store.seal_new("reads/read-1.md", b"seen", role="read")
    lent = store.lend(["reads/read-1.md"], tmp_path)
    assert Path(lent["reads/read-1.md"]).read_bytes() == b"seen"
    (store.root / "reads" / "read-1.md").write_bytes(b"edited")
    with pytest.raises(IntegrityBroken, match=r"reads/read-1\.md"):
        store.lend(["reads/read-1.md"], tmp_path / "again")


def test_work_in_progress_ends_with_the_lock(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "run") as journal:
        journal.append("created", {"run_id": "run", "governed": False})
        (Store.open(journal).staging("s.1") / "out").mkdir()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".atlas-lock", "journal.jsonl"]


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "..", "../x", "a/../b", "a/./b", "a//b", "a/", "./a", "~/../x/.."),
        *("a\\b", "C:/x", "c:x", "a:stream", "\\\\server\\share", "a\0b", "a\nb", "a\x7f", "a\u202eb"),
        *("a\u200bb", "\ud800", "nul", "NUL.txt", "con", "a/AUX.csv", "com1", "LPT9.x", "COM¹", "conin$"),
        *("a.", "a ", "a./b", ".hidden", "a/.git/config", "a*", "a?", 'a"', "a<b", "a|b"),
        *("a" * 201, "cafe\u0301", "nul .txt", "\u00a0", "a\u2028b", ".atlas-lock", ".staging/x"),
    ],
)
def test_an_unsafe_path_is_refused_on_every_platform(path: str) -> None:
    with pytest.raises(BadInput, match="no safe path"):
        check_path(path)


@pytest.mark.parametrize("path", ["a", "raw/s-1/a.b_c.csv", "reads/Käse 1.md", "null", "console/com"])
def test_a_plain_path_is_accepted(path: str) -> None:
    assert check_path(path) == path


@posix
def test_a_symbolic_link_is_never_written_through(store: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (store.root / "raw").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="symbolic link"):
        store.seal_new("raw/a.csv", b"1", role="table")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@posix
def test_a_kill_at_any_call_loses_nothing_that_was_acknowledged(memory: Path) -> None:
    result = campaign("kill.py", memory, "0")
    assert result["bad"] == []
    assert result["scenarios"] > 200
    assert result["torn"] > 5


@posix
@pytest.mark.slow
def test_a_second_kill_in_the_recovery_loses_nothing_either(memory: Path) -> None:
    result = campaign("kill.py", memory, "6")
    assert result["bad"] == []
    assert result["scenarios"] >= 1500


@pytest.mark.skipif(sys.platform != "linux", reason="the model reads /proc")
def test_a_power_cut_at_any_call_loses_nothing_that_was_acknowledged(memory: Path) -> None:
    result = campaign("power.py", memory, "none")
    assert result["bad"] == 0
    assert result["states"] > 200


@pytest.mark.skipif(sys.platform != "linux", reason="the model reads /proc")
@pytest.mark.parametrize("mutant", ["no-folder-sync", "no-sync"])
def test_the_power_cut_finds_a_program_that_forgets_to_sync(memory: Path, mutant: str) -> None:
    assert campaign("power.py", memory, mutant)["bad"] > 5


@posix
@pytest.mark.parametrize(("kind", "refused"), [("errors", 100), ("limits", 50)])
def test_a_disk_that_refuses_costs_nothing_but_time(memory: Path, kind: str, refused: int) -> None:
    result = campaign("full.py", memory, kind)
    assert result["bad"] == []
    assert result["refused"] > refused


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk")
def test_a_full_disk_costs_nothing_but_time(memory: Path) -> None:
    result = campaign("full.py", memory, "disk")
    if result["cases"] == 0:
        pytest.skip("no right to mount a disk here")
    assert result["bad"] == []
    assert result["refused"] > 5


@posix
def test_eight_processes_on_one_run_are_one_at_a_time(memory: Path) -> None:
    result = campaign("race.py", memory, "25")
    assert result["bad"] == []
    assert result["done"] + result["refused"] == result["processes"] == 200
    assert result["refused"] > 0
