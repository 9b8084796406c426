"""The writer of a run's journal: one process at a time, one line an event, on disk before it counts.

How an event is appended: its line is written with one call at the end of the file, then fsynced, then
acknowledged. A line that could not be written whole is cut off again. A last line without its newline
was never acknowledged: opening the journal cuts it and says so (`recovered`). Any other line that
does not fit is somebody's change; it is reported and never repaired.

Accepted: the lock is advisory and some network file systems ignore it, so a run folder belongs on a
local disk. Dropping whole lines at the end cannot be seen from inside; keep the head elsewhere.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from atlas.errors import AtlasError, BadInput
from atlas.record import GENESIS, JOURNAL, Event, Head, RunView, canonical_json, parse_journal

__all__ = [
    "LOCK",
    "OWNER",
    "STAGING",
    "DiskFull",
    "Journal",
    "is_worked_on",
    "make_folder",
    "sync_folder",
    "unwritable",
]

LOCK = ".atlas-lock"
OWNER = ".atlas-owner"
"""Who holds the lock, for the message to the other one; not part of the record."""

_PATIENCE = 0.2
"""Seconds to wait for a lock: whoever asks whether a run is worked on holds it for less."""

STAGING = ".staging"
"""Work in progress; nothing in it outlives the lock."""

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class DiskFull(AtlasError):
    """The disk or a quota is full; what was acknowledged before is safe."""


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the platform can (Windows cannot)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(error: OSError, what: str, where: str) -> AtlasError:
    """Return the error to raise where `what` could not be written."""
    if error.errno in _FULL:
        return DiskFull(
            f"{what} could not be written: the disk or your quota is full ({error.strerror})",
            where=where,
            fix="free some space there, then resume; nothing that was recorded before is lost",
        )
    return AtlasError(
        f"{what} could not be written: {error.strerror or error}",
        where=where,
        fix="check the disk and the folder's permissions, then resume; nothing recorded before is lost",
    )


def _check(value: object, place: str) -> None:
    """Refuse what has no exact, lasting spelling in a journal."""
    if value is None or isinstance(value, (bool, str)):
        return
    if isinstance(value, int):
        if abs(value) >= 2**63:
            raise BadInput("a journal's integers have 64 bits; write it as text", where=place)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise BadInput(f"the key {key!r} is not text", where=place)
            _check(item, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            _check(item, f"{place}[{number}]")
    else:
        raise BadInput(
            f"a {type(value).__name__} does not belong in a journal",
            where=place,
            fix="write numbers with a fraction as text, and objects as plain values",
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


class Journal:
    """An open journal; made by `create` and `open`, which hold the run's lock while it lives."""

    def __init__(self, root: Path, handle: int, events: tuple[Event, ...], head: Head, size: int) -> None:
        self.root = root
        self._handle = handle
        self._events = list(events)
        self._head = head
        self._size = size
        self._view: RunView | None = None
        self._poisoned: str | None = None

    @classmethod
    @contextmanager
    def create(cls, root: Path) -> Iterator[Journal]:
        """Start a run in a folder, which is made if missing; its first event is to be `created`.

        Raises:
            BadInput: There is a run already, or another process works here.
        """
        try:
            make_folder(root)
            sync_folder(root.parent)  # it may have been there, yet not for long
        except OSError as error:
            raise unwritable(error, "the run folder", str(root)) from error
        with _locked(root):
            path = root / JOURNAL
            if path.exists() and b"\n" in path.read_bytes():
                raise BadInput("there is a run here already", where=str(root), fix="atlas resume it")
            try:
                handle = os.open(path, _FLAGS | os.O_CREAT | os.O_TRUNC, 0o644)
                sync_folder(root)
            except OSError as error:
                raise unwritable(error, "the journal", str(path)) from error
            with _closing(handle):
                yield cls(root, handle, (), Head(0, GENESIS), 0)

    @classmethod
    @contextmanager
    def open(cls, root: Path) -> Iterator[Journal]:
        """Go on with a run.

        Raises:
            BadInput: There is no run, or another process works in it.
            IntegrityBroken: A line does not fit; nothing was changed.
        """
        path = root / JOURNAL
        if not path.is_file():
            raise BadInput("no run here: there is no journal.jsonl", where=str(root))
        with _locked(root):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise BadInput(f"the journal cannot be read: {error.strerror}", where=str(path)) from error
            events, head, torn = parse_journal(data, where=JOURNAL)
            if not events:
                raise BadInput(
                    "the run was never created: its journal is empty",
                    where=str(root),
                    fix="remove the folder and start the run again",
                )
            try:
                handle = os.open(path, _FLAGS)
            except OSError as error:
                raise unwritable(error, "the journal", str(path)) from error
            with _closing(handle):
                journal = cls(root, handle, events, head, len(data) - len(torn))
                if torn:
                    journal._cut()
                    digest = hashlib.sha256(torn).hexdigest()
                    journal.append("recovered", {"bytes": len(torn), "sha256": digest})
                yield journal

    @property
    def head(self) -> Head:
        """Length and hash of what was acknowledged."""
        return self._head

    def view(self) -> RunView:
        """Return the run as its journal tells it now; no file is read."""
        if self._view is None:
            self._view = RunView(self.root, tuple(self._events), self._head)
        return self._view

    def append(self, type: str, data: Mapping[str, Any]) -> Event:
        """Record an event; when this returns, it is on the disk.

        Args:
            type: As `atlas.record` lists them, or `<plugin>.<what>`.
            data: Text, integers, booleans, None, and lists and mappings of them.

        Raises:
            BadInput: `data` holds something else, such as a float. Nothing was written.
            DiskFull: There was no room. Nothing was written; the journal stays usable.
            AtlasError: The disk failed. Whether the line is there shows when the run is opened again,
                and until then this journal takes no more events.
        """
        if self._poisoned is not None:
            raise AtlasError(f"the journal takes no more events: {self._poisoned}", where=str(self.root))
        _check(data, type)
        content: dict[str, Any] = _plain(data)
        now = datetime.now(timezone.utc)
        time = now.isoformat(timespec="milliseconds")
        if self._events and time < self._events[-1].time:
            back = datetime.fromisoformat(self._events[-1].time) - now
            content["clock_back_ms"] = -(-back // timedelta(milliseconds=1))
            time = self._events[-1].time
        entry = {
            "seq": self._head.length,
            "prev": self._head.sha256,
            "type": type,
            "time": time,
            "data": content,
        }
        line = canonical_json(entry)
        self._write(line + b"\n", type)
        event = Event(self._head.length, type, time, content)
        self._events.append(event)
        self._head = Head(event.seq + 1, hashlib.sha256(line).hexdigest())
        self._view = None
        return event

    def _write(self, line: bytes, type: str) -> None:
        what, where = f"the event {type!r}", str(self.root / JOURNAL)
        try:
            written = os.write(self._handle, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._cut()
            raise unwritable(error, what, where) from error
        try:
            os.fsync(self._handle)
        except OSError as error:
            # After a failed fsync the kernel may call the lost pages clean, so nobody can tell what
            # the disk holds until the file is read again.
            self._poisoned = f"the disk failed: {error.strerror}"
            with suppress(OSError):
                os.ftruncate(self._handle, self._size)
            raise unwritable(error, what, where) from error
        self._size += len(line)

    def _cut(self) -> None:
        """Cut what stands behind the last acknowledged line."""
        try:
            os.ftruncate(self._handle, self._size)
            os.fsync(self._handle)
        except OSError as error:
            self._poisoned = f"a torn line could not be cut: {error.strerror}"
            raise unwritable(error, "the journal", str(self.root / JOURNAL)) from error


_FLAGS = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents so that they survive a power cut."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


@contextmanager
def _closing(handle: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the run's lock, or say who does."""
    lock = FileLock(root / LOCK)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        raise BadInput(
            f"another atlas process {_owner(root)}is working in this run",
            where=str(root),
            fix="wait until it has ended",
        ) from None
    except OSError as error:
        raise unwritable(error, "the run's lock", str(root / LOCK)) from error
    try:
        # A full disk must not keep a run from being read: the note is for the message only.
        with suppress(OSError):
            since = datetime.now(timezone.utc).isoformat(timespec="seconds")
            (root / OWNER).write_text(json.dumps({"pid": os.getpid(), "since": since}), encoding="ascii")
        yield
    finally:
        shutil.rmtree(root / STAGING, ignore_errors=True)  # what remains goes when the run is opened again
        with suppress(OSError):
            (root / OWNER).unlink()
        lock.release()


def is_worked_on(root: Path) -> bool:
    """Return whether an atlas process works in a run folder now; one that was killed does not."""
    if not (root / OWNER).is_file():
        return False
    try:
        with FileLock(root / LOCK).acquire(timeout=0):
            return False
    except (Timeout, OSError):
        return True


def _owner(root: Path) -> str:
    try:
        note = json.loads((root / OWNER).read_text(encoding="ascii"))
        return f"(pid {int(note['pid'])}, since {note['since']}) "
    except (OSError, ValueError, KeyError, TypeError):
        return ""
