"""Random vectors over a model's parameters that depend on nothing but (seed, purpose, index, name)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from attrs import frozen

if TYPE_CHECKING:
    from atlas.randomness import RandomStreams

__all__ = ["Probes"]


@frozen
class Probes:
    """Rademacher vectors drawn parameter by parameter.

    A parameter's signs do not change when others are filtered out, nor with dtype or device.

    Attributes:
        streams: Counter-based generators under the step's seed.
        names: Parameters in the order of the flat vector.
        sizes: Number of entries of each.
        dtype: dtype of the vectors.
        device: Where they are put.
    """

    streams: RandomStreams
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def rademacher(self, purpose: str, index: int, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return a vector `[n]` of independent signs, +1 or -1 with equal probability, in `out` if given."""
        vector = self.empty() if out is None else out
        start = 0
        for name, size in zip(self.names, self.sizes, strict=True):
            generator = self.streams.generator(purpose, index, name)
            drawn = np.frombuffer(generator.bytes((size + 7) // 8), dtype=np.uint8)
            vector[start : start + size] = self._bits(drawn, size)
            start += size
        return vector.mul_(2.0).sub_(1.0)

    def empty(self) -> torch.Tensor:
        """Return memory for a vector `[n]`."""
        return torch.empty(sum(self.sizes), dtype=self.dtype, device=self.device)

    def _bits(self, drawn: npt.NDArray[np.uint8], size: int) -> torch.Tensor:
        """Return the first `size` bits, the highest of each byte first, unpacked where they are used."""
        if self.device.type == "cpu":
            return torch.from_numpy(np.unpackbits(drawn, count=size))
        packed = torch.from_numpy(drawn.copy()).to(self.device)
        places = torch.arange(7, -1, -1, dtype=torch.uint8, device=self.device)
        return packed.unsqueeze(1).bitwise_right_shift(places).bitwise_and(1).flatten()[:size]
