"""`atlas status`: where a run stands, or a line for each run."""

from __future__ import annotations

import click

from atlas.errors import AtlasError
from atlas.record import RunView, open_record
from atlas.run.identity import RUN_ID
from atlas.run.journal import is_worked_on
from atlas.run.workspace import LocalWorkspace

__all__ = ["command", "state_now"]


def _line(view: RunView) -> str:
    waiting = view.waiting_for
    detail = f"for {waiting.id}" if waiting is not None and view.state == "waiting" else ""
    return f"{view.run_id:<28} {state_now(view):<11} {detail}"


def state_now(view: RunView) -> str:
    """Return the state, `interrupted` for a run that has not ended and that no process works on."""
    return "interrupted" if view.state == "running" and not is_worked_on(view.root) else view.state


@click.command("status")
@click.argument("run", required=False)
@click.pass_obj
def command(workspace: LocalWorkspace, run: str | None) -> None:
    """Say where RUN stands and what to type next; without RUN, list all runs."""
    if run is None:
        folders = sorted(p for p in workspace.runs.glob("*") if RUN_ID.fullmatch(p.name))
        for folder in folders:
            try:
                click.echo(_line(open_record(folder)))
            except AtlasError as error:
                click.echo(f"{folder.name:<28} broken      {error.what}")
        if not folders:
            click.echo(f"no runs in {workspace.runs}")
        return
    view = workspace.view(run)
    click.echo(_line(view))
    for line in workspace.plan(view):
        click.echo(f"  {line}")
    failed = view.last("step-failed")
    if view.state == "failed" and failed is not None:
        click.echo(f"  failed: {failed.data['message']}")
    click.echo(f"head {view.head}")
    if state_now(view) == "running":
        click.echo("next: wait; another atlas process is working in this run")
    elif view.state not in ("done", "abandoned"):
        click.echo(f"next: {workspace.next_command(view)}")
