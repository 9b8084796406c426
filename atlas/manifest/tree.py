"""The tree of a manifest's values, built from parser events within fixed limits.

Depth and size are bounded while reading, and an alias is seen before anything could be expanded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from attrs import define, field, frozen

from atlas.manifest.mistakes import Mistake, Place, as_error
from atlas.manifest.scalars import Refused, read_plain

__all__ = ["Document", "KeyPath", "build", "place_after"]

MAX_NODES = 10_000
MAX_DEPTH = 32
MAX_SCALAR = 4096
MAX_KEY = 256
TEXT_ROOT = "stimulus"
"""The top key under which texts may be long and hold any character: they are evidence."""

KeyPath = tuple[str | int, ...]
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@frozen
class Document:
    """A parsed manifest.

    Attributes:
        name: The file as messages name it.
        source: Its bytes.
        data: Plain values: dict, list, str, int, float, bool, None.
        places: Place of each value, by its path of keys and indices.
        key_places: Place of each mapping key, by the same path.
        raw: Text of the scalars written without quotes that are not text.
        mistakes: What is wrong with the YAML itself.
        flawed: Paths at which `mistakes` were found; later checks pass over them.
    """

    name: str
    source: bytes = field(repr=False)
    data: Any = field(repr=False)
    places: Mapping[KeyPath, Place] = field(repr=False)
    key_places: Mapping[KeyPath, Place] = field(repr=False)
    raw: Mapping[KeyPath, str] = field(repr=False)
    mistakes: tuple[Mistake, ...] = ()
    flawed: frozenset[KeyPath] = frozenset()

    def place(self, path: KeyPath, *, key: bool = False) -> Place:
        """Return the place of a value (or of its key), or of the nearest thing around it."""
        if key and path in self.key_places:
            return self.key_places[path]
        while path not in self.places and path:
            path = path[:-1]
        return self.places[path]

    def is_flawed(self, path: KeyPath) -> bool:
        """Whether the YAML itself is wrong at a path or around it."""
        return any(path[:length] in self.flawed for length in range(len(path) + 1))


def build(text: str, name: str, *, source: bytes, root: KeyPath = ()) -> Document:
    """Build the tree of one YAML value.

    Args:
        text: The YAML.
        name: The file as messages name it.
        source: Its bytes, kept in the document.
        root: Where the value will stand in the manifest; () for a whole one.

    Raises:
        BadInput: It is not one YAML value within the limits.
    """
    return _Builder(name, root).build(text, source)


def place_after(text: str, name: str) -> Place:
    """Return the place of the character that follows a text."""
    lines = re.split("\r\n|\r|\n", text)
    return Place.at(name, len(lines), len(lines[-1]) + 1)


@define
class _Frame:
    """An open mapping or sequence; `key` waits for its value."""

    container: dict[str, Any] | list[Any]
    path: KeyPath
    key: str | None = None


@define
class _Builder:
    """Builds one document from parser events."""

    name: str
    root: KeyPath
    places: dict[KeyPath, Place] = field(factory=dict)
    key_places: dict[KeyPath, Place] = field(factory=dict)
    raw: dict[KeyPath, str] = field(factory=dict)
    mistakes: list[Mistake] = field(factory=list)
    flawed: set[KeyPath] = field(factory=set)
    stack: list[_Frame] = field(factory=list)
    discarded: list[tuple[dict[str, Any], str]] = field(factory=list)
    top: Any = None
    nodes: int = 0

    def build(self, text: str, source: bytes) -> Document:
        """Return the document, or raise the mistake that ends the reading."""
        hidden = _UNPRINTABLE.search(text)
        if hidden is not None:
            place = place_after(text[: hidden.start()], self.name)
            self._stop(place, f"the character U+{ord(hidden.group()):04X} is not printable", "remove it")
        documents = 0
        try:
            for event in yaml.parse(text, Loader=_Loader):
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        self._stop(self._at(event), "a second document begins", "keep one manifest in a file")
                elif isinstance(event, yaml.NodeEvent):
                    self._node(event)
                elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                    self.stack.pop()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place.at(self.name, mark.line + 1, mark.column + 1) if mark else self._start()
            self._stop(place, f"not YAML: {error.problem or error.context}", _syntax_hint(text, mark))
        except (yaml.YAMLError, UnicodeError) as error:
            self._stop(self._start(), f"not YAML: {' '.join(str(error).split())}", "correct the file")
        for container, key in self.discarded:
            container.pop(key, None)
        self.places.setdefault((), self._start())
        return Document(
            self.name,
            source,
            self.top,
            self.places,
            self.key_places,
            self.raw,
            tuple(self.mistakes),
            frozenset(self.flawed),
        )

    def _start(self) -> Place:
        return Place.at(self.name, 1, 1)

    def _at(self, event: Any) -> Place:
        mark = event.start_mark
        return Place.at(self.name, mark.line + 1, mark.column + 1)

    def _stop(self, place: Place, what: str, fix: str) -> None:
        raise as_error([*self.mistakes, Mistake(place, what, fix)])

    def _note(self, path: KeyPath, place: Place, what: str, fix: str) -> None:
        self.mistakes.append(Mistake(place, what, fix))
        self.flawed.add(path)

    def _node(self, event: Any) -> None:
        """Take one node: a key if the open mapping waits for one, else a value."""
        place = self._at(event)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self._stop(place, f"more than {MAX_NODES:,} values", "keep long lists in a file of their own")
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.container, dict) and frame.key is None:
            if not isinstance(event, yaml.ScalarEvent):
                self._stop(place, "a key is not a text", "write `name: value`")
            self._key(frame, event, place)
            return
        path: KeyPath
        if frame is None:
            path = ()
        elif isinstance(frame.container, dict):
            assert frame.key is not None
            path = (*frame.path, frame.key)
        else:
            path = (*frame.path, len(frame.container))
        self.places[path] = place
        value: Any = None
        if isinstance(event, yaml.AliasEvent):
            self._note(path, place, f"the alias *{event.anchor} is not allowed", "write the value out again")
        else:
            self._plainly(event, path, place)
            if isinstance(event, yaml.ScalarEvent):
                value = self._scalar(event, path, place)
            else:
                value = {} if isinstance(event, yaml.MappingStartEvent) else []
        if frame is None:
            self.top = value
        elif isinstance(frame.container, dict):
            assert frame.key is not None
            frame.container[frame.key] = value
            frame.key = None
        else:
            frame.container.append(value)
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            if len(self.stack) >= MAX_DEPTH:
                self._stop(place, f"more than {MAX_DEPTH} levels deep", "nest less")
            self.stack.append(_Frame(value, path))

    def _plainly(self, event: Any, path: KeyPath, place: Place) -> None:
        if event.anchor is not None:
            self._note(path, place, f"the anchor &{event.anchor} is not allowed", "write each value out")
        if event.tag is not None:
            self._note(path, place, f"the tag {event.tag} is not allowed", "write the value without a tag")

    def _key(self, frame: _Frame, event: Any, place: Place) -> None:
        key = event.value
        path = (*frame.path, key)
        assert isinstance(frame.container, dict)
        self._plainly(event, path, place)
        plain = event.implicit[0] and not event.style
        if key == "<<" and plain:
            self._note(path, place, "the merge key << is not allowed", "write the keys out")
            self.discarded.append((frame.container, key))
        elif len(key) > MAX_KEY:
            self._stop(place, f"a key is longer than {MAX_KEY} characters", "write a short key")
        elif _HIDDEN.search(key) or _SURROGATE.search(key) or "\n" in key:
            self._note(path, place, f"the key {key!a} holds a hidden character", "remove it")
        elif plain and not isinstance(_value_or_text(key), str):
            self._note(path, place, f"the key {key or 'null'} is not a text", f'write "{key}": in quotes')
        if key in frame.container:
            first = self.key_places[path].text
            self._note(path, place, f"the key {key!r} stands here twice, first at {first}", "remove one")
            key = f"{key} \0{self.nodes}"
            self.discarded.append((frame.container, key))
            path = (*frame.path, key)
            self.flawed.add(path)
        self.key_places[path] = place
        frame.key = key

    def _scalar(self, event: Any, path: KeyPath, place: Place) -> Any:
        text: str = event.value
        full = (*self.root, *path)
        is_text = bool(full) and full[0] == TEXT_ROOT
        if len(text) > MAX_SCALAR and not is_text:
            self._note(
                path,
                place,
                f"the value has {len(text):,} characters, at most {MAX_SCALAR:,} are allowed here",
                "shorten it; long texts belong under `stimulus`",
            )
            return None
        if not event.style and len(text) <= MAX_SCALAR:
            try:
                value = read_plain(text)
            except Refused as refused:
                self._note(path, place, refused.what, refused.fix)
                return None
            if not isinstance(value, str):
                self.raw[path] = text
                return value
        hidden = _SURROGATE.search(text) or (None if is_text else _HIDDEN.search(text))
        if hidden is not None:
            self._note(
                path, place, f"the text holds the hidden character U+{ord(hidden.group()):04X}", "remove it"
            )
            return None
        return text


def _value_or_text(text: str) -> Any:
    try:
        return read_plain(text)
    except Refused:
        return None


def _syntax_hint(text: str, mark: Any) -> str:
    """Guess from the offending line what was meant."""
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "\t" in line:
        return "indent with spaces, not with a tab"
    if line.count(": ") > 1:
        return "put a text that holds `: ` in quotes"
    return "look for a missing quote, bracket or colon on this line or the one before"
