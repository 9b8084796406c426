"""`atlas pictures`: the pictures of a run's report as files."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.contracts import Workspace
from atlas.figures import write_figures
from atlas_pyhessian.figures import step_figures

__all__ = ["pictures"]


@click.command()
@click.argument("run")
@click.option("--kind", type=click.Choice(["svg", "png"]), default="svg", show_default=True, help="Format.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder; the current one if not given.",
)
@click.pass_obj
def pictures(workspace: Workspace, run: str, kind: str, out: Path) -> None:
    """Write the pictures of the curvature steps of RUN as files, as its report shows them."""
    for path, figure in write_figures(workspace.view(run), "pyhessian", step_figures, kind, out):
        click.echo(f"{path}\n  {figure.caption}")
