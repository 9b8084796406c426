"""`atlas tier`: the tier that a run's record supports, with the evidence."""

from __future__ import annotations

import click

from atlas.governance import Condition
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


def _print(condition: Condition) -> None:
    mark = "met    " if condition.met else "NOT met"
    falls = f" -> {condition.otherwise}" if not condition.met and condition.otherwise else ""
    click.echo(f"  {mark} {condition.name}{falls}")
    click.echo(f"          {condition.evidence}")


@click.command("tier")
@click.argument("run")
@click.pass_obj
def command(workspace: LocalWorkspace, run: str) -> None:
    """Compute the tier of RUN from its journal. Nobody sets it."""
    view = workspace.view(run)
    report = workspace.tier(view)
    click.echo(f"{view.run_id}: Tier {report.tier}")
    for condition in report.conditions:
        _print(condition)
    criteria = workspace.criteria(view)
    if criteria:
        click.echo("success criteria")
        for condition in criteria:
            _print(condition)
