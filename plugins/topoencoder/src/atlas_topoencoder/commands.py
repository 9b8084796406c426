"""`atlas topoencoder`: the pictures of a training as files, and the loss terms there are."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.contracts import Workspace
from atlas.errors import BadInput
from atlas.governance import interpretation_closed

__all__ = ["topoencoder"]

_INSTRUMENT = "topoencoder"


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

    view = workspace.view(run)
    reason = interpretation_closed(view)
    if reason is not None:
        raise BadInput(
            f"the pictures of {view.run_id} are closed: {reason}", fix=f"atlas status {view.run_id}"
        )
    uses = {step["id"]: step["use"] for step in view.manifest.get("steps", ())}
    steps = [step for step in view.finished_steps() if uses.get(step) == _INSTRUMENT]
    if not steps:
        raise BadInput(
            f"{view.run_id} has no finished step of {_INSTRUMENT}", fix=f"atlas show {view.run_id}"
        )
    for step in steps:
        for figure in step_figures(view, step):
            path = out / f"{view.run_id}-{step}-{figure.name}.{kind}"
            data = figure.draw(kind)
            try:
                out.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            except OSError as error:
                raise BadInput(f"cannot be written: {error.strerror or error}", where=str(path)) from error
            click.echo(f"{path}\n  {figure.caption}")
