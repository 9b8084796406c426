"""`atlas run`: prepare a run from a manifest and take it as far as it goes."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.cli.page import write_page
from atlas.cli.terminal import LiveProgress, print_outcome
from atlas.errors import AtlasError
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.command("run")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a value.")
@click.pass_obj
def command(workspace: LocalWorkspace, manifest: Path, overrides: tuple[str, ...]) -> None:
    """Run a manifest; a matrix makes one run for each combination.

    Exit codes: 0 done, 2 bad input, 5 an instrument failed, 75 waiting for a human.
    """
    cells = workspace.expand(manifest, overrides)
    worst: AtlasError | None = None
    for label, settings in cells:
        if label:
            click.echo(f"== {label}")
        root = workspace.create(manifest, settings)
        click.echo(f"run {root.name} in {root}")
        for note in workspace.notes(root):
            click.echo(f"note: {note}", err=True)
        try:
            try:
                with LiveProgress() as progress:
                    view = workspace.advance(root, progress)
            except KeyboardInterrupt:
                click.echo(f"{root.name} goes on with: atlas resume {root.name}", err=True)
                raise
            write_page(workspace, root)
            print_outcome(view, workspace)
        except AtlasError as error:
            if len(cells) == 1:
                raise
            click.echo(str(error), err=True)
            worst = error if worst is None or error.exit_code < worst.exit_code else worst
    if worst is not None:
        raise worst
