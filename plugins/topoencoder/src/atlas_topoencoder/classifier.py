"""A classifier that reads which chart and how far, and nothing that a rotation changes."""

from __future__ import annotations

import torch
from torch import nn

from atlas_topoencoder.outputs import Encoding

__all__ = ["InvariantChartClassifier"]


class InvariantChartClassifier(nn.Module):
    """Logits from the blend of charts and the length of the latent point.

    `logits = w A + sum_k w_k (rho r_k + b_k)` with `rho = |z_geo|`: invariant under rotations about the
    origin. It reads a detached encoding, so that training it changes no encoder. Source: seed 002,
    section 0.4.

    Args:
        charts: N_c.
        classes: Number of classes.
    """

    def __init__(self, charts: int, classes: int) -> None:
        super().__init__()
        self.by_chart = nn.Parameter(torch.zeros(charts, classes))
        self.by_radius = nn.Parameter(torch.zeros(charts, classes))

    def forward(self, encoding: Encoding) -> torch.Tensor:
        """Return logits `[B, classes]`."""
        weights, z_geo = encoding.weights.detach(), encoding.z_geo.detach()
        radius = z_geo.norm(dim=-1, keepdim=True)
        logits: torch.Tensor = weights @ self.by_chart + radius * (weights @ self.by_radius)
        return logits
