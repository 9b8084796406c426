"""`atlas show`: a run's quantities, for people or as JSON."""

from __future__ import annotations

import json

import click

from atlas.cli.terminal import print_quantities
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.command("show")
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print run_id, state, tier and quantities as JSON.")
@click.pass_obj
def command(workspace: LocalWorkspace, run: str, as_json: bool) -> None:
    """Show the quantities of RUN."""
    view = workspace.view(run)
    if not as_json:
        print_quantities(view)
        return
    record = {
        "run_id": view.run_id,
        "state": view.state,
        "tier": workspace.tier(view).tier,
        "quantities": [{"step": step, **quantity.as_record()} for step, quantity in view.quantities()],
    }
    click.echo(json.dumps(record, indent=2, ensure_ascii=True, allow_nan=False))
