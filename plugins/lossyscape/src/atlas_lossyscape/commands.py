"""The plugin's command `atlas vocab`."""

from __future__ import annotations

import click

from atlas_lossyscape.vocabulary import find_term, page, spelled, vocabulary

__all__ = ["vocab"]


@click.command()
@click.argument("term", required=False)
@click.option("--page", "whole", is_flag=True, help="Print the documentation page of all terms.")
def vocab(term: str | None, whole: bool) -> None:
    """Show TERM, plain language first; without TERM, list all terms with their states."""
    if whole:
        click.echo(page(), nl=False)
    elif term is not None:
        click.echo(spelled(find_term(term)))
    else:
        for entry in vocabulary().terms:
            states = f"  {' / '.join(entry.states)}" if entry.states else ""
            click.echo(f"{entry.id:22}{states}".rstrip())
