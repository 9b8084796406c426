"""The contamination check: framework vocabulary in texts that a model is to receive.

A text is read as a person sees it. Compatibility forms, case, accents, look-alike letters, invisible
characters, Markdown emphasis, HTML tags, character references and JSON escapes are undone first, and a
line break inside a word does not end it. Every character keeps its place in the original, so that a
finding names line and column of what was written.

What counts as a finding is data: `vocabulary-guard.yaml`, whose head states the rule, and files of the
same form. Paraphrase cannot be found this way; that judgement stays with the Technician.
"""

from __future__ import annotations

import bisect
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from attrs import field, frozen

from atlas.errors import BadInput

__all__ = ["Finding", "Guard", "Term", "built_in", "load_terms"]

_TOKEN = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,10});|\r\n|[\s\S]")
_TOKEN_WITH_ESCAPES = re.compile(r"\\u[0-9a-fA-F]{4}|\\[nrt]|" + _TOKEN.pattern)
_SHORT = {"\r\n": "\n", "\\n": "\n", "\\r": "\n", "\\t": " "}
# Letters of other scripts that look like Latin ones (Unicode TR39, the lower-case pairs).
_LOOKALIKE = str.maketrans("асеорхуіјѕһԁԛԝвкмнтгпαεικνορτυχςıɡℓ", "aceopxyijshdqwbkmhtrnaeiknoptuxsigl")
# What may stand between two letters of one word: emphasis, a tag, a comment, or a hyphenated line break.
_INSIDE = r"(?:<!--(?:(?!-->)[\s\S]){0,200}-->|</?[a-z][^<>]{0,80}>|_{1,3}|[-\u2010]?[ ]*\n[ >#|]*)?"
_BETWEEN = rf"(?:[^\w<>]|_|{_INSIDE[:-1]}){{0,8}}"
_SENTENCE_END = re.compile(r"[.!?;](?=[\s\"')\]]|$)|\n\s*\n|\n(?=\s*(?:[-*+#|]|\d+[.)])\s)")


@frozen
class Term:
    """A word or phrase to find.

    Attributes:
        text: Words joined by one space, in lower case; a code as it is written.
        code: Whether it is a finding in capitals only.
        subjects: Everyday subjects that excuse it; empty where nothing does.
    """

    text: str
    code: bool = False
    subjects: tuple[str, ...] = ()


@frozen
class Finding:
    """A term in a text; `line` and `column` count from 1 in the original."""

    term: str
    line: int
    column: int

    def __str__(self) -> str:
        """Render as `line:column: term`."""
        return f"{self.line}:{self.column}: {self.term}"


@frozen
class _Plain:
    """A text as a person sees it; `cased` differs from `text` in case only, `places` lead back."""

    text: str
    cased: str
    places: tuple[int, ...] = field(repr=False)


def _plain(original: str, *, escapes: bool) -> _Plain:
    letters: list[str] = []
    cased: list[str] = []
    places: list[int] = []
    for match in (_TOKEN_WITH_ESCAPES if escapes else _TOKEN).finditer(original):
        token = match.group()
        if len(token) > 1:
            named = token[0] == "&"
            token = html.unescape(token) if named else _SHORT.get(token) or chr(int(token[2:], 16))
        for character in unicodedata.normalize("NFKD", token):
            category = unicodedata.category(character)
            if category in ("Cf", "Mn", "Me", "Cs") or character in "*`~\u115f\u1160\u3164\u2800":
                continue
            upright = "\n" if character in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029" else character
            upright = " " if upright != "\n" and upright.isspace() else upright
            for folded in upright.casefold().translate(_LOOKALIKE):
                letters.append(folded)
                cased.append(folded.upper() if upright.isupper() else folded)
                places.append(match.start())
    return _Plain("".join(letters), "".join(cased), tuple(places))


@cache
def _pattern(text: str) -> re.Pattern[str]:
    words = [_INSIDE.join(map(re.escape, word)) for word in text.split(" ")]
    return re.compile(rf"(?<![^\W\d_]){_BETWEEN.join(words)}(?![^\W\d_])")


@cache
def _any_of(entries: tuple[str, ...]) -> re.Pattern[str]:
    options = (re.escape(e[:-1]) + r"\w*" if e.endswith("*") else re.escape(e) for e in entries)
    return re.compile(rf"(?<!\w)(?:{'|'.join(options)})(?!\w)")


def _sentence(text: str, start: int, end: int) -> tuple[int, int]:
    first, limit = max(0, start - 600), min(len(text), end + 600)
    for stop in _SENTENCE_END.finditer(text, first, limit):
        if stop.end() <= start:
            first = stop.end()
        elif stop.start() >= end:
            return first, stop.start()
    return first, limit


def _excused(text: str, start: int, end: int, subjects: tuple[str, ...], geometry: tuple[str, ...]) -> bool:
    """Return whether the term at `start:end` speaks of an everyday subject."""
    before = re.search(r"([^\W_]+)[\s\-]+$", text[max(0, start - 40) : start])
    after = re.match(r"[\s\-]+([^\W_]+)", text[end : end + 40])
    wanted = _any_of(subjects)
    if any(side is not None and wanted.fullmatch(side.group(1)) for side in (before, after)):
        return True
    first, last = _sentence(text, start, end)
    sentence = f"{text[first:start]} {text[end:last]}"
    return bool(wanted.search(sentence)) and not (geometry and _any_of(geometry).search(sentence))


@frozen
class Guard:
    """A vocabulary that is kept from models.

    Attributes:
        terms: What to find.
        geometry: Words that make a sentence one about the instruments' subject (`load_terms`).
    """

    terms: tuple[Term, ...]
    geometry: tuple[str, ...] = ()

    def __add__(self, other: Guard) -> Guard:
        """Return a guard that finds the terms of both."""
        return Guard(self.terms + other.terms, self.geometry + other.geometry)

    def findings(self, text: str) -> tuple[Finding, ...]:
        """Return every framework term in a text, in reading order, one finding a place."""
        found: dict[int, str] = {}
        for escapes in (False, True) if "\\" in text else (False,):
            plain = _plain(text, escapes=escapes)
            for term, start in self._matches(plain):
                place = plain.places[start]
                if len(term) > len(found.get(place, "")):
                    found[place] = term
        breaks = [m.end() for m in re.finditer(r"\r\n|\r|\n", text)]
        result = []
        for place, term in sorted(found.items()):
            line = bisect.bisect_right(breaks, place)
            result.append(Finding(term, line + 1, place - (breaks[line - 1] if line else 0) + 1))
        return tuple(result)

    def _matches(self, plain: _Plain) -> Iterator[tuple[str, int]]:
        for term in self.terms:
            source = plain.cased if term.code else plain.text
            for match in _pattern(term.text).finditer(source):
                start, end = match.span()
                if not (term.subjects and _excused(plain.text, start, end, term.subjects, self.geometry)):
                    yield term.text, start


def _words(data: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
        raise BadInput(f"`{key}` must be a list of words", where=where, fix=f"write `{key}: [one, two]`")
    return tuple(" ".join(v.split()) for v in value)


def _lower(entries: Iterable[str]) -> tuple[str, ...]:
    return tuple(entry.casefold() for entry in entries)


def load_terms(path: Path) -> Guard:
    """Read a vocabulary file: `phrases`, `words`, `codes`, `borrowed`, `geometry`, each optional.

    Raises:
        BadInput: The file cannot be read or is not of that form.
    """
    where = str(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"the vocabulary cannot be read: {error.strerror}", where=where) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"not YAML: {' '.join(str(error).split())}", where=where) from error
    known = {"phrases", "words", "codes", "borrowed", "geometry"}
    if not isinstance(data, dict) or not set(data) <= known:
        raise BadInput(
            "a vocabulary is a mapping of " + ", ".join(sorted(known)),
            where=where,
            fix="write for instance `phrases: [one term, another term]`",
        )
    borrowed = data.get("borrowed", [])
    if not isinstance(borrowed, list) or not all(isinstance(entry, dict) for entry in borrowed):
        raise BadInput("`borrowed` must be a list of {forms, subjects}", where=where)
    terms = [Term(t) for t in _lower(_words(data, "phrases", where) + _words(data, "words", where))]
    terms += [Term(code, code=True) for code in _words(data, "codes", where)]
    for entry in borrowed:
        subjects = _lower(_words(entry, "subjects", where))
        terms += [Term(form, subjects=subjects) for form in _lower(_words(entry, "forms", where))]
    return Guard(tuple(terms), _lower(_words(data, "geometry", where)))


@cache
def built_in() -> Guard:
    """Return the vocabulary that this distribution guards."""
    return load_terms(Path(__file__).with_name("vocabulary-guard.yaml"))
