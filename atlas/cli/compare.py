"""`atlas compare`: what differs between two runs, in inputs, environment and numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import click

from atlas.cli.beside import matching, print_lines
from atlas.run.workspace import LocalWorkspace

if TYPE_CHECKING:
    from atlas.bundle.differences import Difference

__all__ = ["command"]

_WIDEST = 60


@click.command("compare")
@click.argument("first")
@click.argument("second")
@matching
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def command(
    workspace: LocalWorkspace, first: str, second: str, matches: Mapping[str, str], as_json: bool
) -> None:
    """Say what differs between two runs: what they were given, what they ran on, what they measured.

    Governed runs are refused until their Reads #0 and #1 are sealed.
    """
    from atlas.bundle.comparison import check_open, match_steps, side_by_side, unmatched
    from atlas.bundle.differences import environment, inputs

    one, two = views = (workspace.view(first), workspace.view(second))
    check_open(views)
    steps = match_steps(one, two, matches)
    given, surroundings = inputs(one, two, steps), environment(one, two, steps)
    lines, alone = side_by_side(views, declared=matches), unmatched(one, two, steps)
    if as_json:
        found = {
            "inputs": [attrs.asdict(difference) for difference in given],
            "environment": [attrs.asdict(difference) for difference in surroundings],
            "numbers": [line.as_record() for line in lines],
            "unmatched": alone,
        }
        click.echo(json.dumps(found, indent=2, allow_nan=False))
        return
    _print_differences("inputs", given)
    _print_differences("environment", surroundings)
    grades = Counter(agreement.value for line in lines for agreement in line.agreement.values())
    told = ", ".join(f"{count} {grade}" for grade, count in grades.items()) or "no quantity is in both"
    click.echo(f"numbers: {told}")
    if lines:
        print_lines(views, lines)
    for step in alone:
        click.echo(f"  only here: {step}; --match STEP=STEP sets two steps beside each other")


def _print_differences(title: str, differences: Sequence[Difference]) -> None:
    click.echo(f"{title}: {f'{len(differences)} differ' if differences else 'the same'}")
    for one in differences:
        click.echo(f"  {one.what}: {_short(one.first)} | {_short(one.second)}")


def _short(text: str | None) -> str:
    if text is None:
        return "(absent)"
    line = " ".join(text.split())
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 3]}..."
