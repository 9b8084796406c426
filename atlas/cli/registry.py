"""`atlas registry`: what is admitted, against what is installed."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.catalog import discover
from atlas.errors import PluginFault
from atlas.registry import Registry

__all__ = ["command"]


@click.group("registry")
def command() -> None:
    """Compare the registry with what is installed; admit a plugin."""


@command.command("check")
def check() -> None:
    """Show the difference between listed, installed and changed, and which file was read."""
    registry = Registry.find(Path.cwd())
    click.echo(f"registry: {registry.path}")
    differences = registry.check(discover())
    for line in differences:
        click.echo(f"  {line}")
    if not differences:
        click.echo("  every installed plugin is admitted as it is")


@command.command("add")
@click.argument("name")
def add(name: str) -> None:
    """Admit the installed plugin NAME as its card is now."""
    registry = Registry.find(Path.cwd())
    cards = {card.plugin: card for card in discover().cards}
    if name not in cards:
        raise PluginFault(
            f"no plugin {name!r} is installed", fix=f"installed: {', '.join(sorted(cards)) or 'none'}"
        )
    registry.add(cards[name])
    click.echo(f"admitted: {cards[name].who} in {registry.path}")
