"""CSV with a Table Schema beside it, and cells that are blank by judgement.

A schema is written in the Table Schema vocabulary (Frictionless), so that any tool of that family
reads the tables. One property is added, `atlas:judgement: human`: such a column belongs to the
Technician, is written empty, and no writer here accepts a value for it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from attrs import frozen

from atlas.errors import BadInput

__all__ = ["QUANTITIES", "Column", "TableSchema", "read_csv", "to_csv"]

ColumnType = Literal["string", "number", "integer", "boolean"]
Cell = str | float | int | bool | None


@frozen
class Column:
    """One column: its type, what it holds, and whether only a person may fill it."""

    name: str
    type: ColumnType
    description: str
    unit: str | None = None
    required: bool = False
    enum: tuple[str, ...] = ()
    judgement: bool = False

    def descriptor(self) -> dict[str, Any]:
        """Return the column as a Table Schema field descriptor."""
        result: dict[str, Any] = {
            "name": self.name,
            "type": self.type,
            "description": self.description,
        }
        constraints: dict[str, Any] = {}
        if self.required:
            constraints["required"] = True
        if self.enum:
            constraints["enum"] = list(self.enum)
        if constraints:
            result["constraints"] = constraints
        if self.unit is not None:
            result["unit"] = self.unit
        if self.judgement:
            result["atlas:judgement"] = "human"
        return result


@frozen
class TableSchema:
    """A named, versioned table.

    Attributes:
        name: Lower-case words joined by `-`; also the file's stem.
        version: Raised whenever a column changes its meaning.
        description: One sentence.
        columns: In file order.
        primary_key: Names of the columns that identify a row.
    """

    name: str
    version: int
    description: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()

    @property
    def identifier(self) -> str:
        """`name/version`, as cards and records cite it."""
        return f"{self.name}/{self.version}"

    def descriptor(self) -> dict[str, Any]:
        """Return the schema as a Table Schema descriptor."""
        result: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "fields": [column.descriptor() for column in self.columns],
            "missingValues": [""],
        }
        if self.primary_key:
            result["primaryKey"] = list(self.primary_key)
        return result

    @classmethod
    def from_descriptor(cls, data: Mapping[str, Any]) -> TableSchema:
        """Read a descriptor that `descriptor` wrote."""
        return cls(
            name=data["name"],
            version=data["version"],
            description=data["description"],
            columns=tuple(
                Column(
                    name=item["name"],
                    type=item["type"],
                    description=item["description"],
                    unit=item.get("unit"),
                    required=item.get("constraints", {}).get("required", False),
                    enum=tuple(item.get("constraints", {}).get("enum", ())),
                    judgement=item.get("atlas:judgement") == "human",
                )
                for item in data["fields"]
            ),
            primary_key=tuple(data.get("primaryKey", ())),
        )


def _encode(schema: TableSchema, number: int, column: Column, value: Cell) -> str:
    where = f"table {schema.identifier}, row {number}, column {column.name}"
    if column.judgement:
        if value not in (None, ""):
            raise BadInput("the cell is a Technician's call and stays blank", where=where)
        return ""
    if value is None or value == "":
        if column.required:
            raise BadInput("a value is required", where=where)
        return ""
    if column.type == "boolean":
        if not isinstance(value, bool):
            raise BadInput(f"expected true or false, found {value!r}", where=where)
        return "true" if value else "false"
    if column.type == "string":
        if not isinstance(value, str):
            raise BadInput(f"expected text, found {value!r}", where=where)
        if column.enum and value not in column.enum:
            raise BadInput(f"{value!r} is none of {', '.join(column.enum)}", where=where)
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadInput(f"expected a {column.type}, found {value!r}", where=where)
    if column.type == "integer":
        if int(value) != value:
            raise BadInput(f"expected an integer, found {value!r}", where=where)
        return str(int(value))
    if not math.isfinite(value):
        raise BadInput(f"expected a finite number, found {value!r}", where=where)
    return repr(float(value))


def to_csv(schema: TableSchema, rows: Iterable[Mapping[str, Cell]]) -> bytes:
    """Encode rows as RFC 4180 CSV in UTF-8, floats with their shortest exact spelling.

    Raises:
        BadInput: A row has an unknown column, a cell of another type, an empty required cell, or a
            value where only a person may write one. The message names table, row and column.
    """
    names = [column.name for column in schema.columns]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(names)
    for number, row in enumerate(rows, start=1):
        unknown = sorted(set(row) - set(names))
        if unknown:
            raise BadInput(
                f"unknown column {', '.join(unknown)}",
                where=f"table {schema.identifier}, row {number}",
            )
        writer.writerow([_encode(schema, number, c, row.get(c.name)) for c in schema.columns])
    return buffer.getvalue().encode("utf-8")


def _decode(column: Column, text: str, where: str) -> Cell:
    if text == "":
        if column.required:
            raise BadInput("a value is required", where=where)
        return None
    if column.type == "string":
        return text
    if column.type == "boolean":
        if text not in ("true", "false"):
            raise BadInput(f"expected true or false, found {text!r}", where=where)
        return text == "true"
    try:
        return int(text) if column.type == "integer" else float(text)
    except ValueError:
        raise BadInput(f"expected a {column.type}, found {text!r}", where=where) from None


def read_csv(schema: TableSchema, data: bytes, *, where: str) -> list[dict[str, Cell]]:
    """Decode CSV bytes by their schema; a byte order mark and any line ending are accepted.

    Raises:
        BadInput: Not UTF-8, not CSV, another header, a ragged row or a cell of another type; the
            message starts with `where` and the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8: {error}", where=where) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return _rows(schema, reader, where)
    except csv.Error as error:
        raise BadInput(f"not CSV: {error}", where=f"{where}:{reader.line_num}") from error


def _rows(schema: TableSchema, reader: Any, where: str) -> list[dict[str, Cell]]:
    names: Sequence[str] = next(reader, [])
    expected = [column.name for column in schema.columns]
    if list(names) != expected:
        raise BadInput(f"expected the columns {', '.join(expected)}", where=f"{where}:1")
    rows = []
    for cells in reader:
        place = f"{where}:{reader.line_num}"
        if len(cells) != len(expected):
            raise BadInput(f"expected {len(expected)} cells, found {len(cells)}", where=place)
        rows.append(
            {
                column.name: _decode(column, cell, f"{place}, column {column.name}")
                for column, cell in zip(schema.columns, cells, strict=True)
            }
        )
    return rows


QUANTITIES = TableSchema(
    name="quantities",
    version=1,
    description="Measured quantities of one step, each with its uncertainty.",
    columns=(
        Column("quantity", "string", "Name of the quantity.", required=True),
        Column("slice", "string", "Stimulus slice; `all` where undivided.", required=True),
        Column("index", "integer", "Position among quantities of the same name."),
        Column("value", "number", "The value in `unit`; empty where undefined."),
        Column("uncertainty", "number", "Uncertainty in `unit`, of the kind in the next column."),
        Column("uncertainty_kind", "string", "What the uncertainty is.", required=True),
        Column("low", "number", "Lower end of an asymmetric interval."),
        Column("high", "number", "Upper end of an asymmetric interval."),
        Column("unit", "string", "Unit; `1` for a pure number.", required=True),
        Column("converged", "boolean", "The method met its stopping rule.", required=True),
        Column("num_matvecs", "integer", "Matrix-vector products behind it."),
        Column("num_samples", "integer", "Probes, sessions or items behind it."),
        Column("note", "string", "Reason or caveat."),
    ),
)
"""The table that every instrument fills; `Quantity.as_record` gives its rows."""
