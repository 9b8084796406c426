"""`atlas topoencoder`: a training as pictures or TensorBoard events, and the loss terms there are."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.contracts import Workspace
from atlas.figures import write_figures

__all__ = ["topoencoder"]


@click.group()
def topoencoder() -> None:
    """Look at trained TopoEncoders."""


@topoencoder.command()
def terms() -> None:
    """List the loss terms with weight, formula and source."""
    from atlas_topoencoder.losses.terms import SEED_WEIGHTS, TERMS

    for term in TERMS.values():
        click.echo(f"{term.name}  (default {term.default_weight:g}, full set {SEED_WEIGHTS[term.name]:g})")
        click.echo(f"  {term.formula}\n  {term.source}; trains {term.group}")


@topoencoder.command()
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
    """Write the pictures of the trainings of RUN as files, as its report shows them."""
    from atlas_topoencoder.figures import step_figures

    for path, figure in write_figures(workspace.view(run), "topoencoder", step_figures, kind, out):
        click.echo(f"{path}\n  {figure.caption}")


@topoencoder.command()
@click.argument("run")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("tensorboard"),
    show_default=True,
    help="Folder of the events.",
)
@click.pass_obj
def tensorboard(workspace: Workspace, run: str, out: Path) -> None:
    """Write curves, metrics and pictures of the trainings of RUN for TensorBoard."""
    from atlas_topoencoder.events import write_events

    for path in write_events(workspace.view(run), out):
        click.echo(path)
    click.echo(f"tensorboard --logdir {out}")
