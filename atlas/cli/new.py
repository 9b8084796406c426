"""`atlas new`: a distribution of a plugin to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.catalog import discover
from atlas.scaffold.distribution import KINDS, create

__all__ = ["command"]


@click.command("new")
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
def command(kind: str, name: str, folder: Path | None) -> None:
    """Write the distribution of a plugin, KIND called NAME, into FOLDER (atlas-NAME if not given).

    It installs, passes its own tests and runs from its manifest as it is. Its README says what to change.
    """
    place = Path(f"atlas-{name}") if folder is None else folder
    for path in create(kind, name, place, discover()):
        click.echo(f"  {path}")
    click.echo("\nnext")
    click.echo(f"  cd {place}")
    click.echo("  pip install -e .")
    click.echo("  pytest\nthen")
    click.echo("  atlas run manifest.yaml")
