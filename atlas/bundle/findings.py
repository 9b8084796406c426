"""What a check found wrong: a file, and what is the matter with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

__all__ = ["Digest", "Finding", "digest_file", "walk"]

_CHUNK = 1 << 20


@frozen
class Finding:
    """One thing that is not as it was sealed; `file` may carry a line, `journal.jsonl:12`."""

    file: str
    what: str

    def __str__(self) -> str:
        """`file: what`."""
        return f"{self.file}: {self.what}"


@frozen
class Digest:
    """Size and digests of a file."""

    size: int
    sha256: str
    sha512: str


def digest_file(file: Path) -> Digest:
    """Read a file once, in pieces, and return its digests."""
    short, long, size = hashlib.sha256(), hashlib.sha512(), 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            short.update(chunk)
            long.update(chunk)
            size += len(chunk)
    return Digest(size, short.hexdigest(), long.hexdigest())


def walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield (POSIX path below `root`, file), sorted; links are yielded and never followed."""
    found = []
    for folder, folders, names in os.walk(root, followlinks=False):
        for name in [*names, *(n for n in folders if (Path(folder) / n).is_symlink())]:
            file = Path(folder) / name
            found.append((file.relative_to(root).as_posix(), file))
    yield from sorted(found)
