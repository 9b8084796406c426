"""`atlas ecm`: the sessions of a run, and their quadrants by the stances that a person gave."""

from __future__ import annotations

import json

import click

from atlas.contracts import Workspace
from atlas.errors import BadInput
from atlas.judgements import blank_tables, judgements
from atlas.record import RunView
from atlas_ecm.reader.home import migration
from atlas_ecm.reader.schemas import SESSIONS

__all__ = ["ecm"]


@click.command()
@click.argument("run")
@click.option("--coder", metavar="NAME", help="Whose stances make the quadrants.")
@click.pass_obj
def ecm(workspace: Workspace, run: str, coder: str | None) -> None:
    """Show the sessions of RUN; with --coder, home quadrants, and migrations with their direction.

    Quadrants are worked out from sealed stances each time and written nowhere.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    view = workspace.view(run)
    found = [table for table in blank_tables(view) if table.name == SESSIONS.name]
    if not found:
        raise BadInput(f"{view.run_id} has no table {SESSIONS.name}")
    for table in found:
        rows = view.tables(table.step)[SESSIONS.name]
        click.echo(f"{view.run_id}, {table.step}: {len(rows)} sessions")
        if coder is None:
            shown = Table("session", "model", "R", "P", "economy", "migration", box=SIMPLE_HEAD, padding=0)
            for row in rows:
                where = "home" if row["home"] else row["economy_migration"] or ""
                shown.add_row(
                    row["session"], row["model"],
                    "" if row["missing"] else f"{row['token_ratio']:.2f}",
                    "" if row["preamble_words"] is None else str(row["preamble_words"]),
                    row["economy"] or "", f"no {row['missing']}" if row["missing"] else where,
                )  # fmt: skip
        else:
            given = judgements(view, table).get(coder)
            if given is None:
                raise BadInput(
                    f"{coder} has coded nothing in {view.run_id}",
                    fix=f'atlas code {view.run_id} --coder "{coder}"',
                )
            stances = {key[0]: cells["stance"] for key, cells in given.values.items() if "stance" in cells}
            shown = Table("session", "model", "home", "quadrant", "direction", box=SIMPLE_HEAD, padding=0)
            for one in migration(rows, stances, _boundary(view, table.step)):
                shown.add_row(one.session, one.model, one.home, one.quadrant, one.direction)
        Console().print(shown)


def _boundary(view: RunView, step: str) -> float:
    facts: dict[str, str] = json.loads(view.text(f"raw/{step}/facts.json"))
    return float(facts["boundary"])
