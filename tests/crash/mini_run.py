"""A run in small: every way in which the journal and the store write, resumable from anywhere."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from atlas.errors import BadInput
from atlas.record import JOURNAL, open_record
from atlas.run.journal import Journal, unwritable
from atlas.run.store import Deposit, Store

STAGES = ("created", "prepared", "gate-answered", "step-finished", "sealed", "finished")
Ack = Callable[[str], None]


def resume(root: Path, ack: Ack) -> None:
    """Take the run to its end from wherever it stands; `ack` gets the head after each event."""
    try:
        with Journal.open(root) as journal:
            ack(str(journal.head))
            _go_on(journal, ack)
    except BadInput:
        with Journal.create(root) as journal:
            journal.append("created", {"run_id": root.name, "atlas": "0", "governed": True})
            ack(str(journal.head))
            _go_on(journal, ack)


def _go_on(journal: Journal, ack: Ack) -> None:
    store = Store.open(journal)
    ack(str(journal.head))
    seen = {event.type for event in journal.view().events}
    if "prepared" not in seen:
        files = [Deposit("manifest.yaml", b"atlas: 1\n", "m"), Deposit("stimulus/items.jsonl", b"{}\n", "s")]
        store.seal_together("prepared", {}, files)
        ack(str(journal.head))
    if "gate-answered" not in seen:
        read = Deposit("reads/read-0.md", b"I expect.\n", "read")
        store.seal_together("gate-answered", {"gate": "read-0"}, [read])
        ack(str(journal.head))
    if "step-finished" not in seen:
        journal.append("step-started", {"step": "s", "attempt": 1})
        ack(str(journal.head))
        log = journal.root / "logs" / "s.1.txt"
        _scribble(log, b"log\n")
        out = store.staging("s.1") / "quantities.csv"
        _scribble(out, b"n\r\n1\r\n")
        files = [Deposit("raw/s/quantities.csv", out, "table"), Deposit("logs/s.1.txt", log, "log")]
        store.seal_together("step-finished", {"step": "s", "attempt": 1}, files)
        ack(str(journal.head))
    workbook = journal.root / "workbook" / "run.xlsx"
    if "workbook/run.xlsx" not in journal.view().artifacts:
        _scribble(workbook, b"PK")
    store.seal_new("workbook/run.xlsx", workbook, role="workbook")
    ack(str(journal.head))
    if "finished" not in seen:
        journal.append("finished", {"tier": "C"})
        ack(str(journal.head))


def _scribble(path: Path, data: bytes) -> None:
    """Write a file as a step's process does: through the operating system, and without fsync."""
    try:
        path.parent.mkdir(exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            if os.write(handle, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)
    except OSError as error:
        raise unwritable(error, "a step's file", str(path)) from error


def faults(root: Path, acknowledged: set[str]) -> list[str]:
    """Say what is wrong with a run that was resumed to its end; nothing must be."""
    view = open_record(root)
    heads = {f"0:{'0' * 64}"}
    for number, line in enumerate((root / JOURNAL).read_bytes().splitlines(), start=1):
        heads.add(f"{number}:{hashlib.sha256(line).hexdigest()}")
    found = [f"lost: {head}" for head in sorted(acknowledged - heads)]
    types = [event.type for event in view.events]
    found += [f"{types.count(stage)} x {stage}" for stage in STAGES if types.count(stage) != 1]
    for path in view.artifacts:
        view.read(path)
    folders = ("raw", "reads", "stimulus", "records")
    files = {
        p.relative_to(root).as_posix() for name in folders for p in (root / name).rglob("*") if p.is_file()
    }
    return found + [f"unsealed: {path}" for path in sorted(files - set(view.artifacts))]
