"""How the terminal shows runs beside each other, and how its user says which steps belong together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from atlas.errors import BadInput

if TYPE_CHECKING:
    from atlas.bundle.comparison import Line
    from atlas.record import RunView

__all__ = ["matching", "print_lines"]

_Command = TypeVar("_Command", bound=Callable[..., object])


def _pairs(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> Mapping[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        first, equals, other = text.partition("=")
        if not (first and equals and other) or first in pairs or other in pairs.values():
            raise BadInput(
                f"--match {text} names no pair of steps", fix="write FIRST_RUNS_STEP=OTHERS_STEP, once"
            )
        pairs[first] = other
    return pairs


def matching(command: _Command) -> _Command:
    """Give a command the option `--match`; it gets `matches`, the others' step by the first run's."""
    option = click.option(
        "--match",
        "matches",
        multiple=True,
        callback=_pairs,
        metavar="STEP=STEP",
        help="A step of the first run and the one of the others that it stands beside.",
    )
    return option(command)


def print_lines(views: Sequence[RunView], lines: Sequence[Line]) -> None:
    """Print quantities of several runs as a table, a column for each run."""
    from rich.console import Console
    from rich.table import Table

    from atlas.report.numbers import format_quantity

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("step", "quantity", *(view.run_id for view in views)):
        table.add_column(name, overflow="fold")
    for line in lines:
        cells = [line.step, line.name]
        for view in views:
            quantity = line.values.get(view.run_id)
            shown = "" if quantity is None else format_quantity(quantity)
            agreement = line.agreement.get(view.run_id)
            cells.append(f"{shown} ({agreement.value})" if agreement else shown)
        table.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else 60 + 50 * len(views)).print(table)
