"""How often each code is chosen, chart by chart."""

from __future__ import annotations

from collections.abc import Sequence

from atlas.figures import encode, style
from atlas_topoencoder.pictures.style import Row

__all__ = ["draw_codes"]

_LABELLED = 400
"""Cells that get their number written in."""


def draw_codes(codes: Sequence[Row], *, kind: str = "svg") -> bytes:
    """Draw a cell a code, those of a chart in a row and sorted by use; a dead code is white.

    Args:
        codes: Rows of the table `codes`.
        kind: `svg` or `png`.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    charts = 1 + max(row["chart"] for row in codes)
    by_chart = [
        sorted((r["examples"] for r in codes if r["chart"] == k), reverse=True) for k in range(charts)
    ]
    largest = max(max(row) for row in by_chart)
    width = len(by_chart[0])
    with style():
        figure = Figure(figsize=(min(10.0, 1.6 + 0.36 * width), 1.2 + 0.32 * charts), layout="constrained")
        axes = figure.subplots()
        palette = mpl.colormaps["Blues"].with_extremes(under="white")
        seen = axes.imshow(by_chart, cmap=palette, vmin=0.5, vmax=largest, aspect="auto")
        if charts * width <= _LABELLED:
            for k, row in enumerate(by_chart):
                for j, count in enumerate(row):
                    colour = "white" if count > 0.6 * largest else "#333333"
                    axes.text(j, k, str(count or ""), ha="center", va="center", fontsize=7, color=colour)
        axes.set(xlabel="codes of the chart, by falling use", ylabel="chart")
        axes.set(yticks=range(charts), xticks=[])
        figure.colorbar(seen, ax=axes, label="examples", shrink=0.8)
        return encode(figure, kind)
