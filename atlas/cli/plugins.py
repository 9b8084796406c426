"""`atlas plugins`: what is installed and what it offers."""

from __future__ import annotations

import subprocess
import sys
import time

import click

from atlas import API, __version__
from atlas.catalog import KINDS, Card, discover
from atlas.errors import PluginFault

__all__ = ["command"]


def _import_in_subprocess(card: Card) -> str | None:
    """Return why a plugin cannot be imported, or None."""
    code = f"import importlib; importlib.import_module({card.module!r})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"it ended with exit code {result.returncode}"


@click.command("plugins")
@click.option("--check", is_flag=True, help="Import each plugin in a process of its own, with the time.")
def command(check: bool) -> None:
    """List the installed plugins and what they offer. Imports none of them without --check."""
    catalog = discover()
    click.echo(f"atlas {__version__}, plugin interface {API}, {len(catalog.cards)} plugins")
    faults = []
    for card in catalog.cards:
        digest = f", card {card.sha256[:12]}" if card.sha256 else ""
        click.echo(f"\n{card.plugin}  ({card.distribution} {card.version}{digest})  {card.summary}")
        if card.fault is not None:
            faults.append(f"{card.who}: {card.fault}")
            click.echo(f"  BROKEN: {card.fault}")
        for offer in card.offers:
            click.echo(f"  {KINDS[offer.kind]:<18} {offer.name:<18} {offer.summary}")
        if check and card.fault is None:
            start = time.perf_counter()
            fault = _import_in_subprocess(card)
            seconds = time.perf_counter() - start
            click.echo(f"  import: {fault or 'sound'}, {seconds:.2f} s")
            if fault is not None:
                faults.append(f"{card.who}: {fault}")
    clashes = catalog.clashes()
    for clash in clashes:
        click.echo(f"\nCLASH: {clash}")
    if check and (faults or clashes):
        raise PluginFault("; ".join([*faults, *clashes]))
