"""`atlas worldmodel`: what the joint phase lets each loss train, by the table and as measured."""

from __future__ import annotations

import click

__all__ = ["worldmodel"]


@click.group()
def worldmodel() -> None:
    """Look at world models."""


@worldmodel.command()
@click.option("--seed", default=0, show_default=True, help="Of weights and frames.")
def firewall(seed: int) -> None:
    """Audit the firewall: the gradient of each loss by each group of parameters.

    A TopoEncoder with the full set of its loss terms and a world model of covariant attention, freshly drawn,
    read random frames. What the table forbids is exactly 0, what it allows is not; a cell where that fails
    is marked (!), and the command fails with it. A joint training writes the same table of its own models.
    """
    from atlas_worldmodel.firewall import audit_text, require_kept
    from atlas_worldmodel.rehearsal import rehearse

    cells = rehearse(seed)
    click.echo(audit_text(cells))
    require_kept(cells)
    click.echo("as the table has it: zeros are exactly 0, all else is not")
