"""`atlas plan`: what a manifest or a run will do, and why."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.command("plan")
@click.argument("what")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a value.")
@click.pass_obj
def command(workspace: LocalWorkspace, what: str, overrides: tuple[str, ...]) -> None:
    """Show, for a manifest or a run, what each gate and step will do and why.

    Opens no model and imports no plugin but the governance policy.
    """
    if Path(what).is_file() or Path(what).suffix in (".yaml", ".yml"):
        for label, settings in workspace.expand(Path(what), overrides):
            if label:
                click.echo(f"== {label}")
            for line in workspace.plan_manifest(Path(what), settings):
                click.echo(line)
        return
    for line in workspace.plan(workspace.view(what)):
        click.echo(line)
