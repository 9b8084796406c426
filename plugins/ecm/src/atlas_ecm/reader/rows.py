"""Sessions in rows: JSON lines and CSV, read a row at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from typing import Any

from atlas.errors import BadInput
from atlas_ecm.reader.lines import TextFile
from atlas_ecm.reader.sessions import Session, Turn, role_of

__all__ = ["messages", "read_csv_file", "read_json_lines", "text_of"]

_NAMES = {
    "id": "session",
    "conversation_id": "session",
    "content": "text",
    "input": "prompt",
    "answer": "output",
}
_SHAPES = "`prompt` and `output`, or `role` and `text`"
_LONGEST_CELL = 2**31 - 1


def read_json_lines(file: TextFile) -> Iterator[Session]:
    """Yield a session for each line: `messages`, a list of `role` and `content`, or `prompt` and `output`.

    `session`, `model` and `item` may stand beside them.

    Raises:
        BadInput: A line is no such object; the message names it.
    """
    for number, line in enumerate(file.lines(), start=1):
        if not line.strip():
            continue
        where = f"{file.name}:{number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"not a JSON object: {error}", where=where) from error
        if not isinstance(entry, dict):
            raise BadInput("not a JSON object", where=where)
        yield session_of(entry, file.name, number)


def session_of(entry: Mapping[str, Any], name: str, line: int) -> Session:
    """Return the session of one JSON object.

    Raises:
        BadInput: It lacks its texts.
    """
    where = f"{name}:{line}"
    cells = {_NAMES.get(key, key): value for key, value in entry.items()}
    left_out = 0
    if isinstance(cells.get("messages"), list):
        turns, left_out = messages(cells["messages"], where)
    elif isinstance(cells.get("prompt"), str) and isinstance(cells.get("output"), str):
        turns = (Turn(False, cells["prompt"]), Turn(True, cells["output"]))
    else:
        raise BadInput(
            "the object holds no session",
            where=where,
            fix="give `messages`, or `prompt` and `output` as text",
        )
    given = {key: _plain(cells.get(key), key, where) for key in ("session", "model", "item")}
    return Session(given["session"] or where, name, line, turns, given["model"], given["item"], left_out)


def _plain(value: object, key: str, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise BadInput(f"expected text, found {value!r}", where=f"{where}, {key}")
    return str(value).strip()


def messages(entries: list[Any], where: str) -> tuple[tuple[Turn, ...], int]:
    """Return the turns of messages with `role` and `content`, and the number of parts that are no text."""
    turns, left_out = [], 0
    for entry in entries:
        if not isinstance(entry, dict):
            raise BadInput(f"expected a message, found {entry!r}", where=where)
        text, skipped = text_of(entry.get("content"))
        turns.append(Turn(role_of(entry.get("role"), where), text))
        left_out += skipped
    return tuple(turns), left_out


def text_of(content: object) -> tuple[str, int]:
    """Return the text of a message's content and how many of its parts are no text.

    Content is text, or a list of texts and of parts `{"type": "text", "text": ...}`; parts are joined by
    a line end.
    """
    if isinstance(content, str):
        return content, 0
    parts = content if isinstance(content, list) else [] if content is None else [content]
    found = [
        part
        if isinstance(part, str)
        else part["text"]
        if isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str)
        else None
        for part in parts
    ]
    kept = [part for part in found if part is not None]
    return "\n".join(kept), len(found) - len(kept)


def read_csv_file(file: TextFile) -> Iterator[Session]:
    """Yield the sessions of a CSV.

    A session is a row with `prompt` and `output`, or a row for each turn, with `role` and `text`. Columns
    `session`, `model` and `item` may stand beside; rows of turns need `session`, and those of one session
    stand together. Comma, semicolon or tab, whichever the header has most of.

    Raises:
        BadInput: The header lacks columns, a row is ragged, or the quotation marks are wrong.
    """
    csv.field_size_limit(_LONGEST_CELL)
    lines = file.lines()
    header_line = next(lines, "")
    separator = max(",;\t", key=header_line.count)
    header = [
        _NAMES.get(cell, cell)
        for cell in map(_bare, next(csv.reader([header_line], delimiter=separator), []))
    ]
    known = ("session", "model", "item", "prompt", "output", "role", "text")
    doubled = sorted({name for name in known if header.count(name) > 1})
    if doubled:
        raise BadInput(f"column {', '.join(doubled)} stands twice", where=f"{file.name}:1")
    by_turn = {"session", "role", "text"} <= set(header)
    if not by_turn and not {"prompt", "output"} <= set(header):
        raise BadInput(
            f"the header has neither {_SHAPES} with `session`; found {', '.join(header) or 'nothing'}",
            where=f"{file.name}:1",
        )
    rows = _rows(csv.reader(lines, delimiter=separator, strict=True), header, file.name)
    yield from _by_turn(rows, file.name) if by_turn else _whole(rows, file.name)


def _bare(cell: str) -> str:
    return cell.strip().lower()


def _rows(reader: Any, header: list[str], name: str) -> Iterator[tuple[int, dict[str, str]]]:
    line = 2
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if len(cells) != len(header):
                    raise BadInput(
                        f"expected {len(header)} cells, found {len(cells)}", where=f"{name}:{line}"
                    )
                yield line, dict(zip(header, cells, strict=True))
            line = int(reader.line_num) + 2
    except csv.Error as error:
        raise BadInput(
            f"the row cannot be read ({error}); check its quotation marks", where=f"{name}:{line}"
        ) from error


def _whole(rows: Iterator[tuple[int, dict[str, str]]], name: str) -> Iterator[Session]:
    for line, row in rows:
        yield session_of({key: value for key, value in row.items() if key != "messages"}, name, line)


def _by_turn(rows: Iterator[tuple[int, dict[str, str]]], name: str) -> Iterator[Session]:
    current, first, turns, facts = "", 0, list[Turn](), dict[str, str]()
    for line, row in rows:
        session = row["session"].strip()
        if not session:
            raise BadInput("the row names no session", where=f"{name}:{line}")
        if session != current:
            if turns:
                yield _joined(current, name, first, turns, facts)
            current, first, turns, facts = session, line, [], row
        turns.append(Turn(role_of(row["role"], f"{name}:{line}"), row["text"]))
    if turns:
        yield _joined(current, name, first, turns, facts)


def _joined(session: str, name: str, line: int, turns: list[Turn], facts: Mapping[str, str]) -> Session:
    return Session(
        session, name, line, tuple(turns), facts.get("model", "").strip(), facts.get("item", "").strip()
    )
