"""A series of checkpoints: ends, trace and loss against the training step, and the density beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from atlas.figures import INK, PALETTE, encode, style
from atlas_pyhessian.pictures.style import Row, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["TOLD_APART", "draw_density_series", "draw_series"]

TOLD_APART = len(PALETTE)
"""Slices that get a colour and a marker each; more are drawn alike."""

_MARKERS = "osD^vPX"
_WIDE = 100
"""Ratio of the last step to the first from which the axis of steps is logarithmic."""


def _abscissae(rows: Sequence[Row]) -> tuple[dict[int, float], str, bool]:
    """Return the place of each position on the axis, the axis' label, and whether it is logarithmic.

    Steps are used where every label names one and they rise; else the positions.
    """
    steps = {row["position"]: row["step"] for row in rows}
    values = [steps[position] for position in sorted(steps)]
    known = [value for value in values if value is not None]
    if len(known) == len(values) and all(a < b for a, b in pairwise(known)):
        least = next((value for value in known if value > 0), 1)
        wide = known[-1] > _WIDE * least
        return {position: float(steps[position]) for position in steps}, "training step", wide
    return {position: float(position) for position in steps}, "checkpoint", False


def _axis(axes: Axes, rows: Sequence[Row]) -> None:
    places, label, logarithmic = _abscissae(rows)
    axes.set_xlabel(label)
    if logarithmic:
        least = min(place for place in places.values() if place > 0)
        axes.set_xscale("symlog", linthresh=least, linscale=0.4)
    if label == "checkpoint":
        names = {row["position"]: row["label"] for row in rows}
        axes.set_xticks(list(places.values()), [names[p] for p in places], rotation=30, ha="right")


def _bars(row: Row, name: str) -> tuple[float, float]:
    """Return how far a quantity's error reaches below and above it."""
    if name == "trace":
        if row["trace_low"] is None:
            return 0.0, 0.0
        return row["trace"] - row["trace_low"], row["trace_high"] - row["trace"]
    error = row.get(f"{name}_residual") or 0.0
    return error, error


def draw_series(rows: Sequence[Row], *, matrix: str = "Hessian", kind: str = "svg") -> bytes:
    """Draw largest and smallest eigenvalue, trace and loss against the training step, with error bars.

    Args:
        rows: Rows of the table `series`.
        matrix: What the title calls the matrix.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure

    labels = {
        "lambda_max": "$\\lambda_{max}$ (nat)",
        "lambda_min": "$\\lambda_{min}$ (nat)",
        "trace": "trace (nat)",
        "loss": "loss (nat)",
    }
    shown = [name for name in labels if any(row[name] is not None for row in rows)]
    keys = list(dict.fromkeys(row["slice"] for row in rows))
    places, _, _ = _abscissae(rows)
    with style():
        figure = Figure(figsize=(7.2, 0.9 + 1.55 * len(shown)), layout="constrained")
        figure.suptitle(f"{matrix} by checkpoint", fontsize=10, color=INK)
        panels = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
        for axes, name in zip(panels, shown, strict=True):
            for line, key in enumerate(keys):
                told = len(keys) <= TOLD_APART
                points = [row for row in rows if row["slice"] == key and row[name] is not None]
                bars = [_bars(row, name) for row in points]
                axes.errorbar(
                    [places[row["position"]] for row in points],
                    [row[name] for row in points],
                    yerr=[[low for low, _ in bars], [high for _, high in bars]],
                    fmt=f"-{_MARKERS[line]}" if told else "-",
                    color=PALETTE[line] if told else INK,
                    alpha=1.0 if told else 0.35,
                    markersize=4.5,
                    linewidth=1.2,
                    ecolor=INK,
                    elinewidth=1.2,
                    capsize=3,
                    label=key,
                )
            axes.set_ylabel(labels[name])
            axes.grid(axis="y", color="#dddddd", linewidth=0.7)
            axes.margins(y=0.18)
            if name == "lambda_min":
                axes.axhline(0, color=INK, linewidth=0.8)
        if 1 < len(keys) <= TOLD_APART:
            panels[0].legend(
                frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=min(4, len(keys))
            )
        _axis(panels[-1], rows)
        figure.align_ylabels()
        return encode(figure, kind)


def draw_density_series(
    rows: Sequence[Row],
    densities: Sequence[Sequence[Row]],
    *,
    matrix: str = "Hessian",
    kind: str = "svg",
) -> bytes:
    """Draw the density of one slice against the training step as a heat map.

    Args:
        rows: Rows of the table `series` of the slice, by rising position.
        densities: For each of them its rows of the table `density`.
        matrix: What the axis calls the matrix.
        kind: `svg` or `png`.
    """
    import numpy as np
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    heights = [
        [max(point["count"], 0.0) / (point["high"] - point["low"]) for point in points]
        for points in densities
    ]
    largest = max(height for column in heights for height in column) or 1.0
    scale = LogNorm(largest * 1e-6, largest)
    colours = "cividis"
    with style():
        figure = Figure(figsize=(7.2, 3.9), layout="constrained")
        axes = figure.subplots()
        centres = [float(i) for i in range(len(rows))]
        for centre, column, points in zip(centres, heights, densities, strict=True):
            edges = [point["low"] for point in points] + [points[-1]["high"]]
            axes.pcolormesh(
                [centre - 0.5, centre + 0.5],
                edges,
                np.array([max(height, largest * 1e-6) for height in column]).reshape(-1, 1),
                cmap=colours,
                norm=scale,
            )
        axes.set_facecolor("#eeeeee")
        axes.axhline(0, color="white", linewidth=0.8)
        reach = max(max(-points[0]["low"], points[-1]["high"]) for points in densities)
        axes.set_yscale("asinh", linear_width=reach / 50)
        top = math.floor(math.log10(reach))
        ticks = [sign * 10.0**k for k in (top - 1, top) for sign in (-1, 1)]
        axes.set_yticks([0.0, *ticks], labels=["0", *(number(tick) for tick in ticks)])
        axes.set_yticks([], minor=True)
        axes.set_ylim(
            min(points[0]["low"] for points in densities), max(points[-1]["high"] for points in densities)
        )
        names = [row["label"] if row["step"] is None else f"{row['step']:g}" for row in rows]
        axes.set_xticks(centres, names, rotation=30 if len(rows) > 8 else 0)
        axes.set_xlabel("training step" if all(row["step"] is not None for row in rows) else "checkpoint")
        axes.set_ylabel(f"eigenvalue of the {matrix} (nat)")
        figure.colorbar(ScalarMappable(scale, colours), ax=axes, label="eigenvalues per nat")
        return encode(figure, kind)
