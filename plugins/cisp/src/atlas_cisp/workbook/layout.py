"""What stands in which cell of a run's workbook; nothing here knows of openpyxl.

The layout is a pure function of the journal up to a head: no clock, no version of what is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from atlas.record import RunView
from atlas_cisp.gates import GATES, ITEMS, READS, SANITISATION
from atlas_cisp.links import PROVISIONAL, link_sheet
from atlas_cisp.order import Order
from atlas_cisp.workbook.cells import LONGEST, Cell, Sheet, Value, visible
from atlas_cisp.workbook.codes import codes
from atlas_cisp.workbook.hypotheses import hypotheses
from atlas_cisp.workbook.metadata import environment, metadata

__all__ = ["OPERATOR", "PREDICTION", "SHEETS", "TEMPLATE", "lay_out"]

TEMPLATE = "2"
"""Raised whenever a cell moves, so that an older copy is refused and not misread."""
SHEETS = ("Sanitization & Environment", "Run Metadata", "Technician's Read", "Lossyscape Link")
OPERATOR = "operator"
PREDICTION = "read_0_number"


def lay_out(view: RunView) -> tuple[Sheet, ...]:
    """Return the four sheets for a run as its journal stands, those of its hypotheses and of open codes.

    Raises:
        BadInput: A text of the run does not fit into a cell.
        IntegrityBroken: A sealed file differs from what was sealed.
    """
    four = (_sanitisation(view), _metadata(view), _reads(view), _links(view))
    return (*four, *hypotheses(view), *codes(view))


def _answered(view: RunView, gate: str) -> bool:
    state = view.gates.get(gate)
    return state is not None and state.answered is not None


def _sanitisation(view: RunView) -> Sheet:
    done = _answered(view, SANITISATION)
    hint = (
        "This sheet is sealed."
        if done
        else "Choose ☑ for every line that is true now. A line that is not true is put right first."
    )
    cells = [
        Cell(1, 1, "Sanitization & Environment", "title", 4),
        Cell(2, 1, f"Run {view.run_id}. {hint}", "note", 4),
        Cell(3, 1, "No.", "head"),
        Cell(3, 2, "Line", "head", 2),
        Cell(3, 4, "Done", "head"),
    ]
    row = 3
    for row, (item, text) in enumerate(ITEMS.items(), start=4):
        name = f"san_item_{item.removeprefix('S')}"
        box = Cell(row, 4, "☑", "sealed") if done else Cell(row, 4, "☐", "box", name=name)
        cells += [Cell(row, 1, item, "label"), Cell(row, 2, text, "value", 2), box]
    cells += [Cell(row + 2, 1, "Environment as recorded", "head", 4)]
    cells += _pairs(environment(view), row + 3, label_span=2, value_column=3, value_span=2)
    return Sheet(SHEETS[0], (7, 32, 68, 9), tuple(cells), frozen_rows=3)


def _pairs(
    pairs: Sequence[tuple[str, str]], row: int, *, label_span: int, value_column: int, value_span: int
) -> Iterator[Cell]:
    for number, (label, value) in enumerate(pairs, start=row):
        yield Cell(number, 1, visible(label, SHEETS[0]), "label", label_span)
        yield Cell(number, value_column, visible(value, f"{label} of the run"), "value", value_span)


_FIGURES = (
    ("Step", 13), ("Quantity", 19), ("Slice", 12), ("Index", 7), ("Value", 14), ("Uncertainty", 13),
    ("Kind of uncertainty", 17), ("Low", 12), ("High", 12), ("Unit", 11), ("Converged", 13), ("Products", 10),
    ("Samples", 10), ("Note", 34),
)  # fmt: skip


def _metadata(view: RunView) -> Sheet:
    governance = view.manifest.get("governance")
    operator = str(governance.get("operator") or "") if isinstance(governance, dict) else ""
    cells = [
        Cell(1, 1, "Run Metadata", "title", 8),
        Cell(
            2, 1, "Filled in from the run's record. Only the operator's name is yours to change.", "note", 8
        ),
        Cell(3, 1, "Operator", "label", 2),
        Cell(3, 3, visible(operator, "governance.operator"), "line", 6, name=OPERATOR),
    ]
    pairs = metadata(view)
    cells += _pairs(pairs, 4, label_span=2, value_column=3, value_span=6)
    row = 4 + len(pairs) + 1
    cells.append(Cell(row, 1, "Raw numbers", "title", 8))
    quantities = list(view.quantities())
    if not quantities:
        cells.append(Cell(row + 1, 1, "None yet: nothing has been measured.", "note", 8))
    else:
        cells += [Cell(row + 1, n, title, "head") for n, (title, _) in enumerate(_FIGURES, start=1)]
    for number, (step, quantity) in enumerate(quantities, start=row + 2):
        record = quantity.as_record()
        kind = str(record["uncertainty_kind"]).replace("_", " ")
        keys = ("low", "high", "unit", "converged", "num_matvecs", "num_samples", "note")
        front = (
            step,
            record["quantity"],
            record["slice"],
            record["index"],
            record["value"],
            record["uncertainty"],
        )
        values = (*front, kind, *(record[key] for key in keys))
        for column, value in enumerate(values, start=1):
            cells.append(_figure(number, column, value))
    return Sheet(SHEETS[1], tuple(width for _, width in _FIGURES), tuple(cells), frozen_rows=2)


def _figure(row: int, column: int, value: Value) -> Cell:
    if isinstance(value, bool):
        return Cell(row, column, "yes" if value else "no", "value")
    if isinstance(value, str):
        return Cell(row, column, visible(value, "a quantity of the run"), "value")
    return Cell(row, column, value, "figure")


def _reads(view: RunView) -> Sheet:
    cells = [
        Cell(1, 1, "Technician's Read", "title", 2),
        Cell(
            2,
            1,
            f"Run {view.run_id}. Only the Technician writes here; no model writes or edits a Read.",
            "note",
            2,
        ),
    ]
    row = 3
    breaks = []
    for gate in (g for g in GATES if g.id in READS):
        state = view.gates.get(gate.id)
        if gate.id != READS[0]:
            breaks.append(row)
        if gate.id == "read-2":
            for path, text in _written_by_models(view):
                cells += [Cell(row, 1, path, "label"), Cell(row, 2, text, "value")]
                row += 1
        cells.append(Cell(row, 1, gate.title, "head", 2))
        cells.append(Cell(row + 1, 1, "What is asked", "label"))
        cells.append(Cell(row + 1, 2, gate.guidance, "value"))
        if state is not None and state.answered is not None:
            data = state.answered.data
            text = visible(view.text(str(data["path"])).rstrip(), str(data["path"]))
            sealed = f"sealed {state.answered.time} by {data['author']}, sha256 {data['sha256']}"
            cells += [Cell(row + 2, 1, "Your text, sealed", "label"), Cell(row + 2, 2, text, "sealed")]
            cells += [
                Cell(row + 3, 1, "Status", "label"),
                Cell(row + 3, 2, visible(sealed, gate.id), "value"),
            ]
            row += 5
            continue
        name = gate.id.replace("-", "_")
        cells += [Cell(row + 2, 1, "Your text", "label"), Cell(row + 2, 2, "", "write", name=name)]
        row += 3
        if gate.id == "read-0":
            cells.append(Cell(row, 1, "Predicted number, if any", "label"))
            cells.append(Cell(row, 2, "", "line", name=PREDICTION))
            row += 1
        row += 1
    return Sheet(SHEETS[2], (26, 112), tuple(cells), frozen_rows=2, breaks=tuple(breaks))


def _written_by_models(view: RunView) -> Iterator[tuple[str, str]]:
    """Yield path and text of each analysis and synthesis, or where to read one that does not fit into a cell.

    They stand beside the Read for the Technician; nothing of them is taken into a field.
    """
    for end in Order(view).read_raw_output:
        path = f"raw/{end.data['step']}/answer.md"
        if path in view.artifacts:
            text = view.text(path).rstrip()
            fits = len(text) < LONGEST // 3
            yield (
                path,
                visible(text, path) if fits else f"too long for a cell; it is in the run folder: {path}",
            )


_LINKS = (
    ("Geometric signal", 26), ("Lossyscape term", 20), ("Working hypothesis", 46), ("Step", 13),
    ("Slice", 15), ("Measured value", 16), ("Uncertainty", 14), ("Kind of uncertainty", 19),
    ("Against its reference", 34), ("Status", 30),
)  # fmt: skip


def _links(view: RunView) -> Sheet:
    widths = tuple(width for _, width in _LINKS)
    cells = [Cell(1, 1, "Lossyscape Link", "title", len(_LINKS))]
    if not _answered(view, "read-1"):
        closed = "Closed until Read #1 is sealed. Then make a fresh copy of the workbook."
        return Sheet(SHEETS[3], widths, (*cells, Cell(2, 1, closed, "note", len(_LINKS))), frozen_rows=2)
    note = (
        f"Working hypotheses, {PROVISIONAL} until signed with a Tier A behavioural record (atlas link sign)."
    )
    cells.append(Cell(2, 1, note, "note", len(_LINKS)))
    cells += [Cell(3, n, title, "head") for n, (title, _) in enumerate(_LINKS, start=1)]
    row = 4
    for entry in link_sheet(view):
        about = (entry.signal.signal, entry.signal.term, entry.signal.hypothesis)
        status = visible(entry.status, "link sheet")
        if not entry.measured:
            values: tuple[Value, ...] = (*about, "", "", "not measured in this run", "", "", "", status)
            cells += [Cell(row, n, value, "value") for n, value in enumerate(values, start=1)]
            row += 1
        for measured in entry.measured:
            quantity, relation = measured.quantity, visible(measured.relation, "link sheet")
            kind = quantity.uncertainty_kind.value.replace("_", " ")
            value: Value = f"undefined: {quantity.note}" if quantity.value is None else quantity.value
            place = (measured.step, quantity.slice)
            values = (*about, *place, value, quantity.uncertainty, kind, relation, status)
            cells += [_figure(row, n, value) for n, value in enumerate(values, start=1)]
            row += 1
    return Sheet(SHEETS[3], widths, tuple(cells), frozen_rows=3)
