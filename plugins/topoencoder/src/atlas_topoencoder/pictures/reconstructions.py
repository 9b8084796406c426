"""Test examples above what is decoded of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from atlas.figures import encode, style

__all__ = ["draw_reconstructions"]

_ROWS = (
    ("example", "example"),
    ("full", "z_geo and z_tex"),
    ("geo", "z_geo alone"),
    ("codes", "chart and\ncode alone"),
)


def draw_reconstructions(images: Mapping[str, np.ndarray], *, kind: str = "svg") -> bytes:
    """Draw examples `[N, C, H, W]` and their decodings, one a column, on the scale 0 to 1.

    Args:
        images: By name: `example`, `full`, `geo`, `codes`.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure

    number = len(images["example"])
    with style():
        figure = Figure(figsize=(1.3 + 0.62 * number, 3.0), layout="constrained")
        grid = figure.subplots(len(_ROWS), number, squeeze=False)
        for row, (name, label) in enumerate(_ROWS):
            for column in range(number):
                axes = grid[row][column]
                image = np.clip(images[name][column].transpose(1, 2, 0), 0, 1)
                axes.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray_r", vmin=0, vmax=1)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            grid[row][0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        return encode(figure, kind)
