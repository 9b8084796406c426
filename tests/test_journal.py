"""The journal as written and read again: what it refuses, what it repairs, what it reports."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from atlas.errors import AtlasError, BadInput, IntegrityBroken
from atlas.record import JOURNAL, Event, Head, open_record, parse_journal
from atlas.run import journal as module
from atlas.run.journal import DiskFull, Journal


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of six events."""
    root = tmp_path / "runs" / "PYH-SML-20261122-001"
    with Journal.create(root) as journal:
        journal.append("created", {"run_id": root.name, "atlas": "0", "governed": False})
        for number in range(5):
            journal.append("cisp.note", {"number": number, "text": "häm \u202e", "list": [True, None]})
    return root


def heads(root: Path) -> Head:
    return open_record(root).head


def test_what_is_appended_is_what_a_reader_finds(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "run") as journal:
        written = [
            journal.append("created", {"run_id": "run", "governed": False}),
            journal.append("cisp.note", {"b": (1, -2), "a": {"text": "häm \ud800"}, "none": None}),
        ]
        head, events = journal.head, journal.view().events
    assert list(events) == written
    assert open_record(tmp_path / "run").events == tuple(written)
    assert heads(tmp_path / "run") == head


def test_the_view_follows_each_event(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "run") as journal:
        journal.append("created", {"run_id": "run", "governed": False})
        before = journal.view()
        journal.append("abandoned", {"author": "A", "reason": "none"})
        assert (before.state, journal.view().state) == ("running", "abandoned")


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"a": {"b": [1, 1.5]}}, "x.a.b[1]"),
        ({"a": float("nan")}, "x.a"),
        ({"a": b"bytes"}, "x.a"),
        ({"a": {1: 2}}, "x.a"),
        ({"a": 2**63}, "x.a"),
        ({"a": Path("p")}, "x.a"),
    ],
)
def test_data_without_a_lasting_spelling_is_refused_and_nothing_is_written(
    run: Path, data: dict[str, Any], place: str
) -> None:
    before = (run / JOURNAL).read_bytes()
    with Journal.open(run) as journal, pytest.raises(BadInput) as caught:
        journal.append("x", data)
    assert (caught.value.where, (run / JOURNAL).read_bytes()) == (place, before)


def test_time_never_goes_back_and_the_clock_that_did_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2001, 1, 1, tzinfo=timezone.utc)

    last = open_record(run).events[-1].time
    monkeypatch.setattr(module, "datetime", Clock)
    with Journal.open(run) as journal:
        event = journal.append("x", {})
    behind = datetime.fromisoformat(last) - datetime(2001, 1, 1, tzinfo=timezone.utc)
    assert (event.time, event.data) == (last, {"clock_back_ms": round(behind.total_seconds() * 1000)})


@pytest.mark.parametrize("torn", [b"{", b'{"data":{}', b"\0" * 40])
def test_a_torn_last_line_is_cut_and_the_cut_is_journaled(run: Path, torn: bytes) -> None:
    before = heads(run)
    with (run / JOURNAL).open("ab") as stream:
        stream.write(torn)
    assert heads(run) == before
    with Journal.open(run) as journal:
        recovered = journal.view().events[-1]
    assert (recovered.type, recovered.data["bytes"]) == ("recovered", len(torn))
    assert heads(run).length == before.length + 1


def test_every_changed_byte_is_seen_at_once_or_against_a_kept_head(run: Path) -> None:
    data, kept = (run / JOURNAL).read_bytes(), heads(run)
    unseen, by_head = [], 0
    for position in range(len(data)):
        for change in (1, 0x20, 0x80):
            changed = bytearray(data)
            changed[position] ^= change
            try:
                _, head, torn = parse_journal(bytes(changed), where=JOURNAL)
            except IntegrityBroken:
                continue
            by_head += 1
            if head == kept and not torn:
                unseen.append((position, change))
    assert unseen == []
    # Only the last line can change unseen from within: nothing after it holds its hash.
    assert 0 < by_head < 3 * len(data.splitlines()[-1]) + 3


def test_every_line_deleted_doubled_or_swapped_breaks_the_chain(run: Path) -> None:
    lines = (run / JOURNAL).read_bytes().splitlines(keepends=True)
    changed = [lines[:n] + lines[n + 1 :] for n in range(len(lines) - 1)]
    changed += [lines[: n + 1] + lines[n:] for n in range(len(lines))]
    changed += [[*lines[:n], lines[n + 1], lines[n], *lines[n + 2 :]] for n in range(len(lines) - 1)]
    for variant in changed:
        with pytest.raises(IntegrityBroken):
            parse_journal(b"".join(variant), where=JOURNAL)


def test_a_dropped_last_line_shows_only_against_a_kept_head(run: Path) -> None:
    kept = heads(run)
    lines = (run / JOURNAL).read_bytes().splitlines(keepends=True)
    (run / JOURNAL).write_bytes(b"".join(lines[:-1]))
    assert heads(run).length == kept.length - 1


def test_a_line_with_a_float_is_no_journal_line(run: Path) -> None:
    entry = {"data": {"a": 1.5}, "prev": "0" * 64, "seq": 0, "time": "t", "type": "created"}
    line = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    with pytest.raises(IntegrityBroken, match=f"{JOURNAL}:1"):
        parse_journal(line, where=JOURNAL)


def test_a_broken_journal_is_reported_by_line_and_left_as_it_is(run: Path) -> None:
    data = (run / JOURNAL).read_bytes().replace(b'"number":2', b'"number":7') + b"torn"
    (run / JOURNAL).write_bytes(data)
    with pytest.raises(IntegrityBroken, match=rf"{JOURNAL}:5: "), Journal.open(run):
        pass
    assert (run / JOURNAL).read_bytes() == data


def test_a_second_process_is_told_who_works_here(run: Path) -> None:
    script = (
        "import sys, pathlib; from atlas.run.journal import Journal\n"
        "with Journal.open(pathlib.Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as other:
        assert other.stdout is not None and other.stdout.readline().strip() == b"in"
        busy = rf"another atlas process \(pid {other.pid}, since 20"
        with pytest.raises(BadInput, match=busy), Journal.open(run):
            pass
        other.communicate()
    with Journal.open(run) as journal:
        assert journal.append("x", {}).type == "x"


def test_a_run_is_created_once_and_opened_only_when_created(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is a run here already"), Journal.create(run):
        pass
    with pytest.raises(BadInput, match="no run here"), Journal.open(tmp_path):
        pass
    with Journal.create(tmp_path / "cut off"):
        pass
    with pytest.raises(BadInput, match="never created"), Journal.open(tmp_path / "cut off"):
        pass
    with Journal.create(tmp_path / "cut off") as journal:
        assert journal.head.length == 0


def test_a_line_for_which_there_is_no_room_is_cut_off_and_the_journal_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (run / JOURNAL).read_bytes()
    real = os.write
    with Journal.open(run) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda handle, data: real(handle, data[: len(data) // 2]))
            with pytest.raises(DiskFull, match=r"(?s)could not be written.*free some space"):
                journal.append("x", {})
        assert (run / JOURNAL).read_bytes() == before
        assert journal.append("x", {}).seq == 6
    assert heads(run).length == 7


def test_after_a_failed_fsync_nothing_more_is_appended_until_the_run_is_opened_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Journal.open(run) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(AtlasError, match="could not be written: Input/output error"):
                journal.append("x", {})
        with pytest.raises(AtlasError, match="takes no more events"):
            journal.append("y", {})
    with Journal.open(run) as journal:
        assert journal.append("z", {}) == Event(6, "z", journal.view().events[-1].time, {})
