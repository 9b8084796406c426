"""The injection package: raw tables and Read 1, nothing else, named by a digest.

The digest is defined so that a stranger can check it with the tools of any system. The listing has a line
for each file, sorted by path, in the form that `sha256sum` writes: 64 hexadecimal digits, two spaces, the
path in the run folder, a line feed. The package's digest is the sha256 of the listing.

A model receives one upload, `package.md`, which is made of the files and of fixed headings alone: each
table as a CSV block, then the Reads as they were written.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from atlas.contracts import Package
from atlas.errors import BadInput

__all__ = ["assemble", "digest_of", "gather", "listing_of", "token_estimate", "upload"]

_TABLE = re.compile(r"raw/[^/]+/[^/]+\.csv")
_READ = re.compile(r"reads/read-1(\.amendment-[0-9]+)?\.md")
_TOKENS = re.compile(r"[^\W\d_]{1,8}|\d{1,3}|[^\w\s]|_")


def listing_of(files: Mapping[str, bytes]) -> bytes:
    """Return the listing whose sha256 names the package; `sha256sum -c` takes it."""
    ordered = sorted(files, key=lambda path: path.encode("utf-8"))
    lines = (f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in ordered)
    return "".join(lines).encode("utf-8")


def digest_of(files: Mapping[str, bytes]) -> str:
    """Return the digest that names a package of these files."""
    return hashlib.sha256(listing_of(files)).hexdigest()


def assemble(files: Mapping[str, bytes]) -> Package:
    """Return the package of these files.

    Raises:
        BadInput: There is no table with a row among them, or a file is no UTF-8 text.
    """
    for path, data in files.items():
        _text(path, data)
    if not any(_TABLE.fullmatch(path) and len(_rows(path, data)) > 1 for path, data in files.items()):
        raise BadInput(
            "the package holds no raw table, so there is nothing to read",
            fix="add `sees: [{from: STEP.raw}]`",
        )
    return Package(digest_of(files), dict(files))


def gather(inputs: Mapping[str, Path]) -> tuple[Package, tuple[str, ...]]:
    """Build the package from what a step sees.

    Tables of raw results and Read 1 with its amendments go in. What else lies beside raw tables (their
    schemas, facts, attachments) stays out, since a package is lean.

    Args:
        inputs: Path in the run folder -> read-only copy, without the answer that a person brought.

    Returns:
        The package, and the paths that were left out.

    Raises:
        BadInput: The step sees another Read or another model's answer, which no synthesis model may.
    """
    taken: dict[str, bytes] = {}
    left: list[str] = []
    for path, copy in sorted(inputs.items()):
        if _TABLE.fullmatch(path) or _READ.fullmatch(path):
            taken[path] = copy.read_bytes()
        elif path.startswith("raw/") and PurePosixPath(path).name != "answer.md":
            left.append(path)
        else:
            raise BadInput(
                f"a synthesis sees raw tables and Read 1; it may not see {path}",
                fix="take it out of the step's `sees`",
            )
    return assemble(taken), tuple(left)


def upload(package: Package) -> bytes:
    """Return `package.md`, the one file that a model receives; the same package gives the same bytes."""
    tables = sorted(path for path in package.files if _TABLE.fullmatch(path))
    reads = sorted((path for path in package.files if _READ.fullmatch(path)), key=_read_order)
    names = [PurePosixPath(path).name for path in tables]
    parts = []
    for path in tables:
        name = PurePosixPath(path).name
        title = name if names.count(name) == 1 else "/".join(path.split("/")[-2:])
        parts.append(f"## {title}\n\n{_fenced(_lean(path, package.files[path]))}")
    for path in reads:
        title = "Read" if path == "reads/read-1.md" else "Read, addition"
        parts.append(f"## {title}\n\n{_text(path, package.files[path]).strip()}\n")
    return "\n".join(parts).encode("utf-8")


def _read_order(path: str) -> tuple[int, int]:
    number = re.search(r"amendment-([0-9]+)", path)
    return (0, 0) if number is None else (1, int(number[1]))


def token_estimate(text: str) -> int:
    """Return roughly how many tokens a text costs; no tokenizer is known here.

    Counted are runs of up to eight letters, runs of up to three digits, and single other marks.
    """
    return len(_TOKENS.findall(text))


def _text(path: str, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8 text: {error}", where=path) from error
    if "\0" in text:
        raise BadInput("the file holds NUL characters: it is no text", where=path)
    return text


def _rows(path: str, data: bytes) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(_text(path, data), newline=""), strict=True))
    except csv.Error as error:
        raise BadInput(f"not CSV: {error}", where=path) from error


def _lean(path: str, data: bytes) -> str:
    """Return a table as CSV without the columns that are empty throughout."""
    header, *rows = _rows(path, data) or [[]]
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)] if rows else range(len(header))
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([row[i] for i in kept] for row in (header, *rows))
    return buffer.getvalue()


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}csv\n{text}{fence}\n"
