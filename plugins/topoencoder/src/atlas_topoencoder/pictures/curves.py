"""Loss terms and their gradients while training."""

from __future__ import annotations

import math
from collections.abc import Sequence

from atlas.figures import INK, encode, style
from atlas_topoencoder.pictures.style import PALE, Row

__all__ = ["draw_curves"]

_COLUMNS = 4


def draw_curves(rows: Sequence[Row], *, kind: str = "svg") -> bytes:
    """Draw each term in a panel of its own: its value, and in orange the norm of its weighted gradient.

    The norms have one scale in all panels, so that terms can be compared. Trainings after the first are
    drawn pale behind it.

    Args:
        rows: Rows of the table `curves`.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    terms = list(dict.fromkeys(row["term"] for row in rows))
    lines = math.ceil(len(terms) / _COLUMNS)
    lengths = [abs(r["weight"]) * r["gradient_norm"] for r in rows if r["gradient_norm"]]
    decades = (
        (10.0 ** math.floor(math.log10(min(lengths))), 10.0 ** math.ceil(math.log10(max(lengths))))
        if lengths
        else (0.1, 1.0)
    )
    repetitions = sorted({row["repetition"] for row in rows}, reverse=True)
    with style():
        figure = Figure(figsize=(2.55 * min(_COLUMNS, len(terms)), 0.5 + 1.75 * lines), layout="constrained")
        grid = figure.subplots(lines, min(_COLUMNS, len(terms)), squeeze=False, sharex=True)
        for axes, term in zip(grid.flat, terms, strict=False):
            for repetition in repetitions:
                own = [r for r in rows if r["term"] == term and r["repetition"] == repetition]
                colour = PALE if repetition else "#0072b2"
                axes.plot([r["step"] for r in own], [r["value"] for r in own], color=colour, linewidth=1.2)
            norms = [
                (r["step"], abs(r["weight"]) * r["gradient_norm"])
                for r in rows
                if r["term"] == term and not r["repetition"] and r["gradient_norm"]
            ]
            if norms:
                beside = axes.twinx()
                beside.plot(
                    *zip(*norms, strict=True), color="#d55e00", linewidth=0.9, marker=".", markersize=4
                )
                beside.set_yscale("log")
                beside.set_ylim(decades)
                beside.yaxis.set_minor_formatter(NullFormatter())
                beside.tick_params(colors="#d55e00", labelsize=7)
                beside.spines["right"].set_visible(False)
            axes.set_title(term, fontsize=9, color=INK)
            axes.tick_params(labelsize=7)
        for axes in list(grid.flat)[len(terms) :]:
            axes.set_axis_off()
        figure.supxlabel("step", fontsize=9)
        return encode(figure, kind)
