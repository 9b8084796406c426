"""The atlas: examples, codes and chart centres in the Poincaré disc, at the end and on the way."""

from __future__ import annotations

from collections.abc import Sequence

from atlas.figures import INK, encode, style
from atlas_topoencoder.pictures.style import PALE, Row, class_colours, disc

__all__ = ["draw_atlas", "draw_steps"]

_ROOM = 1.06


def _reach(rows: Sequence[Row]) -> float:
    """Return the radius to show: all points, and the disc's edge where they come near it."""
    largest = max((row["x"] ** 2 + row["y"] ** 2) ** 0.5 for row in rows)
    return _ROOM if largest > 0.8 else float(largest) * 1.12


def draw_atlas(
    points: Sequence[Row], charts: Sequence[Row], codes: Sequence[Row], *, kind: str = "svg"
) -> bytes:
    """Draw examples by class, used codes as crosses, chart centres with the number of their chart.

    Args:
        points: Rows of the table `points`.
        charts: Rows of the table `charts`.
        codes: Rows of the table `codes`.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure

    labels = [row["class"] or "" for row in points]
    colours = class_colours(labels)
    with style():
        figure = Figure(figsize=(7.4, 6.2), layout="constrained")
        axes = figure.subplots()
        disc(axes, _reach([*points, *charts]))
        for name, colour in colours.items():
            own = [row for row, label in zip(points, labels, strict=True) if label == name]
            axes.scatter(
                [row["x"] for row in own],
                [row["y"] for row in own],
                s=13,
                color=colour,
                alpha=0.75,
                linewidths=0,
                label=name or "examples",
            )
        used = [row for row in codes if row["examples"]]
        axes.scatter(
            [row["x"] for row in used],
            [row["y"] for row in used],
            marker="x",
            s=16,
            color=INK,
            linewidths=0.7,
            alpha=0.6,
            label="code",
        )
        for row in charts:
            axes.annotate(
                str(row["chart"]),
                (row["x"], row["y"]),
                ha="center",
                va="center",
                fontsize=9,
                fontweight="bold",
                color=INK,
                bbox={"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": INK},
                zorder=4,
            )
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), title="class")
        return encode(figure, kind)


def draw_steps(rows: Sequence[Row], *, kind: str = "svg") -> bytes:
    """Draw the same examples at each noted step, in the plane of the end, with the charts in use.

    Args:
        rows: Rows of the table `snapshots`.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure

    steps = sorted({row["step"] for row in rows})
    colours = class_colours([row["class"] or "" for row in rows])
    number = 1 + max(row["chart"] for row in rows)
    with style():
        figure = Figure(figsize=(2.3 * len(steps), 4.0), layout="constrained")
        grid = figure.subplots(2, len(steps), squeeze=False, height_ratios=(3, 1), sharey="row")
        tallest = 0
        for column, step in enumerate(steps):
            own = [row for row in rows if row["step"] == step]
            axes, bars = grid[0][column], grid[1][column]
            disc(axes, _ROOM)
            axes.set_title(f"step {step}", fontsize=9.5)
            axes.scatter(
                [row["x"] for row in own],
                [row["y"] for row in own],
                s=5,
                c=[colours[row["class"] or ""] for row in own],
                linewidths=0,
            )
            counts = [sum(row["chart"] == k for row in own) for k in range(number)]
            tallest = max(tallest, *counts)
            bars.bar(range(number), counts, color=INK, width=0.8)
            bars.axhline(len(own) / number, color=PALE, linewidth=1, zorder=0)
            bars.set_xticks([0, number - 1])
            bars.set_xlabel("chart")
        grid[1][0].set_ylabel("examples")
        grid[1][0].set_ylim(0, 1.08 * tallest)
        return encode(figure, kind)
