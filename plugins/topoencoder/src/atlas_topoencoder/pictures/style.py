"""What the pictures of an atlas share: the colours of classes, and the disc."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atlas.figures import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PALE", "Row", "class_colours", "disc"]

Row = Mapping[str, Any]

PALE = "#d9d9d9"

_TEN = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#d55e00",
    "#56b4e9",
    "#7f5f3f",
    "#999999",
    "#b2b200",
    "#5d3a9b",
)
"""Okabe and Ito 2008, and four more; classes are named at their charts besides."""


def class_colours(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each class name, in sorted order; beyond ten they repeat."""
    return {name: _TEN[i % len(_TEN)] for i, name in enumerate(sorted(set(names)))}


def disc(axes: Axes, reach: float) -> None:
    """Prepare axes for a disc seen up to a Euclidean radius, its edge drawn where it is in sight."""
    from matplotlib.patches import Circle

    axes.add_patch(Circle((0, 0), 1, fill=False, color=INK, linewidth=0.8))
    axes.set_aspect("equal")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
