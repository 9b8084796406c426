"""`atlas plan`: what a manifest or a run will do, and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.command("plan")
@click.argument("what")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a value.")
@click.option("--estimates/--no-estimates", default=True, help="Say what steps will take.")
@click.pass_obj
def command(workspace: LocalWorkspace, what: str, overrides: tuple[str, ...], estimates: bool) -> None:
    """Show, for a manifest or a run, what each gate and step will do and why.

    Declared hypotheses are listed with the smallest p-value that their test can give on the slices of the
    stimulus; one that no outcome can decide is named, with what to do.

    Opens no weights. Steps whose instrument can say what they will take are followed by that: the plugins of
    the instrument, the target and the stimulus are imported for it, and a target's configuration is read.
    `--no-estimates` leaves it out.
    """
    if Path(what).is_file() or Path(what).suffix in (".yaml", ".yml"):
        for label, settings in workspace.expand(Path(what), overrides):
            if label:
                click.echo(f"== {label}")
            for line in workspace.plan_manifest(Path(what), settings):
                click.echo(line)
            for forecast in workspace.forecast_manifest(Path(what), settings):
                click.echo(forecast)
            if estimates:
                _echo(workspace.estimate_manifest(Path(what), settings))
        return
    view = workspace.view(what)
    for line in workspace.plan(view):
        click.echo(line)
    for forecast in workspace.forecast(view):
        click.echo(forecast)
    if estimates:
        _echo(workspace.estimate(view))


def _echo(estimates: Mapping[str, tuple[str, ...]]) -> None:
    for step, lines in estimates.items():
        click.echo(f"\n{step} expects")
        for line in lines:
            click.echo(f"  {line}")
