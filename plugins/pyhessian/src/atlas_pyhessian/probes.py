"""Random vectors over a model's parameters that depend on nothing but (seed, purpose, index, name)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
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
        drawn = (
            self.streams.generator(purpose, index, name).bytes((size + 7) // 8)
            for name, size in zip(self.names, self.sizes, strict=True)
        )
        pieces = torch.split(vector, list(self.sizes))
        if self.device.type == "cpu":
            for piece, packed in zip(pieces, drawn, strict=True):
                bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=piece.numel())
                piece.copy_(torch.from_numpy(bits))
        else:
            self._unpack(bytearray().join(drawn), pieces)
        return vector.mul_(2.0).sub_(1.0)

    def empty(self) -> torch.Tensor:
        """Return memory for a vector `[n]`."""
        return torch.empty(sum(self.sizes), dtype=self.dtype, device=self.device)

    def _unpack(self, drawn: bytearray, pieces: Sequence[torch.Tensor]) -> None:
        """Fill pieces with bits where they lie: the highest of a byte first, whole bytes for each piece.

        The device gets all bytes at once: for GPT-2 small, piece by piece took as long as the drawing.
        """
        packed = torch.frombuffer(drawn, dtype=torch.uint8).to(self.device)
        places = torch.arange(7, -1, -1, dtype=torch.uint8, device=self.device)
        bits = packed.unsqueeze(1).bitwise_right_shift(places).bitwise_and_(1)
        start = 0
        for piece in pieces:
            count = (piece.numel() + 7) // 8
            piece.copy_(bits[start : start + count].flatten()[: piece.numel()])
            start += count
