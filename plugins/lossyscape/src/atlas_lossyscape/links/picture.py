"""The values of one proxy with their errors, each beside what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atlas_pyhessian.pictures.style import NEGATIVE, OPEN, POSITIVE

from atlas.figures import INK, encode, style

__all__ = ["FEW", "draw_proxy"]

Row = Mapping[str, Any]

FEW = 1
"""Reference values that are drawn beside a value; several are other rows of the picture."""

_INKS = {"high": POSITIVE, "low": NEGATIVE, "within": OPEN, "undetermined": OPEN}


def draw_proxy(
    rows: Sequence[Row],
    references: Sequence[Row],
    errors: Mapping[tuple[str, int], tuple[float, float]],
    *,
    label: str,
    kind: str = "svg",
) -> bytes:
    """Draw one proxy: a line for each value, filled by its relation, its references hollow below it.

    Args:
        rows: Rows of `link-relations` of one signal, with values.
        references: Rows of `link-references` of the same.
        errors: How far each value's error reaches below and above it, by (slice, index).
        label: Of the axis of values.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure

    several = len({row["index"] for row in rows}) > 1
    with style():
        figure = Figure(figsize=(6.8, 1.1 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for height, row in enumerate(rows):
            ink = _INKS[row["relation"]]
            low, high = errors[row["slice"], row["index"]]
            axes.errorbar(
                row["value"],
                height,
                xerr=[[low], [high]],
                fmt="o",
                color=ink,
                ecolor=ink,
                capsize=3,
                markersize=6,
            )
            own = [r for r in references if (r["slice"], r["index"]) == (row["slice"], row["index"])]
            for other in own if len(own) <= FEW else ():
                reach = other["uncertainty"] * (
                    1.96 if other["uncertainty_kind"] == "standard_error" else 1.0
                )
                axes.errorbar(
                    other["value"],
                    height + 0.3,
                    xerr=reach,
                    fmt="D",
                    color=INK,
                    mfc="white",
                    capsize=2,
                    markersize=4,
                )
        names = [f"{row['slice']}, {row['index']}" if several else row["slice"] for row in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(label)
        axes.grid(axis="x", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        return encode(figure, kind)
