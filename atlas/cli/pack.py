"""`atlas pack`: write a run as a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.bundle.bag import pack
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.command("pack")
@click.argument("run")
@click.option(
    "--to", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Folder for the bundle."
)
@click.pass_obj
def command(workspace: LocalWorkspace, run: str, to: Path) -> None:
    """Write RUN as <RUN-ID>.zip: a BagIt bag holding an RO-Crate, the same bytes every time."""
    to.mkdir(parents=True, exist_ok=True)
    path = pack(workspace.view(run), to)
    click.echo(f"{path}\ncheck it with: atlas verify {path}")
