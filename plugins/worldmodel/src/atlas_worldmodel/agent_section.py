"""The report's section on agents: their returns against steps of the environment, and their losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from atlas.contracts import Fragment
from atlas.figures import INK, PALETTE, Figure, encode, html, style

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["draw_losses", "draw_returns", "render", "step_figures"]

Row = Mapping[str, Any]

_PALE = "#b8cfe0"


def render(view: RunView, step: str) -> Fragment:
    """Render an agent step."""
    return Fragment("What the agents learned", html(step_figures(view, step)))


def step_figures(view: RunView, step: str) -> Iterator[Figure]:
    """Yield the pictures of a finished agent step."""
    tables = view.tables(step)
    quantities = {row["quantity"]: row for row in tables["quantities"]}
    final, blind = quantities["final_return"], quantities["blind_return"]
    agents = len({row["repetition"] for row in tables["returns"]})
    starts = len({row["start"] for row in tables["returns"]})
    error = "" if final["uncertainty"] is None else f" ± {final['uncertainty']:.2g}"
    steps = {row["environment_steps"] for row in tables["returns"]}
    against = "steps of the environment that were learned from"
    if _axis(tables["returns"]) == "round":
        against = f"rounds of imagination, through a world learned from {min(steps)} steps of the environment"
    caption = (
        f"Return of the mean force from {starts} fixed starts, against {against}: each start pale, each "
        f"agent's mean in colour ({agents}). At the end {final['value']:.4g}{error} ({final['note']}); "
        f"dashed, actions drawn blind, {blind['value']:.4g}."
    )

    def figure(name: str, text: str, draw: Callable[..., bytes]) -> Figure:
        return Figure(name, text, lambda form: draw(kind=form))

    yield figure("returns", caption, partial(draw_returns, tables["returns"], blind["value"]))
    caption = "Loss terms before their weight at the end of each round, one line an agent"
    if any(row["figure"] == "played_return" for row in tables["learning"]):
        caption += (
            "; beside them the squared error of the world models, in units of the data's spread, and the "
            "return of the round's episodes"
        )
    caption += "."
    yield figure("losses", caption, partial(draw_losses, tables["learning"]))


def _axis(rows: Sequence[Row]) -> str:
    """Return the column that says how far an agent is: steps of the environment, unless rounds take none."""
    rounds, steps = ({row[name] for row in rows} for name in ("round", "environment_steps"))
    return "round" if len(rounds) > 1 == len(steps) else "environment_steps"


def draw_returns(rows: Sequence[Row], blind: float, *, kind: str = "svg") -> bytes:
    """Draw returns against steps of the environment, or rounds where these take none.

    Args:
        rows: Of the table `returns`.
        blind: Mean return of blind actions.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure as Drawing
    from matplotlib.ticker import MaxNLocator

    agents = sorted({row["repetition"] for row in rows})
    axis = _axis(rows)
    with style():
        drawing = Drawing(figsize=(6.2, 3.4), layout="constrained")
        axes = drawing.subplots()
        for agent in agents:
            own = [row for row in rows if row["repetition"] == agent]
            steps = sorted({row[axis] for row in own})
            axes.plot(
                [row[axis] for row in own],
                [row["return"] for row in own],
                linestyle="none",
                marker=".",
                markersize=3,
                color=_PALE,
            )
            means = []
            for step in steps:
                found = [row["return"] for row in own if row[axis] == step]
                means.append(sum(found) / len(found))
            colour = PALETTE[agent % len(PALETTE)]
            axes.plot(steps, means, color=colour, linewidth=1.3, marker="o", markersize=3.5)
        axes.axhline(blind, color=INK, linewidth=0.8, linestyle="--")
        axes.annotate(
            "blind", (1, blind), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=INK
        )
        label = "round of imagination" if axis == "round" else "steps of the environment"
        axes.set(xlabel=label, ylabel="return", xlim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return encode(drawing, kind)


def draw_losses(rows: Sequence[Row], *, kind: str = "svg") -> bytes:
    """Draw each figure of the rounds in a panel of its own.

    Args:
        rows: Of the table `learning`.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure as Drawing

    names = list(dict.fromkeys(row["figure"] for row in rows))
    columns = min(3, len(names))
    lines = math.ceil(len(names) / columns)
    with style():
        drawing = Drawing(figsize=(2.6 * columns, 0.4 + 1.8 * lines), layout="constrained")
        grid = drawing.subplots(lines, columns, squeeze=False, sharex=True)
        for axes, name in zip(grid.flat, names, strict=False):
            for agent in sorted({row["repetition"] for row in rows}):
                own = [row for row in rows if row["figure"] == name and row["repetition"] == agent]
                axes.plot(
                    [row["round"] for row in own],
                    [row["value"] for row in own],
                    color=PALETTE[agent % len(PALETTE)],
                    linewidth=1.1,
                )
            axes.set_title(name, fontsize=9, color=INK)
            axes.tick_params(labelsize=7)
        for axes in list(grid.flat)[len(names) :]:
            axes.set_axis_off()
        drawing.supxlabel("round", fontsize=9)
        return encode(drawing, kind)
