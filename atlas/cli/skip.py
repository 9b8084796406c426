"""`atlas skip`: pass a gate without answering it."""

from __future__ import annotations

import click

from atlas.cli.answering import signed
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.command("skip")
@click.argument("run")
@click.argument("gate")
@click.option("--reason", required=True, help="Why; it stands in the record.")
@click.option("--by", help="Who decides; the manifest's operator if left out.")
@click.pass_obj
def command(workspace: LocalWorkspace, run: str, gate: str, reason: str, by: str | None) -> None:
    """Pass GATE of RUN unanswered. It cannot be undone, and the tier falls accordingly."""
    root = workspace.find(run)
    workspace.skip(root, gate, author=signed(by, workspace.operator(root)), reason=reason)
    click.echo(f"skipped: {gate} of {root.name}\nnext: atlas resume {root.name}")
