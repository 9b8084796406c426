"""An injection package: its files, named by a digest, and what is cheap to say about them.

The digest is defined so that a stranger can check it with the tools of any system. The listing has a line
for each file, sorted by path, in the form that `sha256sum` writes: 64 hexadecimal digits, two spaces, the
path in the run folder, a line feed. The package's digest is the sha256 of the listing.

A model receives one message, which `roles` makes of the files.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Mapping

from atlas.errors import BadInput

__all__ = [
    "ANSWER",
    "READ",
    "TABLE",
    "digest_of",
    "fenced",
    "lean",
    "listing_of",
    "plain",
    "rows",
    "token_estimate",
]

TABLE = re.compile(r"raw/[^/]+/[^/]+\.csv")
READ = re.compile(r"reads/read-1(\.amendment-[0-9]+)?\.md")
ANSWER = re.compile(r"raw/[^/]+/answer\.md")
_TOKENS = re.compile(r"[^\W\d_]{1,8}|\d{1,3}|[^\w\s]|_")


def listing_of(files: Mapping[str, bytes]) -> bytes:
    """Return the listing whose sha256 names the package; `sha256sum -c` takes it."""
    ordered = sorted(files, key=lambda path: path.encode("utf-8"))
    lines = (f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in ordered)
    return "".join(lines).encode("utf-8")


def digest_of(files: Mapping[str, bytes]) -> str:
    """Return the digest that names a package of these files."""
    return hashlib.sha256(listing_of(files)).hexdigest()


def token_estimate(text: str) -> int:
    """Return roughly how many tokens a text costs; no tokenizer is known here.

    Counted are runs of up to eight letters, runs of up to three digits, and single other marks.
    """
    return len(_TOKENS.findall(text))


def plain(path: str, data: bytes) -> str:
    """Return a file of a package as text with LF line ends.

    Raises:
        BadInput: It is not UTF-8, or holds NUL characters.
    """
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8 text: {error}", where=path) from error
    if "\0" in text:
        raise BadInput("the file holds NUL characters: it is no text", where=path)
    return text


def rows(path: str, data: bytes) -> list[list[str]]:
    """Return the rows of a table, the header first.

    Raises:
        BadInput: It is not CSV.
    """
    try:
        return list(csv.reader(io.StringIO(plain(path, data), newline=""), strict=True))
    except csv.Error as error:
        raise BadInput(f"not CSV: {error}", where=path) from error


def lean(path: str, data: bytes) -> str:
    """Return a table as CSV without the columns that are empty throughout."""
    header, *body = rows(path, data) or [[]]
    kept = [i for i in range(len(header)) if any(row[i] for row in body)] if body else range(len(header))
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([row[i] for i in kept] for row in (header, *body))
    return buffer.getvalue()


def fenced(text: str) -> str:
    """Return a text as a CSV block that the text itself cannot close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}csv\n{text}{fence}\n"
