"""States of a measurement on disk, so that one that is killed goes on from its last: whole, or not used.

A state is a line of facts, with its own digest, and a file of vectors that the line names with size and
digest. The vectors are written and synced first, the line is put in place by a rename, and only then the
vectors of the state before are removed: whenever the process dies, a whole state remains. A state that
does not fit, by key or by digest, is left aside with a note. So is one that cannot be written: an
interruption then costs more, and nothing else changes. Writing takes a tenth of the time at most.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from attrs import define, evolve, field, frozen

from atlas.errors import InstrumentFailed

__all__ = ["SavedState", "SavedStates"]

_LONGEST_INTERVAL = 30.0
_SHORTEST_INTERVAL = 1.0
_SHARE = 0.1
"""Largest part of the time that is spent on writing states."""

_RATE = 5e8
"""Bytes per second that the first state is expected to be written with; later ones as was measured."""

_RESERVE = 256 << 20
"""Bytes of the disk that states leave free."""

_CHUNK = 1 << 22


@frozen
class SavedState:
    """A whole state as it was saved.

    Attributes:
        facts: Plain values.
        vectors: File of the vectors, one after the other.
    """

    facts: Mapping[str, Any]
    vectors: Path | None

    @contextmanager
    def reading(self) -> Iterator[Callable[[torch.Tensor], None]]:
        """Give what overwrites a contiguous tensor with the numbers that come next, in the order saved."""
        assert self.vectors is not None  # who saved none asks for none
        with self.vectors.open("rb") as stream:

            def fill(piece: torch.Tensor) -> None:
                taken = piece if piece.device.type == "cpu" else torch.empty_like(piece, device="cpu")
                if stream.readinto(_memory(taken)) != taken.nbytes:
                    raise InstrumentFailed("a kept state ends before its time", where=str(self.vectors))
                if taken is not piece:
                    piece.copy_(taken)

            yield fill


@define
class _Pace:
    """When a state was last written, and how fast: shared by all states of one step."""

    began: float = field(factory=lambda: time.monotonic())
    last: float = field(factory=lambda: time.monotonic())
    rate: float = _RATE


@frozen
class SavedStates:
    """States below one folder, each under a name.

    Attributes:
        folder: Where they lie; None saves nothing and finds nothing.
        identity: All that the numbers depend on; a state with another one is not used.
        note: Told, once for each, of states that were not used or not written.
        prefix: Of the names, where several parts share the folder.
    """

    folder: Path | None
    identity: Mapping[str, Any] = field(factory=dict)
    note: Callable[[str], None] = lambda text: None
    prefix: str = ""
    _pace: _Pace = field(factory=_Pace)
    _noted: set[str] = field(factory=set)

    def part(self, name: str, **identity: Any) -> SavedStates:
        """Return the states of a part of the measurement, which depends on more than the whole."""
        return evolve(self, prefix=f"{self.prefix}{name}.", identity={**self.identity, **identity})

    @property
    def key(self) -> str:
        """Digest of the identity."""
        text = json.dumps(self.identity, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def due(self, size: int, *, patience: float = 1.0) -> bool:
        """Say whether it is time to write so many bytes.

        At first that is every second, later every 30 seconds, and never so often that it takes more than
        a tenth of the time; `patience` times as long where a better moment may come soon.
        """
        if self.folder is None:
            return False
        now = time.monotonic()
        interval = _SHORTEST_INTERVAL
        if size:
            interval = min(_LONGEST_INTERVAL, _SHORTEST_INTERVAL + _SHARE * (now - self._pace.began))
        return now - self._pace.last >= patience * max(interval, size / (_SHARE * self._pace.rate))

    def load(self, name: str) -> SavedState | None:
        """Return a state that is whole and has this key, or None, with a note where there is another."""
        line = self._line(name)
        if line is None or not line.exists():
            return None
        try:
            digest, _, text = line.read_bytes().partition(b"\n")
            if hashlib.sha256(text).hexdigest().encode() != digest:
                raise ValueError("it is torn or was changed")
            content = json.loads(text)
            if content["key"] != self.key:
                raise ValueError("it was made with other settings, weights, code or libraries")
            vectors = line.with_name(content["file"]) if content["file"] else None
            if vectors is not None and _digest(vectors) != (content["size"], content["sha256"]):
                raise ValueError("its vectors are torn or were changed")
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._say(f"a kept state ({name}) is not used, and its part is measured anew: {error}")
            return None
        return SavedState(content["facts"], vectors)

    def save(
        self, name: str, facts: Mapping[str, Any], vectors: Iterable[torch.Tensor] = (), size: int = 0
    ) -> bool:
        """Write a state in place of the one before; return whether it was written.

        Args:
            name: Its name.
            facts: Values that JSON holds.
            vectors: Contiguous tensors, taken one at a time.
            size: Their bytes in all.
        """
        line = self._line(name)
        if line is None:
            return False
        began = time.monotonic()
        file: Path | None = None
        try:
            line.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(line.parent).free
            if size and free < size + _RESERVE:
                raise OSError(f"it takes {_gigabytes(size)}, and {_gigabytes(free)} are free")
            if size:
                current = _named(line)
                file = next(f for i in (0, 1) if (f := line.with_suffix(f".{i}.bin")).name != current)
            content: dict[str, Any] = {"key": self.key, "facts": facts, "file": None}
            if file is not None:
                pieces = (_memory(vector.detach().cpu()) for vector in vectors)
                content["file"] = file.name
                content["size"], content["sha256"] = _write(file, pieces)
            text = json.dumps(content).encode()
            fresh = line.with_suffix(".new")
            _write(fresh, [hashlib.sha256(text).hexdigest().encode() + b"\n" + text])
            fresh.replace(line)
            _sync_folder(line.parent)
            for old in line.parent.glob(f"{line.stem}.*.bin"):
                if old != file:
                    old.unlink()
        except OSError as error:
            with suppress(OSError):
                line.with_suffix(".new").unlink(missing_ok=True)
                if file is not None:
                    file.unlink(missing_ok=True)
            self._say(f"a state could not be kept, an interruption would cost more: {error}")
            self._pace.last = time.monotonic()
            return False
        self._pace.last = time.monotonic()
        if size:
            self._pace.rate = size / max(self._pace.last - began, 1e-3)
        return True

    def remove(self, name: str) -> None:
        """Remove one state."""
        line = self._line(name)
        if line is not None:
            for path in (line, *line.parent.glob(f"{line.stem}.*.bin")):
                path.unlink(missing_ok=True)

    def drop(self, *, but: str | None = None) -> None:
        """Remove the states of this part, all but one."""
        kept = f"{self.prefix}{but}."
        if self.folder is not None and self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name.startswith(self.prefix) and not path.name.startswith(kept):
                    path.unlink(missing_ok=True)

    @property
    def found(self) -> bool:
        """Whether this part has states, fitting or not."""
        return self.folder is not None and any(self.folder.glob(f"{self.prefix}*.json"))

    def _line(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.prefix}{name}.json"

    def _say(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self.note(text)


def _named(line: Path) -> str | None:
    """Return the file of vectors that a state names, if it can be read."""
    try:
        return str(json.loads(line.read_bytes().partition(b"\n")[2])["file"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _memory(vector: torch.Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor in memory, without a copy."""
    return vector.view(torch.uint8).numpy().data


def _write(path: Path, pieces: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Write a file that survives a power cut; return its size and sha256."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)
            digest.update(piece)
            size += len(piece)
        stream.flush()
        os.fsync(stream.fileno())
    return size, digest.hexdigest()


def _digest(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the platform can (Windows cannot)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
