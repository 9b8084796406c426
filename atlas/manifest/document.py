"""The strict YAML of a manifest, with the place of every key and value.

Refused: anchors, aliases, merge keys, tags, duplicate or non-text keys, several documents, more than 32
levels, 10,000 nodes or 1 MiB, bytes that are not UTF-8, long or unprintable scalars outside the
stimulus, and scalars that YAML 1.1 misreads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve

from atlas.errors import BadInput
from atlas.manifest.mistakes import Mistake, Place, as_error
from atlas.manifest.tree import Document, KeyPath, build, place_after

__all__ = ["Document", "KeyPath", "load_document", "parse_document", "parse_value", "with_value"]

MAX_BYTES = 1024 * 1024


def read_source(path: Path) -> bytes:
    """Return a manifest's bytes.

    Raises:
        BadInput: There is no readable file, or it is larger than a manifest may be.
    """
    try:
        with path.open("rb") as file:
            source = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(
            f"the manifest cannot be read: {error.strerror or error}",
            where=str(path),
            fix="give the path of a manifest, a YAML file",
        ) from error
    if len(source) > MAX_BYTES:
        raise as_error(
            [
                Mistake(
                    Place.at(str(path), 1, 1),
                    f"the file is larger than {MAX_BYTES // 1024} KiB",
                    "keep long texts in a file of their own: `stimulus: {use: file, path: ...}`",
                )
            ]
        )
    return source


def load_document(path: Path) -> Document:
    """Read a manifest from a file.

    Raises:
        BadInput: The file cannot be read or is not strict YAML; the message lists what is wrong as
            `file:line:column: what; what to write instead`.
    """
    document = parse_document(read_source(path), str(path))
    if document.mistakes:
        raise as_error(document.mistakes)
    return document


def parse_document(source: bytes, name: str) -> Document:
    """Parse a manifest; mistakes that leave a readable tree are kept in the document.

    Raises:
        BadInput: The bytes are not one YAML mapping within the limits.
    """
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = source[: error.start].decode("utf-8", "replace")
        raise as_error(
            [Mistake(place_after(good, name), "a byte is not UTF-8", "save the file as UTF-8")]
        ) from None
    document = build(text, name, source=source)
    if not isinstance(document.data, dict):
        raise as_error(
            [
                Mistake(
                    document.place(()),
                    "a manifest is a mapping of keys",
                    "begin with `atlas: 1`, then `name: ...`",
                )
            ]
        )
    return document


def parse_value(text: str, name: str, path: KeyPath) -> Document:
    """Parse one value under the same rules, such as the right side of `--set`.

    Args:
        text: YAML, a scalar or a flow collection.
        name: What messages name as the place.
        path: Where the value will stand in the manifest.

    Raises:
        BadInput: It is not one YAML value within the limits.
    """
    return build(text, name, source=text.encode("utf-8", "surrogatepass"), root=path)


def with_value(document: Document, path: KeyPath, value: Document) -> Document:
    """Return a document in which the value at `path` was replaced, keeping the new value's places.

    Missing mappings on the way are made. The caller has checked that the way leads through mappings
    and existing list elements only.
    """
    data = _replaced(document.data, path, value.data)
    depth = len(path)
    places = {p: place for p, place in document.places.items() if p[:depth] != path}
    keys = {p: place for p, place in document.key_places.items() if p[:depth] != path}
    raw = {p: text for p, text in document.raw.items() if p[:depth] != path}
    for length in range(1, depth):
        places.setdefault(path[:length], value.places[()])
    places.update({(*path, *p): place for p, place in value.places.items()})
    keys.update({(*path, *p): place for p, place in value.key_places.items()})
    keys[path] = value.places[()]
    raw.update({(*path, *p): text for p, text in value.raw.items()})
    return evolve(document, data=data, places=places, key_places=keys, raw=raw)


def _replaced(data: Any, path: KeyPath, value: Any) -> Any:
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(data, list):
        assert isinstance(head, int)
        return [_replaced(item, rest, value) if n == head else item for n, item in enumerate(data)]
    mapping = dict(data) if isinstance(data, dict) else {}
    mapping[head] = _replaced(mapping.get(head), rest, value)
    return mapping
