"""Where a basis keeps its vectors: one tensor in memory, or a file that is read block by block.

A file lies in a folder of the caller's, has no name on POSIX systems, and is gone with its object, after
a crash too. It is read and written, not mapped: what the system caches of it belongs to the system, which
takes it back when memory is short, and never counts as this process's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch

from atlas.errors import InstrumentFailed

__all__ = ["BLOCK", "FileRows", "MemoryRows", "Rows"]

BLOCK = 1 << 20
"""Entries of each row that a file's block holds: with 12 rows of float16, 24 MiB of memory."""


def _bytes(piece: torch.Tensor) -> memoryview:
    """Return the memory of a contiguous tensor."""
    raw: Any = piece.view(torch.uint8).numpy()
    return memoryview(raw)


class Rows(Protocol):
    """Up to `capacity` rows of `size` numbers in one dtype.

    Attributes:
        capacity: Rows.
        size: Numbers in a row.
        dtype: Their type.
        device: Where blocks of them are.
    """

    capacity: int
    size: int
    dtype: torch.dtype
    device: torch.device

    def write(self, row: int, vector: torch.Tensor) -> None:
        """Overwrite a row by a vector `[size]` of any floating dtype."""
        ...

    def read(self, row: int, out: torch.Tensor) -> torch.Tensor:
        """Copy a row into `out`, `[size]` of any floating dtype, and return it."""
        ...

    def pieces(self, row: int) -> Iterator[torch.Tensor]:
        """Yield a row as it is stored, piece after piece, each until the next."""
        ...

    def fill(self, row: int, fill: Callable[[torch.Tensor], None]) -> None:
        """Let `fill` overwrite a row, piece after piece, as it is stored."""
        ...

    def blocks(self, count: int, *, keep: int = 0) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield the first `count` rows in pieces: the columns, and the block `[count, columns]`.

        A block is valid until the next one; changes to its first `keep` rows are kept.
        """
        ...


class MemoryRows:
    """Rows in one tensor."""

    def __init__(self, capacity: int, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.capacity, self.size, self.dtype, self.device = capacity, size, dtype, device
        self._stack = torch.empty(capacity, size, dtype=dtype, device=device)

    def write(self, row: int, vector: torch.Tensor) -> None:
        """Overwrite a row."""
        self._stack[row].copy_(vector)

    def read(self, row: int, out: torch.Tensor) -> torch.Tensor:
        """Copy a row into `out`."""
        return out.copy_(self._stack[row])

    def pieces(self, row: int) -> Iterator[torch.Tensor]:
        """Yield the row at once, without a copy."""
        yield self._stack[row]

    def fill(self, row: int, fill: Callable[[torch.Tensor], None]) -> None:
        """Let `fill` overwrite the row in its place."""
        fill(self._stack[row])

    def blocks(self, count: int, *, keep: int = 0) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield all columns at once, without a copy; whatever is changed is kept."""
        yield slice(0, self.size), self._stack[:count]


class FileRows:
    """Rows in a file without a name, one after the other; blocks of them come and go through one buffer.

    Raises:
        InstrumentFailed: The disk is full, or the file cannot be read back whole.
    """

    def __init__(self, capacity: int, size: int, dtype: torch.dtype, folder: Path) -> None:
        self.capacity, self.size, self.dtype, self.device = capacity, size, dtype, torch.device("cpu")
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder, prefix="basis-", buffering=0)  # noqa: SIM115 # closed with self
        self._buffer = torch.empty(capacity * min(BLOCK, size), dtype=dtype)

    def write(self, row: int, vector: torch.Tensor) -> None:
        """Overwrite a row."""
        for part in self._parts():
            piece = self._buffer[: part.stop - part.start]
            self._put(row, part.start, piece.copy_(vector[part]))

    def read(self, row: int, out: torch.Tensor) -> torch.Tensor:
        """Copy a row into `out`."""
        for part in self._parts():
            out[part] = self._get(row, part.start, self._buffer[: part.stop - part.start])
        return out

    def pieces(self, row: int) -> Iterator[torch.Tensor]:
        """Yield the row as it comes from the file."""
        for part in self._parts():
            yield self._get(row, part.start, self._buffer[: part.stop - part.start])

    def fill(self, row: int, fill: Callable[[torch.Tensor], None]) -> None:
        """Let `fill` overwrite the buffer, and write it."""
        for part in self._parts():
            piece = self._buffer[: part.stop - part.start]
            fill(piece)
            self._put(row, part.start, piece)

    def blocks(self, count: int, *, keep: int = 0) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield block after block; the first `keep` rows of each are written back."""
        for part in self._parts():
            width = part.stop - part.start
            block = self._buffer[: count * width].view(count, width)
            for row in range(count):
                self._get(row, part.start, block[row])
            yield part, block
            for row in range(keep):
                self._put(row, part.start, block[row])

    def _parts(self) -> Iterator[slice]:
        return (slice(start, min(start + BLOCK, self.size)) for start in range(0, self.size, BLOCK))

    def _at(self, row: int, column: int) -> int:
        return (row * self.size + column) * self.dtype.itemsize

    def _put(self, row: int, column: int, piece: torch.Tensor) -> None:
        data = _bytes(piece)
        try:
            self._file.seek(self._at(row, column))
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise InstrumentFailed(
                f"the basis cannot be written: {error.strerror}",
                where=str(self._folder),
                fix="free space there, or set `basis: {place: memory}` or a smaller `basis: {size: ...}`",
            ) from error

    def _get(self, row: int, column: int, piece: torch.Tensor) -> torch.Tensor:
        data = _bytes(piece)
        self._file.seek(self._at(row, column))
        while data:
            count = self._file.readinto(data)
            if not count:
                raise InstrumentFailed("the basis file ends before its time", where=str(self._folder))
            data = data[count:]
        return piece
