"""Whether a large CSV fits its schema, column by column: the quick answer before the exact one.

`atlas.tables.read_csv` says which cell is wrong and makes a row of each line; a verifier of large
tables mostly needs to hear that nothing is wrong.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from itertools import islice

from atlas.tables import Column, TableSchema

__all__ = ["fits"]

_ROWS = 1_000
_NUMBERS: dict[str, Callable[[str], object]] = {"number": float, "integer": int}


def fits(schema: TableSchema, data: bytes) -> bool:
    """Return True if `read_csv` would accept the bytes; False means that it has to be asked."""
    stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
    reader = csv.reader(stream, strict=True)
    width = len(schema.columns)
    try:
        if next(reader, []) != [column.name for column in schema.columns]:
            return False
        while rows := list(islice(reader, _ROWS)):
            if set(map(len, rows)) != {width}:
                return False
            cells = zip(*rows, strict=True)
            if not all(map(_fits, schema.columns, cells)):
                return False
    except (ValueError, csv.Error):
        return False
    return True


def _fits(column: Column, cells: Sequence[str]) -> bool:
    """Check a column's cells; a number that is none raises ValueError."""
    filled = cells if all(cells) else [cell for cell in cells if cell]
    if column.required and len(filled) != len(cells):
        return False
    if column.type == "boolean":
        return set(filled) <= {"true", "false"}
    if column.type in _NUMBERS:
        for _ in map(_NUMBERS[column.type], filled):
            pass
    return True
