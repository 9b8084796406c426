"""The loss on straight ways to other checkpoints, beside the quadratic model of it."""

from __future__ import annotations

from collections.abc import Sequence

from atlas.figures import INK, encode, style
from atlas_pyhessian.pictures.style import NEGATIVE, POSITIVE, Row

__all__ = ["draw_path"]

_SAMPLES = 101


def draw_path(direction: Row, rows: Sequence[Row], *, matrix: str = "Hessian", kind: str = "svg") -> bytes:
    """Draw the evaluated loss as points and the quadratic model as a dashed curve.

    Args:
        direction: Row of the table `directions`.
        rows: Rows of the table `path` of the same slice and direction.
        matrix: Whose curvature the model has.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure

    end, start = rows[-1]["distance"], rows[0]["loss"]
    reach = [end * i / (_SAMPLES - 1) for i in range(_SAMPLES)]
    model = [start + s * direction["slope"] + s * s * direction["curvature"] / 2 for s in reach]
    losses = [row["loss"] for row in rows]
    room = max(max(losses) - min(losses), 1e-3 * abs(start))
    with style():
        figure = Figure(figsize=(6.2, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(
            reach,
            model,
            color=NEGATIVE,
            linewidth=1.5,
            linestyle=(0, (5, 2)),
            label=f"quadratic model, by the {matrix} here",
        )
        axes.plot(
            [row["distance"] for row in rows],
            losses,
            "o",
            markersize=5,
            color=POSITIVE,
            label="loss, evaluated",
            clip_on=False,
            zorder=3,
        )
        low = max(min(*losses, *model), min(losses) - room)
        high = min(max(*losses, *model), max(losses) + room)
        axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
        axes.set_xlabel(f"distance from here towards {direction['direction']}")
        axes.set_ylabel("mean loss (nat)")
        top = axes.secondary_xaxis("top", functions=(lambda s: s / end, lambda t: t * end))
        top.set_xlabel("part of the way")
        top.tick_params(colors=INK)
        top.spines["top"].set_visible(True)
        axes.legend(frameon=False)
        return encode(figure, kind)
