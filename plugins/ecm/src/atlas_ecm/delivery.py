"""A file of answers as a person delivers it: CSV as spreadsheets write it, or JSON lines.

Only its form is read here. Nothing is thrown at the first fault: rows and faults come back together, so
that whoever filled in three hundred rows is told everything at once.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from attrs import frozen

from atlas.errors import BadInput

__all__ = ["COLUMNS", "LARGEST", "Row", "decode", "is_json_lines", "read_rows"]

COLUMNS = ("claim_id", "model", "lineage", "prompt", "score", "answer")
"""Columns of a file of answers; `prompt` may be left out."""

LARGEST = 64 * 2**20
"""Bytes beyond which no file is read."""

_SPREADSHEET_CELL = 32767
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}


@frozen
class Row:
    """One row with its place; `score` is text, or the number that a JSON line held.

    Attributes:
        place: `answers.csv:14`, with the spreadsheet's row added where line breaks in cells make them
            differ.
        cells: By column name, as written.
    """

    place: str
    cells: Mapping[str, Any]

    def at(self, column: str) -> str:
        """Return the place of a cell, for messages."""
        return f"{self.place}, column {column}"


def is_json_lines(name: str) -> bool:
    """Return whether a file of this name is read as JSON lines; any other is read as CSV."""
    return name.lower().endswith((".jsonl", ".ndjson"))


def decode(data: bytes, name: str) -> str:
    """Return the text of a delivered file: UTF-8, or UTF-16 with its byte order mark.

    Raises:
        BadInput: It is something else, too large or empty; the message says how to save it.
    """
    if len(data) > LARGEST:
        raise BadInput(f"{len(data)} bytes, more than {LARGEST}", where=name)
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInput(
            "the file is not UTF-8",
            where=f"{name}:{line}",
            fix='save it as "CSV UTF-8" (Excel) or with the character set UTF-8 (LibreOffice)',
        ) from error
    if "\0" in text:
        raise BadInput("the file holds NUL characters: it is no text file", where=name)
    if not text.strip():
        raise BadInput("the file is empty", where=name)
    return text


def read_rows(text: str, name: str) -> tuple[list[Row], list[str]]:
    """Return the rows of a file and what is wrong with its form; `.jsonl` files hold JSON lines."""
    faults: list[str] = []
    read = _json_lines if is_json_lines(name) else _spreadsheet
    return list(read(text, name, faults)), faults


def _unknown(names: Iterator[str] | list[str], known: tuple[str, ...]) -> str:
    parts = []
    for name in names:
        close = get_close_matches(name.lower(), known, n=1)
        parts.append(f"{name!r}" + (f" (did you mean {close[0]}?)" if close else ""))
    return ", ".join(parts)


def _spreadsheet(text: str, name: str, faults: list[str]) -> Iterator[Row]:
    first = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=lambda s: len(set(COLUMNS) & set(first.strip().split(s))))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] = []
    row_number = 0
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            faults.append(f"{name}:{line}: the row cannot be read ({error}); check its quotation marks")
            return
        if cells is None:
            break
        row_number += 1
        place = f"{name}:{line}" + (f" (row {row_number})" if row_number != line else "")
        while len(cells) > len(header or COLUMNS) and not cells[-1].strip():
            cells.pop()
        if not header:
            header = [cell.strip() for cell in cells]
            faults += _header_faults(header, place)
            if faults:
                return
        elif not any(cell.strip() for cell in cells):
            continue
        elif len(cells) != len(header):
            faults.append(
                f"{place}: expected {len(header)} cells separated by {_SEPARATORS[separator]}, found "
                f"{len(cells)}; a cell that holds one needs quotation marks"
            )
        else:
            row = Row(place, dict(zip(header, cells, strict=True)))
            if len(row.cells["answer"]) == _SPREADSHEET_CELL:
                faults.append(
                    f"{row.at('answer')}: exactly {_SPREADSHEET_CELL} characters, where spreadsheets cut a "
                    "cell; deliver long answers as JSON lines"
                )
            yield row


def _header_faults(header: list[str], place: str) -> list[str]:
    faults = []
    if unknown := [cell for cell in header if cell not in COLUMNS]:
        faults.append(f"{place}: unknown column {_unknown(unknown, COLUMNS)}")
    if doubled := sorted({cell for cell in header if header.count(cell) > 1}):
        faults.append(f"{place}: column {', '.join(doubled)} appears twice")
    if missing := [c for c in COLUMNS if c not in header and c != "prompt"]:
        faults.append(
            f"{place}: column {', '.join(missing)} is missing; `atlas bsa template` writes a file to fill in"
        )
    return faults


def _json_lines(text: str, name: str, faults: list[str]) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        place = f"{name}:{number}"
        if not line.strip():
            continue
        try:
            entry = json.loads(line, object_pairs_hook=_distinct, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            faults.append(f"{place}: not a JSON object: {error}")
            continue
        if not isinstance(entry, dict):
            faults.append(f"{place}: not a JSON object")
            continue
        if unknown := [key for key in entry if key not in COLUMNS]:
            faults.append(f"{place}: unknown key {_unknown(unknown, COLUMNS)}")
            continue
        row = Row(place, {column: entry.get(column, "") for column in COLUMNS})
        wrong = [
            column
            for column, cell in row.cells.items()
            if not isinstance(cell, str)
            and not (column == "score" and isinstance(cell, (int, float)) and not isinstance(cell, bool))
        ]
        faults += [f"{row.at(column)}: expected text" for column in wrong]
        if not wrong:
            yield row


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")
