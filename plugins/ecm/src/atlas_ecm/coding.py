"""`atlas code`: what only the Technician may say of each session, and how well two coders agree on it."""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from atlas.contracts import Workspace
from atlas.errors import BadInput
from atlas.judgements import BlankTable, Key, blank_tables, judgements, seal_judgements, settled
from atlas.quantities import Quantity
from atlas.record import RunView
from atlas_ecm.agreement import agreement
from atlas_ecm.delivery import LARGEST, decode

__all__ = ["code"]

_STOP = "q"
_SKIP = "-"
_LINE = "line"
"""Where a session begins in its file; a place and no measurement."""

_path = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("run")
@click.option("--coder", metavar="NAME", help="Who judges; typed by that person.")
@click.option("--file", type=_path, help="Take the codes from this CSV, which the coder filled in.")
@click.option("--template", type=_path, help="Write a CSV to fill in.")
@click.option("--step", help="Which step's table, where several have one.")
@click.option("--amend", is_flag=True, help="Seal another code beside one that this coder gave before.")
@click.pass_obj
def code(
    workspace: Workspace,
    run: str,
    coder: str | None,
    file: Path | None,
    template: Path | None,
    step: str | None,
    amend: bool,
) -> None:
    """Take the codes of RUN's sessions from a person, or show who coded and how well coders agree.

    With --coder alone the sessions are asked for one by one. Codes are sealed beside the table, which stays
    as it was written; no code is ever replaced.
    """
    view = workspace.view(run)
    table = _table(view, step)
    if template is not None:
        _write_template(table, template)
    elif coder is None:
        if file is not None:
            raise BadInput("a file of codes needs its coder", fix='add --coder "Your Name"')
        _show(view, table)
    else:
        given = _from_file(view, table, file) if file is not None else _from_terminal(view, table, coder)
        via = "file" if file is not None else "terminal"
        path = seal_judgements(workspace, run, table, coder, given, via=via, amend=amend)
        click.echo("nothing new to seal" if path is None else f"sealed: {path}")
        click.echo(f"next: atlas code {view.run_id}")


def _table(view: RunView, step: str | None) -> BlankTable:
    found = [table for table in blank_tables(view) if step in (None, table.step)]
    if not found:
        raise BadInput(f"{view.run_id} has no table with codes to give", where=step)
    if len(found) > 1:
        raise BadInput(
            f"{view.run_id} has several tables with codes to give",
            fix=f"choose one: --step {' or --step '.join(dict.fromkeys(t.step for t in found))}",
        )
    return found[0]


# From a file


def _write_template(table: BlankTable, path: Path) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(table.header)
    blank = [""] * len(table.columns)
    writer.writerows([*key, *blank] for key in table.rows)
    try:
        with path.open("xb") as stream:
            # Excel takes a CSV for the machine's old code page unless a byte order mark says UTF-8.
            stream.write(buffer.getvalue().encode("utf-8-sig"))
    except FileExistsError as error:
        raise BadInput("the file exists; it is not overwritten", where=str(path)) from error
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror or error}", where=str(path)) from error
    values = "; ".join(f"{c.name}: {', '.join(c.enum) or 'any text'}" for c in table.columns)
    click.echo(f"wrote {len(table.rows)} rows to {path} ({values})")


def _from_file(view: RunView, table: BlankTable, path: Path) -> dict[Key, dict[str, str]]:
    try:
        if path.stat().st_size > LARGEST:
            raise BadInput(f"larger than {LARGEST} bytes", where=str(path))
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    digest = hashlib.sha256(data).hexdigest()
    same = next((a.path for a in view.artifacts.values() if a.sha256 == digest), None)
    if same is not None:
        raise BadInput(
            f"this is {same} of the run itself; codes come from a person",
            where=str(path),
            fix=f"atlas code {view.run_id} --template FILE writes a file to fill in",
        )
    return dict(_rows(decode(data, path.name), table, path.name))


def _rows(text: str, table: BlankTable, name: str) -> Iterator[tuple[Key, dict[str, str]]]:
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = [cell.strip() for cell in reader.fieldnames or ()]
        if sorted(header) != sorted(table.header):
            raise BadInput(f"expected the columns {', '.join(table.header)}", where=f"{name}:1")
        reader.fieldnames = header
        seen: dict[Key, int] = {}
        for row in reader:
            line = reader.line_num
            if None in row or None in row.values():
                raise BadInput(f"expected {len(header)} cells", where=f"{name}:{line}")
            key = tuple(row[column].strip() for column in table.schema.primary_key)
            if seen.setdefault(key, line) != line:
                raise BadInput(f"{' '.join(key)} stands in line {seen[key]} already", where=f"{name}:{line}")
            yield (
                key,
                {c.name: settled(c, row[c.name], f"{name}:{line}, column {c.name}") for c in table.columns},
            )
    except csv.Error as error:
        raise BadInput(f"the row cannot be read: {error}", where=f"{name}:{reader.line_num}") from error


# At a terminal


def _from_terminal(view: RunView, table: BlankTable, coder: str) -> dict[Key, dict[str, str]]:
    """Ask for the rows that this coder has not judged; what other coders said is not shown."""
    if not sys.stdin.isatty():
        raise BadInput(
            "codes are given by a person at a terminal, and standard input is none",
            fix=f"atlas code {view.run_id} --template FILE, fill it in, then --coder NAME --file FILE",
        )
    own = judgements(view, table).get(" ".join(coder.split()))
    given: dict[Key, dict[str, str]] = {}
    shown = _shown(table)
    for key, row in table.rows.items():
        done = own.values.get(key, {}) if own else {}
        left = [column for column in table.columns if column.name not in done]
        if not left:
            continue
        click.echo(f"\n{' '.join(key)}")
        for name in shown:
            if row[name] is not None:
                click.echo(f"  {name}: {row[name]}")
        for column in left:
            choices = (
                click.Choice([*column.enum, _SKIP, _STOP], case_sensitive=False) if column.enum else None
            )
            answer = str(click.prompt(f"{column.name} ({_SKIP} later, {_STOP} stop)", type=choices)).strip()
            if answer == _STOP:
                return given
            if answer != _SKIP:
                given.setdefault(key, {})[column.name] = settled(column, answer, column.name)
    return given


def _shown(table: BlankTable) -> tuple[str, ...]:
    """Return the columns that say which session it is; what was computed of it would lead the coder."""
    return tuple(
        column.name
        for column in table.schema.columns
        if column.name == _LINE or (column.type == "string" and not column.enum and not column.judgement)
    )


# Showing


def _show(view: RunView, table: BlankTable) -> None:
    found = judgements(view, table)
    click.echo(f"{view.run_id}, step {table.step}: {len(table.rows)} rows of {table.name}")
    synthesised = [
        e.seq for e in view.of("step-finished") if f"raw/{e.data['step']}/answer.md" in view.artifacts
    ]
    for coder, judged in found.items():
        counts = ", ".join(
            f"{sum(column.name in cells for cells in judged.values.values())} {column.name}"
            for column in table.columns
        )
        late = bool(synthesised) and judged.events[-1].seq > min(synthesised)
        click.echo(f"  {coder}: {counts}" + (", some given after the synthesis" if late else ""))
    if not found:
        click.echo(f"  nobody has coded it yet: atlas code {view.run_id} --coder NAME")
    for column in table.columns if len(found) > 1 else ():
        click.echo(f"  {_line(agreement(found, column.name))}")


def _line(quantity: Quantity) -> str:
    if quantity.value is None:
        return f"{quantity.quantity}: undefined, {quantity.note}"
    rows = f"{quantity.num_samples} row{'s' * (quantity.num_samples != 1)}"
    interval = f"95% {quantity.low:.3f} to {quantity.high:.3f}, {rows}" if quantity.low is not None else rows
    note = f"; {quantity.note}" if quantity.note else ""
    return f"{quantity.quantity}: {quantity.value:.3f} ({interval}{note})"
