"""`atlas report`: build a run's page."""

from __future__ import annotations

import click

from atlas.cli.page import write_page
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.command("report")
@click.argument("run")
@click.pass_obj
def command(workspace: LocalWorkspace, run: str) -> None:
    """Build report.html of RUN again: one page that works offline."""
    click.echo(str(write_page(workspace, workspace.find(run))))
