"""A file's bytes as lines of text, with the bytes that are no text set aside as evidence.

UTF-8 with or without its byte order mark, or UTF-16 with it. A run of bytes that is no UTF-8 is kept
with its place, and stands in the text as one U+FFFD, so that it is neither lost nor read as something
else.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from attrs import define, field, frozen

from atlas.errors import BadInput

__all__ = ["Run", "TextFile", "is_text"]

_HEAD = 8192
_ESCAPED = re.compile("[\udc80-\udcff]+")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@frozen
class Run:
    """An unbroken run of bytes that is no text, and the line it stands in."""

    line: int
    data: bytes = field(repr=False)


def is_text(path: Path) -> bool:
    """Return whether a file may be read as text: no NUL in its first bytes, unless it is marked as UTF-16."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    return head.startswith(_UTF16) or b"\0" not in head


@define
class TextFile:
    """A file that is read once, line by line.

    Attributes:
        path: Where it lies.
        name: How messages call it.
        runs: The bytes that were no text, as far as it has been read.
        size: Bytes read.
    """

    path: Path
    name: str
    runs: list[Run] = field(factory=list)
    size: int = 0
    _digest: hashlib._Hash = field(factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        """Digest of the bytes read."""
        return self._digest.hexdigest()

    def lines(self) -> Iterator[str]:
        """Yield the lines with their ends.

        Raises:
            BadInput: It cannot be read, or is marked as UTF-16 and is not.
        """
        try:
            with self.path.open("rb") as stream:
                head = stream.read(2)
                stream.seek(0)
                if head in _UTF16:
                    yield from self._utf16(stream.read())
                    return
                for number, raw in enumerate(stream, start=1):
                    yield self._line(raw, number)
        except OSError as error:
            raise BadInput(f"cannot be read: {error.strerror or error}", where=self.name) from error

    def _seen(self, data: bytes) -> None:
        self._digest.update(data)
        self.size += len(data)

    def _utf16(self, data: bytes) -> Iterator[str]:
        self._seen(data)
        try:
            yield from data.decode("utf-16").splitlines(keepends=True)
        except UnicodeDecodeError as error:
            line = data[: error.start].decode("utf-16", "ignore").count("\n") + 1
            raise BadInput("marked as UTF-16 and is not", where=f"{self.name}:{line}") from error

    def _line(self, raw: bytes, number: int) -> str:
        self._seen(raw)
        text = raw.decode("utf-8", "surrogateescape")
        if number == 1:
            text = text.removeprefix("\ufeff")
        if text.isascii() or _ESCAPED.search(text) is None:
            return text
        self.runs += [
            Run(number, found.group().encode("utf-8", "surrogateescape")) for found in _ESCAPED.finditer(text)
        ]
        return _ESCAPED.sub("\ufffd", text)
