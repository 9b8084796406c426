"""Diagonal blocks: their ends and traces side by side, and quantities of single tensors by layer and kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atlas.figures import INK, encode, style
from atlas_pyhessian.pictures.style import NEGATIVE, OPEN, POSITIVE, Row, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, SymLogNorm

__all__ = ["draw_blocks", "draw_layers", "split_name"]

_DECADES = 3
"""Below the largest magnitude by as many decades, the colour scale is linear."""


def split_name(name: str) -> tuple[int | None, str]:
    """Return the layer that a parameter's name gives, and its kind: the name with the layer left out."""
    parts = name.split(".")
    first = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
    if first is None or first == len(parts) - 1:
        return None, name
    return int(parts[first]), ".".join(parts[first + 1 :])


def _dots(axes: Axes, rows: Sequence[Row], name: str, lower: str, upper: str | None, marker: str) -> None:
    """Draw a column of the table with its bar: symmetric for `upper` None, else from `lower` to `upper`."""
    for height, row in enumerate(rows):
        value = row[name]
        if value is None:
            continue
        ink = POSITIVE if value >= 0 else NEGATIVE
        if not row["converged"]:
            ink = OPEN
        bar = [[row[lower]], [row[lower]]] if upper is None else [[value - row[lower]], [row[upper] - value]]
        axes.errorbar(
            value,
            height,
            xerr=bar,
            fmt=marker,
            markersize=4.5,
            color=ink,
            mfc=ink if row["converged"] else "white",
            ecolor=INK,
            elinewidth=1.2,
            capsize=3,
        )


def draw_blocks(
    rows: Sequence[Row], ends: tuple[float, float], *, matrix: str = "Hessian", kind: str = "svg"
) -> bytes:
    """Draw blocks under each other: both ends with residual bars and, beside them, traces with intervals.

    Args:
        rows: Rows of the table `blocks` of one slice.
        ends: Smallest and largest eigenvalue of the whole matrix, between which all ends lie.
        matrix: What the axes call the matrix.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure

    traced = any(row["trace"] is not None for row in rows)
    with style():
        figure = Figure(figsize=(9.2 if traced else 6.4, 1.2 + 0.22 * len(rows)), layout="constrained")
        panels = figure.subplots(1, 2 if traced else 1, squeeze=False, sharey=True)[0]
        _dots(panels[0], rows, "lambda_max", "lambda_max_residual", None, "o")
        _dots(panels[0], rows, "lambda_min", "lambda_min_residual", None, "s")
        for end in ends:
            panels[0].axvline(end, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        panels[0].set_xlabel(f"ends of each block of the {matrix} (nat)\ndashed: ends of the whole")
        if traced:
            _dots(panels[1], rows, "trace", "trace_low", "trace_high", "D")
            panels[1].set_xlabel("trace of the block, 95% interval (nat)")
        for axes in panels:
            axes.axvline(0, color=INK, linewidth=0.8)
            axes.grid(axis="y", color="#dddddd", linewidth=0.7)
            axes.set_axisbelow(True)
        panels[0].set_yticks(range(len(rows)), [row["block"] for row in rows])
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        return encode(figure, kind)


def draw_layers(cells: Mapping[str, tuple[float, bool]], label: str, *, kind: str = "svg") -> bytes:
    """Draw a heat map of single tensors: kinds down, layers across, what is outside all layers below.

    Args:
        cells: By the parameter's name its value, and whether it is told from zero; others get a dot.
        label: What the values are, with their unit.
        kind: `svg` or `png`.
    """
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import SymLogNorm
    from matplotlib.figure import Figure

    places = {name: split_name(name) for name in cells}
    layers = sorted({layer for layer, _ in places.values() if layer is not None})
    inside = list(dict.fromkeys(rest for layer, rest in places.values() if layer is not None))
    outside = [name for name, (layer, _) in places.items() if layer is None]
    largest = max((abs(value) for value, _ in cells.values()), default=0.0) or 1.0
    decade = math.ceil(math.log10(largest))
    limit = 10.0**decade
    scale = SymLogNorm(10.0 ** (decade - _DECADES), vmin=-limit, vmax=limit, base=10)
    colours = colormaps["PuOr_r"]
    grid = np.full((len(inside), len(layers)), math.nan)
    column = np.full((len(outside), 1), math.nan)
    dots: list[tuple[int, int]] = []
    lone: list[tuple[int, int]] = []
    for name, (layer, rest) in places.items():
        value, told = cells[name]
        if layer is None:
            column[outside.index(name), 0] = value
            lone += [] if told else [(0, outside.index(name))]
        else:
            place = (layers.index(layer), inside.index(rest))
            grid[place[1], place[0]] = value
            dots += [] if told else [place]
    parts = [part for part in ((grid, inside, dots), (column, outside, lone)) if part[1]]
    with style():
        width = max(5.4, 3.8 + 0.26 * len(layers))
        height = max(2.2, 1.6 + 0.24 * (len(inside) + len(outside)))
        figure = Figure(figsize=(width, height), layout="constrained")
        ratios = [len(names) for _, names, _ in parts]
        panels = figure.subplots(len(parts), 1, squeeze=False, height_ratios=ratios)[:, 0]
        for axes, (values, names, marks) in zip(panels, parts, strict=True):
            _heat(axes, values, names, marks, colours, scale)
            axes.set_xticks([])
            axes.set_xlabel("outside the layers")
        if layers:
            shown = range(0, len(layers), 1 + len(layers) // 24)
            panels[0].set_xticks(list(shown), [str(layers[i]) for i in shown])
            panels[0].set_xlabel("layer")
        bar = figure.colorbar(ScalarMappable(scale, colours), ax=list(panels), label=label, shrink=0.95)
        decades = [10.0 ** (decade - k) for k in range(_DECADES)]
        ticks = [*(-d for d in decades), 0.0, *reversed(decades)]
        bar.set_ticks(ticks, labels=[number(tick) for tick in ticks])
        bar.minorticks_off()
        return encode(figure, kind)


def _heat(
    axes: Axes,
    grid: Any,
    names: Sequence[str],
    dots: Sequence[tuple[int, int]],
    colours: Colormap,
    scale: SymLogNorm,
) -> None:
    """Draw cells with white lines between them, and a dot in those that are not told from zero."""
    axes.imshow(grid, cmap=colours, norm=scale, aspect="auto")
    for column, row in dots:
        axes.plot(column, row, "o", markersize=2.5, color=INK)
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks([x + 0.5 for x in range(grid.shape[1] - 1)], minor=True)
    axes.set_yticks([y + 0.5 for y in range(grid.shape[0] - 1)], minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
