"""Parameters that loss terms learn beside the model: classes of charts, and which chart follows which."""

from __future__ import annotations

import math

import torch
from torch import nn

from atlas.randomness import RandomStreams

__all__ = ["Companions"]


class Companions(nn.Module):
    """What is trained with a TopoEncoder and is no part of it.

    Args:
        charts: N_c.
        latent: D.
        classes: Number of classes, 0 where there are no labels.
        actions: Numbers that say what was done between two steps, A.
        hidden: Width of the network that foretells the next chart.
        streams: Where the initial values are drawn.
    """

    def __init__(
        self,
        *,
        charts: int,
        latent: int,
        classes: int,
        actions: int = 0,
        hidden: int = 64,
        streams: RandomStreams,
    ) -> None:
        super().__init__()

        def draw(name: str, *shape: int, scale: float) -> nn.Parameter:
            drawn = streams.generator("companions", name=name).standard_normal(shape)
            return nn.Parameter(torch.tensor(scale * drawn, dtype=torch.float32))

        width = charts + latent + actions
        self.class_table = draw("class_table", charts, classes, scale=0.1) if classes else None
        self.next_in = draw("next_in", hidden, width, scale=1 / math.sqrt(width))
        self.next_out = draw("next_out", charts, hidden, scale=1 / math.sqrt(hidden))

    def chart_classes(self) -> torch.Tensor:
        """Return the distribution of classes of each chart, `[N_c, C]`; there must be labels."""
        assert self.class_table is not None
        return self.class_table.softmax(-1)

    def next_charts(
        self, weights: torch.Tensor, code: torch.Tensor, actions: torch.Tensor | None
    ) -> torch.Tensor:
        """Return scores of the next step's charts, `[B, N_c]`, from what dynamics may know.

        Args:
            weights: Of the charts now, `[B, N_c]`.
            code: Logarithm of the blended code, `[B, D]`.
            actions: `[B, A]`, or None.
        """
        known = [weights, code] if actions is None else [weights, code, actions]
        return nn.functional.gelu(torch.cat(known, 1) @ self.next_in.mT) @ self.next_out.mT
