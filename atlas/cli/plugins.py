"""`atlas plugins`: what is installed and what it offers."""

from __future__ import annotations

import subprocess
import sys
import time

import click
from attrs import frozen

from atlas import API, __version__
from atlas.catalog import KINDS, Card, discover
from atlas.errors import PluginFault

__all__ = ["command"]


_OPEN = """
import sys, time, warnings
from atlas.catalog import discover
from atlas.errors import AtlasError
from atlas.host import DeprecatedHook, Host
host = Host(discover())
start = time.perf_counter()
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    try:
        host.open(sys.argv[1])
    except AtlasError as error:
        sys.exit(error.what)
print(time.perf_counter() - start)
for warning in told:
    if issubclass(warning.category, DeprecatedHook):
        print(warning.message)
"""


@frozen
class _Opened:
    """How the import of a plugin went.

    Attributes:
        seconds: How long it took, without the start of the process.
        fault: Why it cannot be imported, or None.
        notes: Its hooks that will go.
    """

    seconds: float
    fault: str | None = None
    notes: tuple[str, ...] = ()


def _opened(card: Card) -> _Opened:
    """Import a plugin in a process of its own, and check its hooks."""
    start = time.perf_counter()
    command = [sys.executable, "-c", _OPEN, card.plugin]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = result.stdout.splitlines()
    if result.returncode == 0:
        return _Opened(float(lines[0]), None, tuple(lines[1:]))
    said = result.stderr.strip().splitlines()
    fault = said[-1] if said else f"it ended with exit code {result.returncode}"
    return _Opened(time.perf_counter() - start, fault)


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
            opened = _opened(card)
            click.echo(f"  import: {opened.fault or 'sound'}, {opened.seconds:.2f} s")
            for note in opened.notes:
                click.echo(f"  note: {note}")
            if opened.fault is not None:
                faults.append(f"{card.who}: {opened.fault}")
    clashes = catalog.clashes()
    for clash in clashes:
        click.echo(f"\nCLASH: {clash}")
    if check and (faults or clashes):
        raise PluginFault("; ".join([*faults, *clashes]))
