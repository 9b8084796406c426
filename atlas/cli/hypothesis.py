"""`atlas hypothesis`: what became of a run's hypotheses, and one that somebody thought of later."""

from __future__ import annotations

from typing import Any

import click

from atlas.cli.page import write_page
from atlas.cli.terminal import print_verdicts
from atlas.errors import BadInput
from atlas.outcomes import verdicts
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.group("hypothesis")
def command() -> None:
    """Show what became of a run's hypotheses; add one later, labelled exploratory."""


@command.command("show")
@click.argument("run")
@click.pass_obj
def show(workspace: LocalWorkspace, run: str) -> None:
    """Show the verdicts on the hypotheses of RUN."""
    view = workspace.view(run)
    rows = verdicts(view)
    if rows:
        print_verdicts(rows)
        return
    declared = view.manifest.get("declare") or []
    click.echo(f"{len(declared)} declared, none judged yet" if declared else "no hypothesis was declared")


def _selection(text: str) -> dict[str, str]:
    result = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not (name.strip() and equals and value.strip()):
            raise BadInput(f"{text!r} selects no slices", fix="write it as tier=contested,domain=legal")
        result[name.strip()] = value.strip()
    return result


@command.command("add")
@click.argument("run")
@click.option("--id", "name", required=True, help="Its name, such as x1.")
@click.option("--quantity", required=True, metavar="STEP.QUANTITY", help="What is compared.")
@click.option("--group", required=True, metavar="NAME=VALUE,...", help="Slices on one side.")
@click.option("--against", required=True, metavar="NAME=VALUE,...", help="Slices on the other side.")
@click.option("--expect", required=True, type=click.Choice(["greater", "less", "different"]))
@click.option("--alpha", type=click.FloatRange(0, 0.5, min_open=True), default=0.05, show_default=True)
@click.option("--smallest-effect", type=click.FloatRange(0, min_open=True), help="In the quantity's unit.")
@click.option(
    "--test", type=click.Choice(["permutation", "bootstrap"]), default="permutation", show_default=True
)
@click.option("--pair-by", metavar="ATTRIBUTE", help="Pair slices of the two sides by this attribute.")
@click.pass_obj
def add(
    workspace: LocalWorkspace,
    /,
    run: str,
    name: str,
    group: str,
    against: str,
    smallest_effect: float | None,
    pair_by: str | None,
    **settings: Any,
) -> None:
    """Judge a hypothesis that nobody declared before RUN; its verdict is sealed as exploratory.

    It never enters the correction of the declared ones: whoever tries many of these finds one by chance.
    """
    hypothesis: dict[str, Any] = {
        "id": name,
        "group": _selection(group),
        "against": _selection(against),
        **settings,
    }
    if smallest_effect is not None:
        hypothesis["smallest_effect"] = smallest_effect
    if pair_by is not None:
        hypothesis["pair_by"] = pair_by
    root = workspace.find(run)
    workspace.explore(root, hypothesis)
    write_page(workspace, root)
    print_verdicts(row for row in verdicts(workspace.view(run)) if row["hypothesis"] == name)
