"""Pictures of spectra, drawn from the tables alone, the same bytes for the same rows."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_slices", "draw_spectrum"]

Row = Mapping[str, Any]

_POSITIVE, _NEGATIVE, _OPEN, _INK = "#1f5a99", "#b3471d", "#8a8a8a", "#333333"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "atlas",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_LABELLED = 12


def _encode(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, metadata=metadata, dpi=150)
    return buffer.getvalue()


def _colour(row: Row) -> str:
    if not row["converged"]:
        return _OPEN
    return _POSITIVE if row["eigenvalue"] >= 0 else _NEGATIVE


def _label(value: float, residual: float | None) -> str:
    error = "" if residual is None else f"\n± {residual:.1g}"
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}") + error


def _stems(axes: Axes, rows: Sequence[Row], matrix: str) -> None:
    """Eigenvalue against index with residual bars; each is labelled while there is room."""
    for row in rows:
        index, value, residual = row["index"], row["eigenvalue"], row["residual_norm"]
        colour = _colour(row)
        axes.vlines(index, 0, value, color=colour, linewidth=1.6)
        axes.errorbar(
            index,
            value,
            yerr=residual or 0.0,
            fmt="o",
            markersize=5,
            color=colour,
            mfc=colour if row["converged"] else "white",
            ecolor=_INK,
            capsize=5,
            elinewidth=1.2,
        )
        if len(rows) <= _LABELLED:
            axes.annotate(
                _label(value, residual),
                (index, value),
                xytext=(0, 7 if value >= 0 else -7),
                textcoords="offset points",
                ha="center",
                va="bottom" if value >= 0 else "top",
                color=_INK,
            )
    axes.axhline(0, color=_INK, linewidth=0.8)
    axes.margins(x=0.12, y=0.22)
    axes.set_xlabel("index, by falling magnitude")
    axes.set_ylabel(f"eigenvalue of the {matrix} (nat)")
    if len(rows) <= _LABELLED:
        axes.set_xticks([row["index"] for row in rows])


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
        label="95% bounds on the count",
    )
    axes.set_yscale("log")
    axes.set_ylim(floor, max([*upper, 1.0]) * 4)
    for row in rows:
        axes.plot(
            [row["eigenvalue"]] * 2,
            [0.0, 0.045],
            transform=axes.get_xaxis_transform(),
            color=_colour(row),
            linewidth=1.8,
            clip_on=False,
        )
    axes.plot([], [], color=_POSITIVE, linewidth=1.8, label="certified eigenvalue")
    axes.set_xlabel(f"eigenvalue of the {matrix} (nat)")
    axes.set_ylabel("eigenvalues per interval")
    axes.legend(frameon=False, loc="upper right")


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
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.2, 3.5) if points else (5.6, 3.5), layout="constrained")
        panels = figure.subplots(1, 2 if points else 1, squeeze=False)[0]
        _stems(panels[0], rows, matrix)
        if points:
            _density(panels[1], points, rows, matrix)
        return _encode(figure, kind)


def draw_slices(rows: Sequence[Row], *, matrix: str = "Hessian", kind: str = "svg") -> bytes:
    """Draw all slices under each other on one axis of eigenvalues, with residual bars.

    Args:
        rows: Rows of the table `spectrum`.
        matrix: What the axis calls the matrix.
        kind: `svg` or `png`.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    keys = list(dict.fromkeys(row["slice"] for row in rows))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.6, 1.1 + 0.26 * len(keys)), layout="constrained")
        axes = figure.subplots()
        for row in rows:
            height = keys.index(row["slice"])
            colour = _colour(row)
            axes.errorbar(
                row["eigenvalue"],
                height,
                xerr=row["residual_norm"] or 0.0,
                fmt="o",
                markersize=4.5,
                color=colour,
                mfc=colour if row["converged"] else "white",
                ecolor=_INK,
                elinewidth=1.2,
                capsize=3,
            )
        axes.axvline(0, color=_INK, linewidth=0.8)
        axes.set_yticks(range(len(keys)), keys)
        axes.set_ylim(len(keys) - 0.5, -0.5)
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"eigenvalues of the {matrix} (nat)")
        return _encode(figure, kind)
