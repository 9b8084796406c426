"""What people put into cells that are blank by judgement: sealed beside the tables, never in them.

A table with such columns stays as the instrument wrote it. What a coder decides is a file of its own,
`answers/judgements/<step>.<table>.<number>.csv`, sealed with the role `judgement`: a row for each row of the
table that the coder judged, with the coder's name, how it was given, the table's key and its blank columns.
Files are only added. Where a coder judged a cell twice, the later file counts and the earlier one stays.

The only way to such a file leads through `seal_judgements`, from a command that a person gives. An instrument
writes below `raw/` alone, and a model's answer is a text under `answers/` that nothing here reads.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

from atlas.errors import BadInput
from atlas.governance import interpretation_closed
from atlas.record import Event, RunView
from atlas.tables import Column, TableSchema, read_csv

if TYPE_CHECKING:
    from atlas.contracts import Workspace

__all__ = [
    "ROLE",
    "BlankTable",
    "Judgements",
    "Key",
    "blank_tables",
    "judgements",
    "seal_judgements",
    "settled",
]

ROLE = "judgement"
"""Role of a sealed file of judgements."""

_FOLDER = "answers/judgements/"
_OWN = ("coder", "via")

Key = tuple[str, ...]
"""The values of a table's primary key in one row, as they stand in its file."""


@frozen
class BlankTable:
    """A sealed table with columns that only a person may fill.

    Attributes:
        step: The step that wrote it.
        name: Its name, the stem of its file.
        schema: Its schema.
        rows: Its rows, by key, in their order.
    """

    step: str
    name: str
    schema: TableSchema
    rows: Mapping[Key, Mapping[str, object]] = field(repr=False)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that are a person's."""
        return tuple(column for column in self.schema.columns if column.judgement)

    @property
    def header(self) -> tuple[str, ...]:
        """Columns of a file to fill in: the key, then what is a person's."""
        return (*self.schema.primary_key, *(column.name for column in self.columns))


@frozen
class Judgements:
    """What one coder decided about a table.

    Attributes:
        coder: Who.
        values: Column -> value by key; cells that the coder left open are absent.
        events: The events that sealed it, in order.
    """

    coder: str
    values: Mapping[Key, Mapping[str, str]]
    events: tuple[Event, ...]


def blank_tables(view: RunView) -> tuple[BlankTable, ...]:
    """Return the sealed tables of a run that have columns for a person, in the order of sealing.

    Raises:
        IntegrityBroken: A file differs from what was sealed.
    """
    found = []
    for path, artifact in view.artifacts.items():
        if not path.startswith("raw/") or not path.endswith(".schema.json"):
            continue
        schema = TableSchema.from_descriptor(json.loads(view.read(path)))
        stem = path.removesuffix(".schema.json")
        table = f"{stem}.csv"
        if (
            schema.primary_key
            and any(column.judgement for column in schema.columns)
            and table in view.artifacts
        ):
            rows = read_csv(schema, view.read(table), where=table)
            keyed = {tuple(str(row[name]) for name in schema.primary_key): row for row in rows}
            found.append(BlankTable(artifact.step or path.split("/")[1], stem.split("/")[-1], schema, keyed))
    return tuple(found)


def judgements(view: RunView, table: BlankTable) -> Mapping[str, Judgements]:
    """Return what each coder decided about a table, by coder, in the order in which they began.

    Raises:
        IntegrityBroken: A file differs from what was sealed.
    """
    prefix = f"{_FOLDER}{table.step}.{table.name}."
    values: dict[str, dict[Key, dict[str, str]]] = {}
    events: dict[str, list[Event]] = {}
    for event in view.of("sealed"):
        path = str(event.data["path"])
        if event.data["role"] != ROLE or not path.startswith(prefix):
            continue
        for row in csv.DictReader(io.StringIO(view.text(path), newline="")):
            coder = row["coder"]
            key = tuple(row[name] for name in table.schema.primary_key)
            given = {column.name: row[column.name] for column in table.columns if row[column.name]}
            values.setdefault(coder, {}).setdefault(key, {}).update(given)
            if event not in events.setdefault(coder, []):
                events[coder].append(event)
    return {coder: Judgements(coder, found, tuple(events[coder])) for coder, found in values.items()}


def settled(column: Column, text: str, where: str) -> str:
    """Return a cell as a person wrote it, in the spelling of the column's values; empty if left open.

    Raises:
        BadInput: The column knows no such value.
    """
    plain = " ".join(text.split())
    if not plain or not column.enum:
        return plain
    known = {value.casefold(): value for value in column.enum}
    if plain.casefold() not in known:
        raise BadInput(f"{plain!r} is none of {', '.join(column.enum)}", where=where)
    return known[plain.casefold()]


def seal_judgements(
    workspace: Workspace,
    run: str,
    table: BlankTable,
    coder: str,
    given: Mapping[Key, Mapping[str, str]],
    *,
    via: str,
    amend: bool = False,
) -> str | None:
    """Seal what a person decided about rows of a table and return the file's path; None if nothing is new.

    Args:
        workspace: Holds the run.
        run: Id or path.
        table: The table.
        coder: Who decided; typed by that person.
        given: Column -> value by key; an empty value leaves the cell as it is.
        via: Where it came from: `terminal`, `file`, `workbook`.
        amend: Accept another value for a cell that this coder has judged.

    Raises:
        BadInput: Nobody signs, interpretation is closed, the run is abandoned, a row, column or value is
            unknown, or a cell was judged otherwise before and `amend` is not given. Nothing is sealed then.
    """
    view = workspace.view(run)
    name = " ".join(coder.split())
    if not name:
        raise BadInput("a judgement needs its coder's name")
    if view.last("abandoned"):
        raise BadInput(f"{view.run_id} is abandoned")
    closed = interpretation_closed(view)
    if closed is not None:
        raise BadInput(
            f"{view.run_id} is not open to judgement yet: {closed}", fix=f"atlas status {view.run_id}"
        )
    earlier = judgements(view, table).get(name)
    fresh = {
        key: changed
        for key, cells in given.items()
        if (changed := dict(_fresh(table, key, cells, earlier.values.get(key, {}) if earlier else {}, amend)))
    }
    if not fresh:
        return None
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow((*_OWN, *table.header))
    for key, cells in fresh.items():
        writer.writerow((name, via, *key, *(cells.get(column.name, "") for column in table.columns)))
    prefix = f"{_FOLDER}{table.step}.{table.name}."
    number = 1 + sum(path.startswith(prefix) for path in view.artifacts)
    path = f"{prefix}{number}.csv"
    workspace.attach(run, path, buffer.getvalue().encode("utf-8"), role=ROLE)
    return path


def _fresh(
    table: BlankTable, key: Key, cells: Mapping[str, str], earlier: Mapping[str, str], amend: bool
) -> Iterator[tuple[str, str]]:
    """Yield the cells of a row that say something new.

    Raises:
        BadInput: See `seal_judgements`.
    """
    where = f"{table.name}, row {' '.join(key)}"
    if key not in table.rows:
        raise BadInput("there is no such row", where=where)
    columns = {column.name: column for column in table.columns}
    for name, text in cells.items():
        if name not in columns:
            raise BadInput(f"{name!r} is no column for a person", where=where)
        value = settled(columns[name], text, f"{where}, column {name}")
        if not value or earlier.get(name) == value:
            continue
        if name in earlier and not amend:
            raise BadInput(
                f"this coder gave {earlier[name]} before, and now {value}",
                where=f"{where}, column {name}",
                fix="a judgement is not replaced; add --amend to seal the new one beside it",
            )
        yield name, value
