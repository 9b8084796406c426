"""Writes a laid-out workbook as an .xlsx file."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.record import RunView
from atlas_cisp.workbook.cells import Cell, Sheet
from atlas_cisp.workbook.layout import TEMPLATE, lay_out

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

__all__ = ["PROPERTIES", "escaped", "new_copy", "render"]

PROPERTIES = ("atlas-run", "atlas-journal-head", "atlas-template")
_INK, _PAPER, _EDGE = "1F3A4D", "FFFFFF", "9AA7B0"
_FILLS = {
    "head": _INK,
    "label": "E8EDF0",
    "sealed": "E6F2E6",
    "box": "FFF8D9",
    "write": "FFF8D9",
    "line": "FFF8D9",
}
_TICKS = ("☐", "☑")
_LINE = 15.0
"""Height of one line of text in points."""


def new_copy(view: RunView) -> Path:
    """Write a fresh copy into the run's folder `workbook` and return its path; none is overwritten."""
    content = io.BytesIO()
    render(view).save(content)
    folder = view.root / "workbook"
    folder.mkdir(exist_ok=True)
    for number in itertools.count(1):
        path = folder / (f"{view.run_id}.xlsx" if number == 1 else f"{view.run_id}-{number}.xlsx")
        try:
            with path.open("xb") as stream:
                stream.write(content.getvalue())
        except FileExistsError:
            continue
        return path
    raise AssertionError("counting does not end")


def escaped(text: str) -> str:
    """Protect text that Excel would take for an escaped character, such as `_x0041_`."""
    return re.sub(r"_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text)


def render(view: RunView) -> Any:
    """Return the workbook of a run as its journal stands.

    Raises:
        BadInput: A text of the run does not fit into a cell.
    """
    from openpyxl import Workbook
    from openpyxl.packaging.custom import StringProperty

    book: Any = Workbook()  # the stubs know no custom document properties
    book.remove(book.worksheets[0])
    for sheet in lay_out(view):
        _sheet(book, sheet)
    for name, value in zip(PROPERTIES, (view.run_id, str(view.head), TEMPLATE), strict=True):
        book.custom_doc_props.append(StringProperty(name=name, value=value))
    book.properties.creator = "Atlas"
    book.properties.title = view.run_id
    return book


def _sheet(book: Workbook, sheet: Sheet) -> None:
    from openpyxl.utils import get_column_letter
    from openpyxl.workbook.defined_name import DefinedName

    page: Worksheet = book.create_sheet(sheet.title)
    for number, width in enumerate(sheet.widths, start=1):
        page.column_dimensions[get_column_letter(number)].width = width
    lists: dict[tuple[str, ...], list[str]] = {}
    for cell in sheet.cells:
        _cell(page, cell)
        if cell.name is not None:
            quoted = sheet.title.replace("'", "''")
            place = f"${get_column_letter(cell.column)}${cell.row}"
            book.defined_names[cell.name] = DefinedName(cell.name, attr_text=f"'{quoted}'!{place}")
        choices = _TICKS if cell.kind == "box" else cell.choices
        if choices:
            lists.setdefault(choices, []).append(f"{get_column_letter(cell.column)}{cell.row}")
    for choices, places in lists.items():
        _drop_down(page, choices, places)
    for row, cells in _rows(sheet.cells):
        page.row_dimensions[row].height = max(_height(cell, sheet.widths) for cell in cells)
    _page(page, sheet)


def _rows(cells: Iterable[Cell]) -> list[tuple[int, list[Cell]]]:
    rows: dict[int, list[Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.row, []).append(cell)
    return sorted(rows.items())


def _height(cell: Cell, widths: tuple[float, ...]) -> float:
    """Return the height that shows a cell's whole text: merged cells do not grow by themselves."""
    if cell.kind == "title":
        return 24.0
    least = {"write": 14 * _LINE, "line": 1.5 * _LINE, "box": 1.4 * _LINE}.get(cell.kind, _LINE + 2)
    if not isinstance(cell.value, str):
        return least
    width = sum(widths[cell.column - 1 : cell.column - 1 + cell.span]) * (0.9 if cell.kind == "head" else 1.0)
    lines = sum(max(1, math.ceil(len(line) * 0.95 / width)) for line in cell.value.split("\n"))
    return min(409.0, max(least, lines * _LINE + 4))


def _cell(page: Worksheet, cell: Cell) -> None:
    from openpyxl.styles import Alignment, Border, Font, PatternFill, Protection, Side

    target: Any = page.cell(cell.row, cell.column)
    if isinstance(cell.value, str):
        target.value = escaped(cell.value)
        target.data_type = "s"
    else:
        target.value = cell.value
    boxed = cell.kind not in ("title", "note")
    side = Side(style="thin", color=_EDGE)
    edge = Border(left=side, right=side, top=side, bottom=side) if boxed else Border()
    for column in range(cell.column, cell.column + cell.span):
        page.cell(cell.row, column).border = edge
    if cell.span > 1:
        page.merge_cells(
            start_row=cell.row,
            end_row=cell.row,
            start_column=cell.column,
            end_column=cell.column + cell.span - 1,
        )
    target.font = Font(
        name="Calibri",
        size=15 if cell.kind == "title" else 14 if cell.value in ("☐", "☑") else 11,
        bold=cell.kind in ("title", "head", "label"),
        italic=cell.kind == "note",
        color=_PAPER if cell.kind == "head" else _INK if cell.kind == "title" else "202020",
    )
    if cell.kind in _FILLS:
        target.fill = PatternFill("solid", fgColor=_FILLS[cell.kind])
    tick = cell.kind == "box" or cell.value == "☑"
    target.alignment = Alignment(
        horizontal="center" if tick else "right" if cell.kind == "figure" else "left",
        vertical="top" if cell.kind in ("write", "sealed") and not tick else "center",
        wrap_text=cell.kind not in ("title", "figure"),
        indent=1 if boxed and not tick else 0,
    )
    target.protection = Protection(locked=not cell.human)


def _drop_down(page: Worksheet, choices: tuple[str, ...], places: list[str]) -> None:
    from openpyxl.worksheet.datavalidation import DataValidation

    listed = ",".join(choices)
    rule = DataValidation(type="list", formula1=f'"{listed}"', allow_blank=True, showErrorMessage=True)
    rule.errorTitle, rule.error = "Choose from the list", f"One of: {', '.join(choices)}"
    if choices == _TICKS:
        rule.error = "☑ when the line is true now, ☐ when it is not"
    for place in places:
        rule.add(place)
    page.add_data_validation(rule)


def _page(page: Worksheet, sheet: Sheet) -> None:
    from openpyxl.worksheet.pagebreak import Break
    from openpyxl.worksheet.properties import PageSetupProperties

    page.sheet_view.showGridLines = False
    page.freeze_panes = f"A{sheet.frozen_rows + 1}" if sheet.frozen_rows else None
    page.protection.sheet = True
    page.protection.formatColumns = page.protection.formatRows = False
    for row in sheet.breaks:
        page.row_breaks.append(Break(id=row - 1))
    page.page_setup.orientation = "landscape"
    page.page_setup.paperSize = 9
    page.page_setup.fitToWidth, page.page_setup.fitToHeight = 1, 0
    page.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)
    page.print_options.horizontalCentered = True
    page.page_margins.left = page.page_margins.right = 0.5
    footer: Any = page.oddFooter
    footer.left.text, footer.right.text = "&A", "&P / &N"
