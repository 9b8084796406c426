"""`atlas status`: where a run stands, or a line for each run."""

from __future__ import annotations

import click

from atlas.errors import AtlasError
from atlas.record import RunView, open_record
from atlas.run.identity import RUN_ID
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


def _line(view: RunView) -> str:
    waiting = view.waiting_for
    detail = f"for {waiting.id}" if waiting is not None and view.state == "waiting" else ""
    return f"{view.run_id:<28} {view.state:<10} {detail}"


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
                click.echo(f"{folder.name:<28} broken     {error.what}")
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
    if view.state not in ("done", "abandoned"):
        click.echo(f"next: {workspace.next_command(view)}")
