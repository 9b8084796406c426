"""`atlas abandon`: end a run for good."""

from __future__ import annotations

import click

from atlas.cli.answering import signed
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.command("abandon")
@click.argument("run")
@click.option("--reason", required=True, help="Why; it stands in the record.")
@click.option("--by", help="Who decides; the manifest's operator if left out.")
@click.pass_obj
def command(workspace: LocalWorkspace, run: str, reason: str, by: str | None) -> None:
    """End RUN for good. Its folder stays, sealed as it is."""
    root = workspace.find(run)
    workspace.abandon(root, author=signed(by, workspace.operator(root)), reason=reason)
    click.echo(f"abandoned: {root.name}")
