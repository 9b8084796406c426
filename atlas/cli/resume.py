"""`atlas resume`: go on with a run from where it stopped."""

from __future__ import annotations

import click

from atlas.cli.page import write_page
from atlas.cli.terminal import LiveProgress, print_outcome
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.command("resume")
@click.argument("run")
@click.pass_obj
def command(workspace: LocalWorkspace, run: str) -> None:
    """Go on with RUN (an id or a folder) until it is done or waits for a person."""
    root = workspace.find(run)
    with LiveProgress() as progress:
        view = workspace.advance(root, progress)
    write_page(workspace, root)
    print_outcome(view, workspace)
