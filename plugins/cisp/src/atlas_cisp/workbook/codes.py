"""The sheet on which the Technician gives codes: cells of sealed tables that are blank by judgement.

What was given before, by whomever, is not shown: who codes sees the rows alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from atlas.governance import interpretation_closed
from atlas.judgements import BlankTable, Key, blank_tables
from atlas.record import RunView
from atlas_cisp.workbook.cells import Cell, Sheet, visible

__all__ = ["CODES", "MOST_ROWS", "codes", "given_codes"]

CODES = "Technician's Codes"
MOST_ROWS = 1_000
"""Rows of a table beyond which it is left to `atlas code`."""


def codes(view: RunView) -> tuple[Sheet, ...]:
    """Return the sheet, where the run has rows to judge and is open to it."""
    tables = blank_tables(view)
    if not tables or interpretation_closed(view) is not None:
        return ()
    width = max(len(table.header) for table in tables)
    cells = [
        Cell(1, 1, CODES, "title", width),
        Cell(
            2, 1, f"Run {view.run_id}. Codes are the Technician's alone; leave open what is.", "note", width
        ),
    ]
    row = 4
    for number, table in enumerate(tables):
        cells += _table(number, table, row)
        row += len(table.rows) + 3
    return (Sheet(CODES, (30,) * width, tuple(cells), frozen_rows=2),)


def _table(number: int, table: BlankTable, row: int) -> Iterator[Cell]:
    span = len(table.header)
    if len(table.rows) > MOST_ROWS:
        yield Cell(
            row, 1, f"{table.step}, {table.name}: {len(table.rows)} rows; use atlas code", "note", span
        )
        return
    yield Cell(row, 1, f"{table.step}, {table.name}", "label", span)
    for column, title in enumerate(table.header, start=1):
        yield Cell(row + 1, column, title, "head")
    first = len(table.schema.primary_key) + 1
    for line, key in enumerate(table.rows, start=row + 2):
        for column, value in enumerate(key, start=1):
            yield Cell(line, column, visible(value, f"{table.name} of step {table.step}"), "value")
        for column, blank in enumerate(table.columns, start=first):
            name = _name(number, line - row - 2, blank.name)
            yield Cell(line, column, "", "line", name=name, choices=blank.enum)


def _name(table: int, row: int, column: str) -> str:
    return f"code_{table}_{row}_{column}"


def given_codes(
    view: RunView, texts: Mapping[str, str]
) -> Iterator[tuple[BlankTable, dict[Key, dict[str, str]]]]:
    """Yield each table with what a person wrote into its cells, by key and column; open cells are absent."""
    for number, table in enumerate(blank_tables(view)):
        given: dict[Key, dict[str, str]] = {}
        for line, key in enumerate(table.rows):
            for column in table.columns:
                text = texts.get(_name(number, line, column.name), "")
                if text:
                    given.setdefault(key, {})[column.name] = text
        if given:
            yield table, given
