"""`atlas runs`: the runs of a folder side by side, and the master registry made from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click

from atlas.cli.beside import matching, print_lines
from atlas.errors import BadInput, IntegrityBroken
from atlas.run.journal import is_worked_on
from atlas.run.ledger import CSV, INDEX, Row, refresh
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]

_STATES = ("done", "waiting", "failed", "running", "interrupted", "abandoned", "broken")


@click.group("runs")
def command() -> None:
    """List, compare and check the runs of a folder; keep its registry.csv."""


@command.command("list")
@click.option("--state", type=click.Choice(_STATES), help="Only runs in this state.")
@click.option("--tier", type=click.Choice(["A", "B", "C"]), help="Only runs of this tier.")
@click.option("--instrument", help="Only runs of which a step uses this instrument.")
@click.option("--json", "as_json", is_flag=True, help="Print every field as JSON.")
@click.pass_obj
def list_runs(
    workspace: LocalWorkspace, state: str | None, tier: str | None, instrument: str | None, as_json: bool
) -> None:
    """List the runs with tier, state and instruments; brings registry.csv up to date."""
    rows = [
        row
        for row in map(partial(_now, workspace.runs), refresh(workspace.runs))
        if state in (None, row["state"])
        and tier in (None, row["tier"])
        and (instrument is None or instrument in row["instruments"].split())
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        grade = f"Tier {row['tier']}" if row["tier"] else "no tier"
        what = row["fault"] or row["name"]
        click.echo(f"{row['run_id']:<28} {grade:<8} {row['state']:<11} {row['instruments']:<24} {what}")
    if not rows:
        click.echo(f"no such runs in {workspace.runs}")


def _now(runs: Path, row: Row) -> Row:
    """Return a run's line with the state `interrupted` where it has not ended and no process works on it."""
    ended = row["state"] != "running" or is_worked_on(runs / row["run_id"])
    return row if ended else row | {"state": "interrupted"}


@command.command("rebuild")
@click.pass_obj
def rebuild(workspace: LocalWorkspace) -> None:
    """Make registry.csv and its index anew, from the run folders alone."""
    rows = refresh(workspace.runs, anew=True)
    click.echo(f"{len(rows)} runs in {workspace.runs / CSV} and {workspace.runs / INDEX}")


@command.command("check")
@click.pass_obj
def check(workspace: LocalWorkspace) -> None:
    """Look for missing fields, links that lead nowhere, and tiers that do not hold.

    Exit codes: 0 nothing is wrong, 4 something is.
    """
    from atlas.run.inspection import inspect

    remarks = list(inspect(workspace.runs, workspace.tier))
    for remark in remarks:
        click.echo(str(remark))
    faults = sum(remark.fault for remark in remarks)
    if faults:
        raise IntegrityBroken(f"{faults} fault(s) among the runs", where=str(workspace.runs))
    click.echo("nothing is wrong")


@command.command("compare")
@click.argument("runs", nargs=-1, required=True)
@click.option("--quantity", "names", multiple=True, help="Only this quantity; may be given often.")
@matching
@click.option("--json", "as_json", is_flag=True, help="Print values, uncertainties and agreement as JSON.")
@click.pass_obj
def compare(
    workspace: LocalWorkspace,
    runs: tuple[str, ...],
    names: tuple[str, ...],
    matches: Mapping[str, str],
    as_json: bool,
) -> None:
    """Put the quantities of RUNS side by side, each graded against the first run.

    Governed runs are refused until their Reads #0 and #1 are sealed.
    """
    from atlas.bundle.comparison import side_by_side

    if len(runs) < 2:
        raise BadInput("a comparison needs two runs or more", fix="atlas runs compare RUN RUN")
    views = [workspace.view(run) for run in runs]
    lines = side_by_side(views, names=names, declared=matches)
    if not lines:
        raise BadInput(
            "the runs have no such quantity of the same instrument and slice",
            fix="atlas show RUN lists a run's quantities; --match STEP=STEP says which steps belong together",
        )
    if as_json:
        click.echo(json.dumps([line.as_record() for line in lines], indent=2, allow_nan=False))
    else:
        print_lines(views, lines)
