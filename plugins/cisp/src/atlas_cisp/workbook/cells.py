"""Cells and sheets of a workbook as values; nothing here knows of openpyxl."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from atlas.errors import BadInput
from atlas_cisp.gates import normalised

__all__ = ["LONGEST", "Cell", "Kind", "Sheet", "Value", "visible"]

LONGEST = 32_767
"""Characters (UTF-16 units) that a cell of Excel can hold."""

Kind = Literal["title", "note", "head", "label", "value", "figure", "sealed", "box", "write", "line"]
Value = str | int | float | bool | None


@frozen
class Cell:
    """One cell or merged range.

    Attributes:
        row: From 1.
        column: From 1.
        value: Text, number or nothing; for `box`, `write` and `line` what they open with.
        kind: How it looks, and whether a person fills it: `box`, `write` and `line` are theirs.
        span: Columns that it covers.
        name: Defined name of a person's cell.
        choices: What may stand in a person's cell; empty for any text.
    """

    row: int
    column: int
    value: Value
    kind: Kind
    span: int = 1
    name: str | None = None
    choices: tuple[str, ...] = ()

    @property
    def human(self) -> bool:
        """Whether it is a person's to fill."""
        return self.kind in ("box", "write", "line")


@frozen
class Sheet:
    """One sheet.

    Attributes:
        title: Its name on the tab.
        widths: Of its columns, in characters.
        cells: In any order.
        frozen_rows: Rows that stay in sight.
        breaks: Rows that begin a new page in print.
    """

    title: str
    widths: tuple[float, ...]
    cells: tuple[Cell, ...] = field(repr=False)
    frozen_rows: int = 0
    breaks: tuple[int, ...] = ()


_INVISIBLE = {
    *range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000),
    *(0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2060, 0xFEFF, 0xFFFE, 0xFFFF),
} - {0x09, 0x0A}  # fmt: skip


def visible(text: str, where: str) -> str:
    """Return text as a cell can show it: LF line ends, and control characters spelled out.

    Raises:
        BadInput: It is longer than a cell; it would be cut without a word.
    """
    shown = "".join(f"\u2039U+{ord(c):04X}\u203a" if ord(c) in _INVISIBLE else c for c in normalised(text))
    if len(shown.encode("utf-16-le")) // 2 > LONGEST:
        raise BadInput(
            f"the text has {len(shown)} characters; a workbook's cell holds {LONGEST} and would cut it",
            where=where,
            fix="work with the files of the run folder and without a workbook",
        )
    return shown
