"""The report's section on a learned world: its paths against what was recorded, and its energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from atlas.contracts import Fragment
from atlas.figures import INK, PALETTE, Figure, encode, html, style

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["draw_encoded", "draw_energy", "draw_errors", "draw_paths", "render", "step_figures"]

Row = Mapping[str, Any]


def render(view: RunView, step: str) -> Fragment:
    """Render a step that learned a world."""
    return Fragment("What the world model foretells", html(step_figures(view, step)))


def step_figures(view: RunView, step: str) -> Iterator[Figure]:
    """Yield the pictures of a finished step."""
    tables = view.tables(step)

    def figure(name: str, text: str, draw: Callable[..., bytes]) -> Figure:
        return Figure(name, text, lambda form: draw(kind=form))

    said = "; ".join(
        f"{row['nrmse']:.2g}{_error(row['standard_error'])} after {row['horizon']}"
        for row in tables["open-loop"]
    )
    caption = (
        f"Error of prediction in units of the test frames' scatter, against steps ahead: {said}. Grey, what "
        "the model itself makes of a start 1e-3 of the scatter off; dashed, the prediction that nothing "
        "changes. Actions must not depend on the state, or they give it away."
    )
    yield figure("errors", caption, partial(draw_errors, tables["open-loop"]))
    if "encoded" in tables:
        yield figure("encoded", _encoded_caption(tables["encoded"]), partial(draw_encoded, tables["encoded"]))
    panels = "each number of the observation a panel"
    if "encoded" in tables:
        panels = "each normal coordinate of the point a panel, and below them their changes in a frame"
    caption = (
        "Test trajectories from their first observation: recorded in black, predicted along the same actions "
        f"in colour, {panels}."
    )
    yield figure("paths", caption, partial(draw_paths, tables["paths"]))
    last = tables["energy"][-1]
    caption = (
        "Size of the change of the learned energy along paths without action, in units of its scatter in "
        f"the data, heat added back: mean over the starts, and the largest. After {last['step']} steps "
        f"{last['mean']:.2g}."
    )
    yield figure("energy", caption, partial(draw_energy, tables["energy"]))


def _encoded_caption(rows: Sequence[Row]) -> str:
    said = "; ".join(
        f"{row['distance']:.2g}{_error(row['standard_error'])} after {row['horizon']}, decoded "
        f"{row['decoded']:.2g} where the encoder itself has {row['floor']:.2g}"
        for row in rows
    )
    return (
        "Left, mean hyperbolic distance of predicted points from the encoder's; grey, what a start 1e-3 of "
        "the scatter off grows to. Right, error of the frames decoded from predicted points by their codes, "
        "without texture, in scatters of the test frames; black, what the encoder makes of the frames. "
        f"Dashed, if nothing moves. {said}."
    )


def draw_encoded(rows: Sequence[Row], *, kind: str = "svg") -> bytes:
    """Draw the errors of points and of decoded frames against steps ahead.

    Args:
        rows: Of the table `encoded`.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure as Drawing

    at = [row["horizon"] for row in rows]
    panels = (
        ("distance of points", "distance", ("still", INK, "--"), ("displaced", "#9a9a9a", "-")),
        ("error of decoded frames", "decoded", ("decoded_still", INK, "--"), ("floor", INK, "-")),
    )
    labels = {
        "still": "nothing moves",
        "displaced": "1e-3 off",
        "decoded_still": "nothing moves",
        "floor": "encoder",
    }
    with style():
        drawing = Drawing(figsize=(7.2, 3.0), layout="constrained")
        for axes, (title, own, *others) in zip(drawing.subplots(1, 2), panels, strict=True):
            for name, colour, line in others:
                found = [row[name] for row in rows]
                axes.plot(at, found, color=colour, linestyle=line, linewidth=1.0, label=labels[name])
            axes.plot(at, [row[own] for row in rows], color=PALETTE[0], marker="o", label="model")
            axes.set(xscale="log", yscale="log", xlabel="steps ahead", ylabel=title)
            axes.set_xticks(at, [str(h) for h in at])
            axes.minorticks_off()
            axes.legend(frameon=False, fontsize=8)
        return encode(drawing, kind)


def _error(value: float | None) -> str:
    return "" if value is None else f" ± {value:.1g}"


def draw_errors(rows: Sequence[Row], *, kind: str = "svg") -> bytes:
    """Draw the errors against steps ahead.

    Args:
        rows: Of the table `open-loop`.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure as Drawing

    with style():
        drawing = Drawing(figsize=(5.2, 3.2), layout="constrained")
        axes = drawing.subplots()
        at = [row["horizon"] for row in rows]
        axes.plot(at, [row["still"] for row in rows], color=INK, linestyle="--", linewidth=0.9, label="still")
        axes.plot(at, [row["displaced"] for row in rows], color="#9a9a9a", linewidth=1.2, label="1e-3 off")
        axes.plot(at, [row["nrmse"] for row in rows], color=PALETTE[0], marker="o", label="model")
        axes.plot(at, [row["median"] for row in rows], color=PALETTE[0], linestyle=":", label="its median")
        axes.set(xscale="log", yscale="log", xlabel="steps ahead", ylabel="nRMSE")
        axes.set_xticks(at, [str(h) for h in at])
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=8)
        return encode(drawing, kind)


def draw_paths(rows: Sequence[Row], *, kind: str = "svg") -> bytes:
    """Draw predicted and recorded numbers against time.

    Args:
        rows: Of the table `paths`.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure as Drawing

    trajectories = sorted({row["trajectory"] for row in rows})
    numbers = sorted({row["number"] for row in rows})
    with style():
        drawing = Drawing(figsize=(2.7 * len(trajectories), 0.4 + 1.4 * len(numbers)), layout="constrained")
        grid = drawing.subplots(len(numbers), len(trajectories), squeeze=False, sharex=True, sharey="row")
        for line, number in zip(grid, numbers, strict=True):
            for axes, trajectory in zip(line, trajectories, strict=True):
                own = [row for row in rows if (row["trajectory"], row["number"]) == (trajectory, number)]
                steps = [row["step"] for row in own]
                axes.plot(steps, [row["recorded"] for row in own], color=INK, linewidth=1.6)
                axes.plot(steps, [row["predicted"] for row in own], color=PALETTE[1], linewidth=1.0)
                axes.tick_params(labelsize=7)
            line[0].set_ylabel(f"number {number}", fontsize=8)
        for axes, trajectory in zip(grid[0], trajectories, strict=True):
            axes.set_title(f"trajectory {trajectory}", fontsize=9, color=INK)
        drawing.supxlabel("step", fontsize=9)
        return encode(drawing, kind)


def draw_energy(rows: Sequence[Row], *, kind: str = "svg") -> bytes:
    """Draw the change of the energy against time.

    Args:
        rows: Of the table `energy`.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure as Drawing

    with style():
        drawing = Drawing(figsize=(5.2, 2.6), layout="constrained")
        axes = drawing.subplots()
        steps = [row["step"] for row in rows]
        axes.plot(steps, [row["largest"] for row in rows], color="#b8cfe0", linewidth=1.0, label="largest")
        axes.plot(steps, [row["mean"] for row in rows], color=PALETTE[0], linewidth=1.2, label="mean")
        axes.set(xlabel="steps without action", ylabel="change of energy", ylim=(0, None))
        axes.legend(frameon=False, fontsize=8)
        return encode(drawing, kind)
