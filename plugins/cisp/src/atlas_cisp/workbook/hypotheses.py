"""The sheet of a run's hypotheses: what was declared, and once Read #1 is sealed what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from atlas.outcomes import verdicts
from atlas.record import RunView
from atlas_cisp.workbook.cells import Cell, Kind, Sheet, Value, visible

__all__ = ["HYPOTHESES", "hypotheses"]

HYPOTHESES = "Hypotheses"

_DECLARED = (
    ("Hypothesis", 12), ("Quantity", 24), ("Group", 26), ("Expected", 11), ("Against", 26),
    ("Smallest effect", 11), ("Alpha", 8),
)  # fmt: skip
_VERDICTS = (
    ("Hypothesis", 12, "hypothesis"), ("Registered", 24, "registered"), ("Verdict", 26, "verdict"),
    ("Effect", 11, "effect"), ("Unit", 26, "unit"), ("Low", 11, "low"), ("High", 11, "high"),
    ("Interval's level", 11, "coverage"), ("p", 10, "p"), ("p after Holm", 10, "p_holm"),
    ("p against", 10, "p_opposite"), ("p against after Holm", 12, "p_opposite_holm"),
    ("Slices", 9, "n_group"), ("Against", 9, "n_against"), ("How it was tested", 44, "design"),
    ("Note", 44, "note"),
)  # fmt: skip


def hypotheses(view: RunView) -> tuple[Sheet, ...]:
    """Return the sheet, where the run declared hypotheses or one was added later."""
    declared = view.manifest.get("declare") or []
    judged = verdicts(view)
    if not declared and not judged:
        return ()
    cells = [Cell(1, 1, HYPOTHESES, "title", 8), *_declared(declared)]
    row = len(declared) + 5
    cells.append(Cell(row, 1, "Verdicts", "title", 8))
    state = view.gates.get("read-1")
    if state is None or state.answered is None:
        closed = "Closed until Read #1 is sealed. Then make a fresh copy of the workbook."
        cells.append(Cell(row + 1, 1, closed, "note", 8))
    else:
        cells += _judged(judged, row + 1)
    return (Sheet(HYPOTHESES, tuple(width for _, width, _ in _VERDICTS), tuple(cells), frozen_rows=2),)


def _declared(declared: list[Mapping[str, Any]]) -> Iterator[Cell]:
    note = "Declared before Read #0 and sealed with the manifest." if declared else "None was declared."
    yield Cell(2, 1, note, "note", 8)
    if declared:
        yield from (Cell(3, n, title, "head") for n, (title, _) in enumerate(_DECLARED, start=1))
    for row, one in enumerate(declared, start=4):
        keys = ("id", "quantity", "group", "expect", "against", "smallest_effect", "alpha")
        for column, key in enumerate(keys, start=1):
            yield _cell(row, column, one.get(key))


def _judged(rows: list[dict[str, Any]], row: int) -> Iterator[Cell]:
    if not rows:
        yield Cell(row, 1, "None yet: the run goes on with atlas resume.", "note", 8)
        return
    note = (
        "What the numbers say by a rule that was fixed before. What it means is yours to write, in Read #2."
    )
    yield Cell(row, 1, note, "note", 8)
    yield from (Cell(row + 1, n, title, "head") for n, (title, _, _) in enumerate(_VERDICTS, start=1))
    for line, found in enumerate(rows, start=row + 2):
        for column, (_, _, key) in enumerate(_VERDICTS, start=1):
            yield _cell(line, column, found[key], kind="label" if key == "verdict" else "value")


def _cell(row: int, column: int, value: Any, kind: Kind = "value") -> Cell:
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} {wanted}" for name, wanted in value.items())
    if isinstance(value, str):
        return Cell(row, column, visible(value, f"sheet {HYPOTHESES}"), kind)
    number: Value = value
    return Cell(row, column, number, "figure")
