"""What all pictures share: inks that colour-blind readers tell apart, and bytes without a date."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["INK", "PALE", "Row", "class_colours", "disc", "encode", "style"]

Row = Mapping[str, Any]

INK, PALE = "#333333", "#d9d9d9"

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

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "atlas",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the common style within."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def encode(figure: Figure, kind: str) -> bytes:
    """Return a figure's bytes as `svg` or `png`."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, metadata=metadata, dpi=150)
    return buffer.getvalue()


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
