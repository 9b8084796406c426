"""What the terminal shows of a run: progress while it works, and a table when it is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from atlas.outcomes import verdicts
from atlas.quantities import Quantity, UncertaintyKind
from atlas.report.numbers import format_interval, format_quantity, has_no_scatter
from atlas.report.verdicts import describe_effect, describe_errors

if TYPE_CHECKING:
    from atlas.record import RunView
    from atlas.run.workspace import LocalWorkspace

__all__ = ["LiveProgress", "print_outcome", "print_quantities", "print_verdicts"]

_PLAIN_EVERY_S = 10.0


class LiveProgress:
    """Shows what a step reports: a bar on a terminal, a line every ten seconds elsewhere."""

    def __enter__(self) -> LiveProgress:
        self._last = ""
        self._printed = 0.0
        self._bar: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[counts]}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[figures]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None, counts="", figures="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(
        self, message: str, *, done: int | None = None, total: int | None = None, **figures: float
    ) -> None:
        """Show one report."""
        shown = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
        counts = "" if done is None else f"{done}" + (f"/{total}" if total is not None else "")
        if self._bar is not None:
            self._bar.update(
                self._task,
                description=message,
                completed=done or 0,
                total=total,
                counts=counts,
                figures=shown,
            )
            return
        now = time.monotonic()
        if message != self._last or now - self._printed >= _PLAIN_EVERY_S:
            self._last, self._printed = message, now
            click.echo("  ".join(part for part in (message, counts, shown) if part), err=True)


_HEADINGS = ("step", "slice", "quantity", "value", "unit", "uncertainty is", "converged", "products")


def _row(step: str, quantity: Quantity) -> tuple[str, ...]:
    name = quantity.quantity if quantity.index is None else f"{quantity.quantity} {quantity.index}"
    if quantity.uncertainty_kind is UncertaintyKind.UNDEFINED:
        kind = "undefined"
    elif has_no_scatter(quantity):
        kind = "every sample gave this"
    else:
        kind = quantity.uncertainty_kind.value.replace("_", " ")
    kind = "; ".join(part for part in (kind, format_interval(quantity)) if part)
    products = "" if quantity.num_matvecs is None else str(quantity.num_matvecs)
    return (
        step,
        quantity.slice,
        name,
        format_quantity(quantity),
        "" if quantity.unit == "1" else quantity.unit,
        kind,
        "yes" if quantity.converged else "NO",
        products,
    )


def print_quantities(view: RunView) -> None:
    """Print a run's quantities as a table, with the reasons of undefined ones below it."""
    from rich.console import Console
    from rich.table import Table

    measured = list(view.quantities())
    if not measured:
        click.echo("no quantities yet")
        return
    rows = [_row(step, quantity) for step, quantity in measured]
    # A column that says the same on every line says nothing; the lines stay short on narrow terminals.
    shown = [i for i, name in enumerate(_HEADINGS) if i > 1 or len({row[i] for row in rows}) > 1]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i in shown:
        name = _HEADINGS[i]
        table.add_column(
            name,
            justify="right" if name in ("value", "products") else "left",
            no_wrap=name != "uncertainty is",
        )
    for row in rows:
        table.add_row(*(row[i] for i in shown))
    notes = [f"{quantity.quantity}: {quantity.note}" for _, quantity in measured if quantity.note]
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for note in dict.fromkeys(notes):
        console.print(f"  {note}", style="dim", markup=False, highlight=False)


def print_verdicts(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print what became of hypotheses, three lines each."""
    for row in rows:
        later = "" if row["registered"] == "declared" else " (exploratory: added later)"
        click.echo(f"{row['hypothesis']}: {row['verdict']}{later}")
        click.echo(
            f"  {row['quantity']} for {row['group']} expected {row['expect']} than for {row['against']}: "
            f"{describe_effect(row)}"
        )
        click.echo(f"  {row['design']}; {describe_errors(row)}")


def print_outcome(view: RunView, workspace: LocalWorkspace) -> None:
    """Print a finished run: its numbers, its tier with the reasons, and where everything lies."""
    print_quantities(view)
    if judged := verdicts(view):
        click.echo("")
        print_verdicts(judged)
    report = workspace.tier(view)
    click.echo(f"\nTier {report.tier}")
    for condition in report.conditions:
        if not condition.met and condition.otherwise is not None:
            click.echo(f"  {condition.otherwise}: {condition.name} - {condition.evidence}")
    click.echo(f"\nrun     {view.run_id} is {view.state}")
    click.echo(f"tables  {view.root / 'raw'}")
    if (view.root / "report.html").is_file():
        click.echo(f"report  {view.root / 'report.html'}")
    click.echo(f"head    {view.head}   (keep it elsewhere; atlas verify {view.run_id} --head takes it)")
