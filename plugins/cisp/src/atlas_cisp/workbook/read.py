"""Reads a filled workbook back, by defined name, and refuses one that is not as it was laid out."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from atlas.errors import BadInput
from atlas.record import JOURNAL, RunView, parse_journal
from atlas_cisp.workbook.cells import LONGEST, Sheet, Value
from atlas_cisp.workbook.layout import TEMPLATE, lay_out
from atlas_cisp.workbook.write import PROPERTIES

if TYPE_CHECKING:
    from openpyxl import Workbook

__all__ = ["Filled", "number", "open_elsewhere", "read_back"]

_TICKED = {"☑", "☒", "✓", "✔", "x", "true", "yes", "y", "1", "wahr", "vrai", "ja", "oui"}
_NOT_TICKED = {"", "☐", "false", "no", "n", "0", "falsch", "faux", "nein", "non"}
_MOST_BYTES, _MOST_ENTRIES = 50_000_000, 1_000
_FRESH = "make a fresh copy with: atlas workbook new"


@frozen
class Filled:
    """What a person wrote into a workbook.

    Attributes:
        texts: Defined name -> text, LF line ends, without surrounding blank lines; empty if not filled.
        ticked: Defined name of a box -> whether it is ticked.
        content: The file's bytes as they were read.
    """

    texts: Mapping[str, str]
    ticked: Mapping[str, bool]
    content: bytes


def open_elsewhere(path: Path) -> str | None:
    """Return a warning if another program has the file open: what it shows may not be saved yet."""
    for note, program in ((f".~lock.{path.name}#", "LibreOffice"), (f"~${path.name}", "Excel")):
        if (path.parent / note).exists():
            return (
                f"{path.name} is open in {program}. Only what was saved there is read. "
                f"If {program} is closed, remove {note}"
            )
    return None


def read_back(path: Path, view: RunView) -> Filled:
    """Read a filled workbook of a run.

    Raises:
        BadInput: The file cannot be read, is no workbook, belongs to another run or template, was changed
            outside the fields for a person, or holds a formula in one of them. The message names sheet
            and cell.
    """
    content = _content(path)
    book = _load(content, path)
    laid_out = lay_out(_at_head(book, view, path))
    titles = [sheet.title for sheet in laid_out]
    if book.sheetnames != titles:
        raise BadInput(f"expected the sheets {', '.join(titles)}", where=str(path), fix=_FRESH)
    for sheet in laid_out:
        _compare(book, sheet)
    texts: dict[str, str] = {}
    ticked: dict[str, bool] = {}
    for sheet in laid_out:
        for cell in (c for c in sheet.cells if c.name is not None):
            name = str(cell.name)
            place, value = _named(book, name)
            if cell.kind == "box":
                ticked[name] = _tick(value, place)
            else:
                texts[name] = _text(value, place)
    return Filled(texts, ticked, content)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadInput("there is no such file", where=str(path), fix=_FRESH) from None
    except OSError as error:
        raise BadInput(
            f"the workbook cannot be read: {error.strerror or error}",
            where=str(path),
            fix="close it in the program that has it open, then repeat the command",
        ) from error


def _load(content: bytes, path: Path) -> Workbook:
    """Open the file without trusting it: unpacked size and XML entities are checked first."""
    from openpyxl import load_workbook

    where = str(path)
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        entries = archive.infolist()
        total = sum(entry.file_size for entry in entries)
        if len(entries) > _MOST_ENTRIES or total > _MOST_BYTES:
            raise BadInput("the file unpacks to far more than a workbook of a run", where=where, fix=_FRESH)
        for entry in entries:
            head = archive.read(entry)
            if any(mark.encode(code) in head for mark in ("<!DOCTYPE", "<!ENTITY") for code in _ENCODINGS):
                raise BadInput(
                    "the file declares XML entities; no workbook needs them", where=where, fix=_FRESH
                )
        book = load_workbook(io.BytesIO(content), data_only=False, keep_links=False)
    except BadInput:
        raise
    except Exception as error:  # a damaged file makes openpyxl raise nearly anything
        raise BadInput(
            f"not a workbook that can be read ({type(error).__name__}: {error})",
            where=where,
            fix="save it as .xlsx (Excel 2007-365)",
        ) from error
    for page in book.worksheets:
        if page.max_row > 20_000 or page.max_column > 200:
            raise BadInput(
                f"sheet {page.title!r} has {page.max_row} rows, {page.max_column} columns", where=where
            )
    return book


_ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be")


def _at_head(book: Any, view: RunView, path: Path) -> RunView:
    """Return the run as it stood when the copy was made."""
    given = {p.name: str(p.value) for p in book.custom_doc_props.props}
    run, head, template = (given.get(name) for name in PROPERTIES)
    where = str(path)
    if run is None or head is None or template is None:
        raise BadInput(
            "this workbook was not made by Atlas, or lost its document properties", where=where, fix=_FRESH
        )
    if run != view.run_id:
        raise BadInput(f"this workbook belongs to {run}, not to {view.run_id}", where=where)
    if template != TEMPLATE:
        raise BadInput(f"this workbook has template {template}; this is {TEMPLATE}", where=where, fix=_FRESH)
    length, _, _ = head.partition(":")
    if not length.isdigit() or not 0 < int(length) <= len(view.events):
        raise BadInput(f"this copy was made from another journal (head {head})", where=where, fix=_FRESH)
    lines = (view.root / JOURNAL).read_bytes().split(b"\n")[: int(length)]
    events, found, _ = parse_journal(b"\n".join(lines) + b"\n", where=JOURNAL)
    if str(found) != head:
        raise BadInput(f"this copy was made from another journal (head {head})", where=where, fix=_FRESH)
    return RunView(view.root, events, found)


def _compare(book: Workbook, sheet: Sheet) -> None:
    """Refuse a sheet in which anything but a person's cells changed, or text stands in no field."""
    page = book[sheet.title]
    expected = {(cell.row, cell.column): cell for cell in sheet.cells}
    found = {
        (cell.row, cell.column): cell.value
        for row in page.iter_rows()
        for cell in row
        if cell.value is not None and cell.value != ""
    }
    for place, cell in expected.items():
        if not cell.human and not _same(cell.value, found.get(place)):
            raise BadInput(
                f"a locked cell was changed: expected {_short(cell.value)}, found {_short(found.get(place))}",
                where=_where(sheet.title, *place),
                fix=f"put it back, or {_FRESH}",
            )
    for place, value in found.items():
        if place not in expected:
            raise BadInput(
                f"{_short(value)} stands in no field and would be lost",
                where=_where(sheet.title, *place),
                fix="move it into one of the yellow fields",
            )


def _where(title: str, row: int, column: int) -> str:
    from openpyxl.utils import get_column_letter

    return f"sheet {title!r}, cell {get_column_letter(column)}{row}"


def _short(value: object) -> str:
    text = "nothing" if value is None or value == "" else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _same(expected: Value, found: Any) -> bool:
    if expected is None or expected == "":
        return found is None or found == ""
    if isinstance(expected, str):
        return isinstance(found, str) and _unescaped(found) == expected
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return False
    return math.isclose(expected, found, rel_tol=1e-12)


def _unescaped(text: str) -> str:
    """Undo the escapes of the file format, `_x000D_`, and take every line end for LF."""
    plain = re.sub(r"_x([0-9A-Fa-f]{4})_", lambda match: chr(int(match[1], 16)), text)
    return plain.replace("\r\n", "\n").replace("\r", "\n")


def _named(book: Workbook, name: str) -> tuple[str, Any]:
    defined = book.defined_names.get(name)
    if defined is None:
        raise BadInput(f"the defined name {name} is gone", fix=_FRESH)
    places = list(_destinations(defined.attr_text or ""))
    if len(places) != 1 or places[0][0] not in book.sheetnames:
        raise BadInput(f"the defined name {name} leads to {defined.attr_text}", fix=_FRESH)
    title, address = places[0]
    cell = book[title][address]
    where = f"sheet {title!r}, cell {address}"
    if cell.data_type in ("f", "e"):
        raise BadInput(f"{cell.value!r} is a formula; a field holds what you write yourself", where=where)
    return where, cell.value


def _destinations(text: str) -> Iterator[tuple[str, str]]:
    match = re.fullmatch(r"(?:'((?:[^']|'')+)'|([^'!]+))!\$?([A-Z]{1,3})\$?(\d+)", text)
    if match:
        yield (match[1] or match[2]).replace("''", "'"), f"{match[3]}{match[4]}"


def _tick(value: Any, where: str) -> bool:
    text = "" if value is None else str(value).strip().casefold().removesuffix(".0")
    if text in _TICKED:
        return True
    if text in _NOT_TICKED:
        return False
    raise BadInput(f"{value!r} is neither ticked nor open", where=where, fix="choose ☑ or ☐ from the list")


def _text(value: Any, where: str) -> str:
    if value is None:
        return ""
    text = _unescaped(value) if isinstance(value, str) else str(value)
    if len(text.encode("utf-16-le", "surrogatepass")) // 2 >= LONGEST:
        raise BadInput(
            f"the cell is full ({LONGEST} characters), so the end of the text may be cut off",
            where=where,
            fix="put the text into a file and use atlas read",
        )
    return text.strip("\n ")


def number(text: str, where: str) -> float:
    """Return a number as a person writes it, with a decimal point or a decimal comma.

    Raises:
        BadInput: It is no number, or could be read in two ways, such as 1,234.
    """
    plain = text.strip().replace("\u2212", "-").replace("\u00a0", "")
    if re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", plain):
        short, long = plain.replace(",", "."), plain.replace(",", "")
        raise BadInput(f"{text!r} can be read in two ways", where=where, fix=f"write {short} or {long}")
    if re.fullmatch(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?", plain):
        result = float(plain.replace(",", "."))
        if math.isfinite(result):
            return result
    raise BadInput(f"{text!r} is no number", where=where, fix="write it like 41.5 or 41,5, without units")
