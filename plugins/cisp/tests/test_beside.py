"""What models wrote stands beside the Reads, for the Technician alone."""

from __future__ import annotations

from atlas_cisp.order import Order
from atlas_cisp.workbook.layout import lay_out
from cisp_stories import MOVES, Tell

MOVED = [*MOVES[: MOVES.index("synthesis")], "analysis", "synthesis", "interpret-done"]


def test_analyses_stand_beside_the_synthesis_and_are_none(tell: Tell) -> None:
    order = Order(tell(MOVED))

    assert [event.data["step"] for event in order.read_raw_output] == ["analysis", "synthesis"]
    assert [event.data["step"] for event in order.synthesised] == ["synthesis"]


def test_the_workbook_shows_them_above_read_2_and_leaves_its_field_empty(tell: Tell) -> None:
    cells = [cell for sheet in lay_out(tell(MOVED)) for cell in sheet.cells]

    rows = {cell.value: cell.row for cell in cells}
    (field,) = (cell for cell in cells if cell.name == "read_2")
    assert rows["Two rows differ."] < rows["The first pair gives the larger value."] < field.row
    assert field.value == ""
