"""The files of a run: written whole, named once, sealed by a line of the journal, never replaced.

How a file is sealed: written under `.staging`, fsynced, linked to its name (which fails where the name
is taken), its folder fsynced, then journaled with size and digest. A file that has a name but no line
is what a kill left behind: nobody vouches for it, so it is moved to `orphans/` and that is journaled.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import frozen

from atlas.errors import BadInput, IntegrityBroken
from atlas.record import Artifact, Event
from atlas.run import kept
from atlas.run.journal import STAGING, Journal, make_folder, sync_folder, unwritable
from atlas.run.paths import check_path, place

__all__ = ["ORPHANS", "Deposit", "Store", "chunks", "synced"]

ORPHANS = "orphans"
_SEALED_FOLDERS = ("answers", "environment", "evidence", "raw", "reads", "stimulus", "verdicts")
_SEALED_FILES = ("manifest.yaml", "manifest.resolved.yaml")
_CHUNK = 1 << 20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


@frozen
class Deposit:
    """A file on its way into the run folder.

    Attributes:
        path: Where it shall lie.
        content: Its bytes, or the file to copy them from.
        role: `manifest`, `stimulus`, `table`, `schema`, `facts`, `attachment`, `read`, `answer`, ...
        sha256: The digest that the bytes must have, where one is known.
    """

    path: str
    content: bytes | Path
    role: str
    sha256: str | None = None


class Store:
    """Seals files of the run whose journal is open; `open` first puts aside what a kill left behind."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.root = journal.root

    @classmethod
    def open(cls, journal: Journal) -> Store:
        """Return the store of a run after removing unfinished files and moving orphans aside."""
        store = cls(journal)
        with store._writing("the run folder"):
            if (store.root / STAGING).exists():
                shutil.rmtree(store.root / STAGING)
            for path in store._unsealed():
                store._set_aside(path)
            kept.sweep(store.root, journal.view())
        return store

    def seal_new(self, path: str, data: bytes | Path, *, role: str, step: str | None = None) -> Artifact:
        """Seal one file under a `sealed` event.

        Sealing the same bytes in the same place again changes nothing, so an interrupted preparation
        can be repeated.

        Raises:
            BadInput: The path is not safe, or something else is sealed there.
            DiskFull: There was no room; nothing was sealed.
        """
        for entry in self._deposit([Deposit(path, data, role)]):
            self.journal.append("sealed", entry if step is None else {**entry, "step": step})
        return self.journal.view().artifacts[path]

    def seal_together(self, type: str, data: Mapping[str, Any], deposits: Iterable[Deposit]) -> Event:
        """Append one event that seals several files: all of them, or none.

        A step's results go with `step-finished`, an answer and its evidence with `gate-answered`. After
        a kill on the way, the files are orphans and whatever made them is done again. A file that is
        sealed in its place already, byte for byte, is left out; one that lies in its place unsealed,
        such as a log, is sealed there.

        Raises:
            BadInput: A path is not safe or is sealed already; nothing was sealed.
            IntegrityBroken: A file to copy does not have the digest that it was announced with.
            DiskFull: There was no room; nothing was sealed.
        """
        return self.journal.append(type, {**data, "sealed": self._deposit(deposits)})

    def staging(self, name: str) -> Path:
        """Return a fresh, empty folder for work in progress; it goes when the journal is closed."""
        folder = self.root / STAGING / check_path(name)
        with self._writing("a working folder"):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
        return folder

    def keep(self, step: str, key: str) -> Path:
        """Return the folder that a step's attempts share; see `atlas.run.kept`."""
        with self._writing("what a step keeps"):
            return kept.keep(self.root, check_path(step), key)

    def lend(self, paths: Iterable[str], folder: Path) -> dict[str, str]:
        """Copy sealed files, checked against their digests, and return path -> absolute copy.

        Raises:
            IntegrityBroken: A file is gone or differs from what was sealed.
        """
        result = {}
        with self._writing("a copy for a step"):
            for path in paths:
                copy = place(folder, path)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(self.journal.view().read(path))
                copy.chmod(0o444)
                result[path] = str(copy.resolve())
        return result

    def _deposit(self, deposits: Iterable[Deposit]) -> list[dict[str, Any]]:
        """Put files in their places, not journaled yet, and return the entries of the new ones."""
        with self._writing("a file of the run"):
            pending = [deposit for deposit in deposits if not self._is_sealed(deposit)]
            self._refuse_taken(pending)
            entries = [self._put(deposit) for deposit in pending]
            for folder in sorted({parent for deposit in pending for parent in self._parents(deposit)}):
                sync_folder(folder)
        return entries

    def _parents(self, deposit: Deposit) -> Iterator[Path]:
        """Yield the folders whose names lead to a file; whoever wrote it may not have synced them."""
        for part in Path(deposit.path).parents:
            yield self.root / part

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """Give back the room of unfinished files and say what could not be written."""
        try:
            yield
        except OSError as error:
            with suppress(OSError):
                (self.root / STAGING / "next").unlink()
            raise unwritable(error, what, str(error.filename or self.root)) from error

    def _is_sealed(self, deposit: Deposit) -> bool:
        sealed = self.journal.view().artifacts.get(deposit.path)
        return sealed is not None and sealed.sha256 == _digest(deposit.content)[1]

    def _refuse_taken(self, deposits: Iterable[Deposit]) -> None:
        """Refuse a second file of one name, also where only some platforms take the names for one."""
        taken = {path.casefold(): path for path in self.journal.view().artifacts}
        for deposit in deposits:
            target = place(self.root, deposit.path)
            other = taken.get(deposit.path.casefold())
            if other is not None:
                raise BadInput(
                    f"{other} is sealed already and is never replaced",
                    where=str(target),
                    fix="choose another name, or amend it",
                )
            taken[deposit.path.casefold()] = deposit.path

    def _put(self, deposit: Deposit) -> dict[str, Any]:
        target = place(self.root, deposit.path)
        content = deposit.content
        lies_there = isinstance(content, Path) and target.exists() and target.samefile(content)
        file = synced(target) if lies_there else self._copy(content)
        size, digest = _digest(file)
        if deposit.sha256 not in (None, digest):
            raise IntegrityBroken("the file changed after it was announced", where=deposit.path)
        if not lies_there:
            make_folder(target.parent)
            if target.exists():
                self._set_aside(deposit.path)
            _name(file, target)
        return {"path": deposit.path, "size": size, "sha256": digest, "role": deposit.role}

    def _copy(self, content: bytes | Path) -> Path:
        """Write a file under `.staging` that survives a power cut."""
        file = self.root / STAGING / "next"
        file.parent.mkdir(exist_ok=True)
        handle = os.open(file, _NEW, 0o644)
        try:
            for chunk in chunks(content):
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        return file

    def _unsealed(self) -> Iterator[str]:
        """Yield the files that ought to be sealed and are not, and copies of records not linked."""
        known = self.journal.view().artifacts
        linked = {Path(e.data["folder"]).name for e in self.journal.view().of("record-linked")}
        found = [self.root / name for name in _SEALED_FILES]
        for name in _SEALED_FOLDERS:
            found += sorted((self.root / name).rglob("*"))
        for file in found:
            path = file.relative_to(self.root).as_posix()
            if path not in known and (file.is_symlink() or file.is_file()):
                yield path
        if (self.root / "records").is_dir():
            for folder in sorted((self.root / "records").iterdir()):
                if folder.name not in linked:
                    yield f"records/{folder.name}"

    def _set_aside(self, path: str) -> None:
        """Move a file or folder that the journal does not vouch for out of the way."""
        numbers = itertools.count(self.journal.head.length)
        moved = next(m for n in numbers if not (m := self.root / ORPHANS / str(n) / path).exists())
        make_folder(moved.parent)
        (self.root / path).rename(moved)
        sync_folder((self.root / path).parent)
        sync_folder(moved.parent)
        self.journal.append("set-aside", {"path": path, "moved_to": moved.relative_to(self.root).as_posix()})


def synced(file: Path) -> Path:
    """Return a file once its bytes survive a power cut."""
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
    return file


def _digest(content: bytes | Path) -> tuple[int, str]:
    """Return the size and sha256 of bytes or of a file."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks(content):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def chunks(content: bytes | Path) -> Iterator[bytes]:
    """Yield bytes, or those of a file in pieces."""
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _name(temporary: Path, target: Path) -> None:
    """Give a finished file its name, unless the name is taken.

    A rename on POSIX replaces silently, a hard link does not. File systems without hard links (FAT)
    leave only the check before the rename, which is enough under the run's lock.
    """
    if os.name != "nt":
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise
        except OSError:
            if target.exists():
                raise
        else:
            temporary.unlink()
            return
    if target.exists():
        raise FileExistsError(f"{target} exists")
    temporary.rename(target)
