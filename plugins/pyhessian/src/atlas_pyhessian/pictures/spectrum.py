"""One slice's spectrum and density, and the eigenvalues of all slices on one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atlas.figures import INK, encode, style
from atlas_pyhessian.pictures.style import POSITIVE, Row, colour, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LABELLED", "draw_slices", "draw_spectrum"]

LABELLED = 12
"""Eigenvalues that can be labelled beside each other; the residuals of more get a panel of their own."""


def _label(value: float, residual: float | None) -> str:
    error = "" if residual is None else f"\n± {residual:.2g}"
    return number(value) + error


def _stems(axes: Axes, rows: Sequence[Row], matrix: str) -> None:
    """Eigenvalue against index with residual bars; each is labelled while there is room."""
    for row in rows:
        index, value, residual = row["index"], row["eigenvalue"], row["residual_norm"]
        ink = colour(row)
        axes.vlines(index, 0, value, color=ink, linewidth=1.6)
        axes.errorbar(
            index,
            value,
            yerr=residual or 0.0,
            fmt="o",
            markersize=5,
            color=ink,
            mfc=ink if row["converged"] else "white",
            ecolor=INK,
            capsize=5,
            elinewidth=1.2,
        )
        if len(rows) <= LABELLED:
            axes.annotate(
                _label(value, residual),
                (index, value),
                xytext=(0, 7 if value >= 0 else -7),
                textcoords="offset points",
                ha="center",
                va="bottom" if value >= 0 else "top",
                color=INK,
            )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.margins(x=0.12, y=0.22)
    axes.set_xlabel("index, by falling magnitude")
    axes.set_ylabel(f"eigenvalue of the {matrix} (nat)")
    if len(rows) <= LABELLED:
        axes.set_xticks([row["index"] for row in rows])


def _residuals(axes: Axes, rows: Sequence[Row]) -> None:
    """Residuals relative to the largest magnitude on a logarithmic scale, where bars would be too small."""
    for row in rows:
        if row["relative_residual"]:
            ink = colour(row)
            axes.plot(
                row["index"],
                row["relative_residual"],
                "o",
                markersize=4,
                color=ink,
                mfc=ink if row["converged"] else "white",
            )
    axes.set_yscale("log")
    axes.margins(y=0.2)
    axes.set_xlabel("index, by falling magnitude")
    axes.set_ylabel("residual /\nlargest")
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)


def _density(axes: Axes, points: Sequence[Row], rows: Sequence[Row], matrix: str) -> None:
    """Counts by interval on a logarithmic scale with the band of its 95% bounds, and a rug."""
    edges = [point["low"] for point in points] + [points[-1]["high"]]
    counts = [max(point["count"], 0.0) for point in points]
    lower = [point["count_low"] for point in points]
    upper = [point["count_high"] for point in points]
    floor = 0.3
    axes.stairs([max(c, floor) for c in counts], edges, baseline=floor, fill=True, color="#b9cbe0")
    axes.stairs(
        [max(u, floor) for u in upper],
        edges,
        baseline=[max(low, floor) for low in lower],
        fill=True,
        color="#1f5a99",
        alpha=0.6,
        label="95% bounds",
    )
    axes.set_yscale("log")
    axes.set_ylim(floor, max([*upper, 1.0]) * 4)
    for row in rows:
        axes.plot(
            [row["eigenvalue"]] * 2,
            [0.0, 0.045],
            transform=axes.get_xaxis_transform(),
            color=colour(row),
            linewidth=1.8,
            clip_on=False,
        )
    axes.plot([], [], color=POSITIVE, linewidth=1.8, label="certified eigenvalue")
    axes.set_xlabel(f"eigenvalue of the {matrix} (nat)")
    axes.set_ylabel("eigenvalues per interval")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def draw_spectrum(
    rows: Sequence[Row], points: Sequence[Row] = (), *, matrix: str = "Hessian", kind: str = "svg"
) -> bytes:
    """Draw one slice: stems with residual bars, and beside them the density where there is one.

    Args:
        rows: Rows of the table `spectrum` of one slice.
        points: Rows of the table `density` of the same slice.
        matrix: What the axes call the matrix.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    apart = len(rows) > LABELLED and any(row["residual_norm"] for row in rows)
    with style():
        figure = Figure(figsize=(9.2 if points else 5.6, 4.6 if apart else 3.5), layout="constrained")
        columns = figure.subfigures(1, 2 if points else 1, squeeze=False)[0]
        panels = columns[0].subplots(
            2 if apart else 1, 1, squeeze=False, sharex=apart, height_ratios=[3, 1] if apart else None
        )[:, 0]
        _stems(panels[0], rows, matrix)
        if apart:
            panels[0].set_xlabel("")
            panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
            _residuals(panels[1], rows)
        if points:
            _density(columns[1].subplots(), points, rows, matrix)
        return encode(figure, kind)


def draw_slices(rows: Sequence[Row], *, matrix: str = "Hessian", kind: str = "svg") -> bytes:
    """Draw all slices under each other on one axis of eigenvalues, with residual bars.

    Args:
        rows: Rows of the table `spectrum`.
        matrix: What the axis calls the matrix.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure

    keys = list(dict.fromkeys(row["slice"] for row in rows))
    with style():
        figure = Figure(figsize=(7.6, 1.1 + 0.26 * len(keys)), layout="constrained")
        axes = figure.subplots()
        for row in rows:
            height = keys.index(row["slice"])
            ink = colour(row)
            axes.errorbar(
                row["eigenvalue"],
                height,
                xerr=row["residual_norm"] or 0.0,
                fmt="o",
                markersize=4.5,
                color=ink,
                mfc=ink if row["converged"] else "white",
                ecolor=INK,
                elinewidth=1.2,
                capsize=3,
            )
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(keys)), keys)
        axes.set_ylim(len(keys) - 0.5, -0.5)
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"eigenvalues of the {matrix} (nat)")
        return encode(figure, kind)
