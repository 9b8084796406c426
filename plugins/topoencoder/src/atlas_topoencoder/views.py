"""Views of examples: small declared changes that a chart should not mind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch.nn import functional

from atlas.errors import BadInput
from atlas_topoencoder.devices import moved

__all__ = ["Views"]


@frozen
class Views:
    """How views differ from their example.

    Attributes:
        shift: Greatest shift of an image in pixels, each axis.
        rotate: Greatest turn of an image in degrees.
        scale: Greatest relative change of an image's size.
        noise: Standard deviation of noise added to every value.
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    noise: float = 0.0

    @classmethod
    def from_params(cls, params: Mapping[str, Any], shape: tuple[int, ...]) -> Views:
        """Return the views that parameters declare.

        Raises:
            BadInput: Examples are no images, and a change of images is declared.
        """
        views = cls(**params)
        if len(shape) != 3 and (views.shift or views.rotate or views.scale):
            raise BadInput(
                f"examples of shape {list(shape)} are no images, which shift, rotate and scale are for",
                where="views",
                fix="declare noise alone, or give examples as [channels, height, width]",
            )
        return views

    @property
    def moves(self) -> bool:
        """Whether any image is moved."""
        return bool(self.shift or self.rotate or self.scale)

    def draw(self, x: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
        """Return a view of each example, `[B, *shape]`; noise depends on generator and kind of device."""
        if self.moves:
            x = functional.grid_sample(
                x, self._grid(x, generator), mode="bilinear", padding_mode="zeros", align_corners=False
            )
        if self.noise:
            x = x + self.noise * _normal(x, generator)
        return x

    def _grid(self, x: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
        height, width = x.shape[2:]
        turn, size, right, down = generator.uniform(-1, 1, (4, len(x)))
        angle = np.deg2rad(self.rotate) * turn
        factor = 1 + self.scale * size
        cosine, sine = np.cos(angle) / factor, np.sin(angle) / factor
        matrix = np.stack(
            [
                np.stack([cosine, -sine * height / width, 2 * self.shift * right / width], 1),
                np.stack([sine * width / height, cosine, 2 * self.shift * down / height], 1),
            ],
            1,
        )
        theta = moved(torch.from_numpy(matrix).to(x.dtype), x.device)
        return functional.affine_grid(theta, list(x.shape), align_corners=False)


def _normal(x: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Return standard normal numbers of a tensor's shape; other devices than the CPU draw their own."""
    if x.device.type == "cpu":
        return torch.from_numpy(generator.standard_normal(tuple(x.shape), dtype=np.float32))
    seeded = torch.Generator(x.device).manual_seed(int(generator.integers(2**63 - 1)))
    return torch.randn(x.shape, generator=seeded, device=x.device)
