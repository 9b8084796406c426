"""Stimulus sources `text` and `file`: items from the manifest itself, or read line by line from a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atlas.contracts import StimulusItem
from atlas.errors import BadInput

__all__ = ["FileSource", "TextSource"]

_BOM = b"\xef\xbb\xbf"


class TextSource:
    """Texts written in the manifest."""

    def items(self, params: Mapping[str, Any], folder: Path) -> Iterator[StimulusItem]:
        """Yield `texts` in order, with ids `text-1`, `text-2`."""
        for number, text in enumerate(params["texts"], start=1):
            if not text.strip():
                raise BadInput(f"text {number} is empty", where=f"stimulus.texts[{number - 1}]")
            yield StimulusItem(f"text-{number}", text)


class FileSource:
    """Items of one file: a line or block of a .txt, a line of a .jsonl, a record of a .csv.

    The file is read once, front to back, in strict UTF-8 (a byte order mark is skipped); the ids are
    `line-<number>` of the item's first line, or the file's own field `id`.
    """

    def items(self, params: Mapping[str, Any], folder: Path) -> Iterator[StimulusItem]:
        """Yield the items.

        Raises:
            BadInput: With `file:line` where the content cannot be used.
        """
        path = folder / params["path"]
        readers = {".txt": _text_items, ".jsonl": _jsonl_items, ".csv": _csv_items}
        reader = readers.get(path.suffix.lower())
        if reader is None:
            raise BadInput(
                f"{path.suffix or 'this file'} is not read as a stimulus",
                where=str(path),
                fix=f"write one of: {', '.join(readers)}",
            )
        empty = True
        for item in reader(path, params):
            empty = False
            yield item
        if empty:
            raise BadInput("the file holds no items", where=str(path))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and line, with its line feed; other line separators stay in the text."""
    try:
        with path.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                data = raw.removeprefix(_BOM) if number == 1 else raw
                try:
                    yield number, data.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise BadInput(
                        f"byte {error.object[error.start]:#04x} is not UTF-8",
                        where=f"{path}:{number}:{error.start + 1}",
                        fix="save the file as UTF-8",
                    ) from error
    except OSError as error:
        raise BadInput(f"the file cannot be read: {error.strerror or error}", where=str(path)) from error


def _text_items(path: Path, params: Mapping[str, Any]) -> Iterator[StimulusItem]:
    separator = params.get("separator")
    block: list[str] = []
    first = 1
    for number, line in _lines(path):
        bare = line.rstrip("\r\n")
        if separator is None:
            if bare.strip():
                yield StimulusItem(f"line-{number}", bare)
        elif bare.strip() == separator.strip():
            yield from _block(block, first)
            block, first = [], number + 1
        else:
            block.append(bare)
    yield from _block(block, first)


def _block(lines: list[str], first: int) -> Iterator[StimulusItem]:
    filled = [index for index, line in enumerate(lines) if line.strip()]
    if filled:
        yield StimulusItem(f"line-{first + filled[0]}", "\n".join(lines[filled[0] : filled[-1] + 1]))


def _jsonl_items(path: Path, params: Mapping[str, Any]) -> Iterator[StimulusItem]:
    name = params.get("text", "text")
    for number, line in _lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            column = getattr(error, "colno", 1)
            reason = getattr(error, "msg", str(error))
            raise BadInput(f"the line is not JSON: {reason}", where=f"{where}:{column}") from error
        if not isinstance(record, dict):
            raise BadInput("the line is not a JSON object", where=where, fix='write {"text": "..."}')
        yield _item(record, name, number, where)


def _csv_items(path: Path, params: Mapping[str, Any]) -> Iterator[StimulusItem]:
    name = params.get("text", "text")
    lines = _lines(path)
    header = next(lines, None)
    if header is None:
        return
    delimiter, columns = _header(header[1], name, path)
    reader = csv.reader((line for _, line in lines), delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 2  # of the record's first line; the header is line 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise BadInput(f"the record is not CSV: {error}", where=f"{path}:{number}") from error
        if values is None:
            return
        if not any(value.strip() for value in values):
            continue
        if len(values) != len(columns):
            raise BadInput(
                f"the record has {len(values)} cells and the header {len(columns)}",
                where=f"{path}:{number}",
                fix="put a text that holds the separator or a quotation mark in quotation marks",
            )
        yield _item(dict(zip(columns, values, strict=True)), name, number, f"{path}:{number}")


def _header(line: str, name: str, path: Path) -> tuple[str, list[str]]:
    """Return the separator, under which the header has the text's column, and the columns."""
    for delimiter in (",", ";", "\t"):
        columns = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
        if name in columns:
            twice = sorted({column for column in columns if columns.count(column) > 1})
            if twice:
                raise BadInput(f"the column {twice[0]!r} is there twice", where=f"{path}:1")
            return delimiter, columns
    raise BadInput(
        f"there is no column {name!r} in the header: {line.strip()}",
        where=f"{path}:1",
        fix="write a header line, and set `text` to the column that holds the texts",
    )


def _item(record: Mapping[str, Any], name: str, number: int, where: str) -> StimulusItem:
    text = record.get(name)
    if not isinstance(text, str) or not text.strip():
        raise BadInput(f"the field {name!r} is missing or holds no text", where=where)
    attributes = {}
    for key, value in record.items():
        if key in (name, "id") or value is None:
            continue
        if isinstance(value, (dict, list)):
            raise BadInput(f"the attribute {key!r} is no plain value", where=where, fix="write a text")
        attributes[key] = value if isinstance(value, str) else json.dumps(value)
    given = record.get("id")
    return StimulusItem(f"line-{number}" if given in (None, "") else str(given), text, attributes)
