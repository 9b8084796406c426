"""Counting what was said: the tokens of a declared tokenizer, and words beside them.

A word is a run of characters between white space. Text longer than `LONGEST` characters is encoded in
pieces, cut before a space that stands between two ASCII letters: there byte-level BPE with the usual
pre-tokenizers cuts as well, so its count is that of the whole; another tokenizer may differ by one a cut.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import field, frozen

from atlas.errors import BadInput

__all__ = ["LONGEST", "WORDS", "Tokenizer", "count_words", "open_tokenizer", "pieces"]

LONGEST = 2**20
"""Characters that are encoded in one go."""

_WORD = r"\S+"
_CUT = re.compile(r"(?<=[A-Za-z]) (?=[A-Za-z])")


@frozen
class Tokenizer:
    """A declared way to count tokens.

    Attributes:
        name: As the record states it.
        sha256: Of its definition.
        count: The number of tokens in a text, without special tokens.
    """

    name: str
    sha256: str
    count: Callable[[str], int] = field(repr=False, eq=False)


def count_words(text: str) -> int:
    """Return the number of words in a text."""
    return len(text.split()) if len(text) <= LONGEST else sum(1 for _ in re.finditer(_WORD, text))


WORDS = Tokenizer(f"words, {_WORD}", hashlib.sha256(_WORD.encode()).hexdigest(), count_words)
"""The tokenizer that needs no file."""


def open_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer of a checkpoint's folder, or of its file `tokenizer.json`.

    Raises:
        BadInput: There is none, or it cannot be read.
    """
    from tokenizers import Tokenizer as Fast

    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadInput(
            f"there is no tokenizer to read: {error.strerror or error}",
            where=str(file),
            fix="name a folder with tokenizer.json, or leave `tokenizer` out to count words",
        ) from error
    try:
        fast = Fast.from_buffer(data)
    except Exception as error:  # the library raises plain Exception
        raise BadInput(f"the tokenizer cannot be read: {error}", where=str(file)) from error
    fast.no_truncation()
    fast.no_padding()

    def count(text: str) -> int:
        return sum(len(fast.encode(piece, add_special_tokens=False)) for piece in pieces(text))

    name = file.parent.name if file.name == "tokenizer.json" else file.name
    return Tokenizer(name, hashlib.sha256(data).hexdigest(), count)


def pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces to encode, see above; one text without such a space stays whole."""
    start = 0
    while len(text) - start > LONGEST:
        cut = _CUT.search(text, start + LONGEST)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]
