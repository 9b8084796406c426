"""Opening what a stranger was handed: a run folder, a bag folder or a zip, the zip unpacked safely.

A zip is hostile until it has been checked. Nothing is written outside the folder that it is unpacked
into, no link is made, and the sizes that it states are checked before the first byte is expanded.
"""

from __future__ import annotations

import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atlas.errors import BadInput, IntegrityBroken
from atlas.record import JOURNAL, RunView, open_record
from atlas.run.paths import check_path

__all__ = ["BAGIT", "PAYLOAD", "opened", "unpack_safely", "unpacked"]

BAGIT = "bagit.txt"
PAYLOAD = "data"

_MOST_BYTES = 4 << 30
_MOST_ENTRIES = 100_000
_MOST_RATIO = 200
_RATIO_COUNTS_FROM = 32 << 20
"""Below this total a high compression ratio is a table of equal rows, not a bomb."""
_CHUNK = 1 << 20


def unpack_safely(archive: Path, folder: Path) -> None:
    """Unpack a zip into an empty folder.

    Raises:
        BadInput: It is not a zip file.
        IntegrityBroken: A member is damaged, encrypted, a link, named twice, has an unsafe name, or
            the zip would expand beyond 4 GiB, 100,000 entries or 200 times its size.
    """
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = bundle.infolist()
            _check_sizes(archive, members)
            _check_names(members)
            for member in members:
                if not member.is_dir():
                    _expand(bundle, member, folder)
    except zipfile.BadZipFile as error:
        if not zipfile.is_zipfile(archive):
            raise BadInput(
                "not a zip file",
                where=str(archive),
                fix="name a bundle that `atlas pack` wrote, or a run folder",
            ) from error
        raise IntegrityBroken(f"the zip is damaged: {error}", where=archive.name) from error


def _check_sizes(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    total = sum(member.file_size for member in members)
    packed = max(archive.stat().st_size, 1)
    if len(members) > _MOST_ENTRIES:
        reason = f"it has {len(members)} entries, expected at most {_MOST_ENTRIES}"
    elif total > _MOST_BYTES:
        reason = f"it would expand to {total} bytes, expected at most {_MOST_BYTES}"
    elif total > _RATIO_COUNTS_FROM and total > _MOST_RATIO * packed:
        reason = f"it would expand to {total // packed} times its size, expected at most {_MOST_RATIO}"
    else:
        return
    raise IntegrityBroken(f"the zip is refused: {reason}", where=archive.name)


def _check_names(members: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for member in members:
        name = member.orig_filename
        if "\0" in name:
            raise IntegrityBroken("the zip is refused: a member's name holds NUL", where=repr(name))
        try:
            for part in name.removesuffix("/").split("/"):
                check_path(part)
        except BadInput as error:
            raise IntegrityBroken(f"the zip is refused: {error.what}", where=repr(name)) from error
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise IntegrityBroken("the zip is refused: a member is a link or a device", where=repr(name))
        if member.flag_bits & 0x1:
            raise IntegrityBroken("the zip is refused: a member is encrypted", where=repr(name))
        if name.casefold() in seen:
            raise IntegrityBroken("the zip is refused: a member is there twice", where=repr(name))
        seen.add(name.casefold())


def _expand(bundle: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    target = folder.joinpath(*member.filename.split("/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with bundle.open(member) as source, target.open("xb") as sink:
            while chunk := source.read(_CHUNK):
                sink.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise IntegrityBroken(f"the zip is damaged here: {error}", where=member.filename) from error
    except FileExistsError as error:
        raise IntegrityBroken("the zip is refused: a member is there twice", where=member.filename) from error


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield the folder of a run or bag; a zip is unpacked into a temporary one that is removed.

    Raises:
        BadInput: There is nothing of the kind at `path`.
        IntegrityBroken: The zip is damaged or hostile.
    """
    if path.is_dir():
        yield _root(path, path)
        return
    if not path.is_file():
        raise BadInput(
            "there is no run, bag or zip here", where=str(path), fix="name a bundle, or a run or its folder"
        )
    with tempfile.TemporaryDirectory(prefix="atlas-bundle-") as scratch:
        unpack_safely(path, Path(scratch))
        yield _root(Path(scratch), path)


def _root(folder: Path, path: Path) -> Path:
    """Return the folder that is a run or a bag: this one, or the only one in it."""
    inner = [entry for entry in folder.iterdir() if entry.is_dir()]
    candidates = [folder, *inner] if len(inner) == 1 else [folder]
    for candidate in candidates:
        if (candidate / BAGIT).is_file() or (candidate / JOURNAL).is_file():
            return candidate
    raise BadInput(
        "this is neither a run folder nor a bundle: it holds no journal.jsonl and no bagit.txt",
        where=str(path),
        fix="name a bundle that `atlas pack` wrote, or a run folder",
    )


@contextmanager
def opened(path: Path) -> Iterator[RunView]:
    """Yield the run in a run folder, bag folder or zip; each file is checked as it is read."""
    with unpacked(path) as root:
        yield open_record(root / PAYLOAD if (root / BAGIT).is_file() else root)
