"""The change of chart: how local coordinates of one chart become those of another."""

from __future__ import annotations

import torch
from torch import nn

from atlas_topoencoder.geometry import expmap0, mobius_add, mobius_difference

__all__ = ["FactorizedJumpOperator"]


class FactorizedJumpOperator(nn.Module):
    """Jumps from chart i to chart j by way of a frame that all charts share.

    `J_ij(z) = a_j + R_j^T R_i ((-a_i) + z)`, Möbius sums, with an anchor and a rotation of each chart.
    The rotation is the Cayley transform of an antisymmetric matrix, hence orthogonal: every jump is an
    isometry, `J_ii` is the identity, `J_ji` undoes `J_ij`, and `J_jk` after `J_ij` is `J_ik`. Source:
    seed 002, section 0.4, tier 5.

    Args:
        charts: N_c.
        latent: D.
    """

    def __init__(self, charts: int, latent: int) -> None:
        super().__init__()
        self.anchors_tangent = nn.Parameter(torch.zeros(charts, latent))
        self.generators = nn.Parameter(torch.zeros(charts, latent, latent))

    def rotations(self) -> torch.Tensor:
        """The orthogonal factor of each chart, `[N_c, D, D]`."""
        skew = self.generators - self.generators.mT
        unit = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
        rotations: torch.Tensor = torch.linalg.solve(unit - skew, unit + skew)
        return rotations

    def between(self, z: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Jump points `[B, D]` of the ball from charts `source` to charts `target`, each `[B]` int64."""
        anchors, rotations = expmap0(self.anchors_tangent), self.rotations()
        shared = rotations[source] @ mobius_difference(anchors[source], z).unsqueeze(-1)
        return mobius_add(anchors[target], (rotations[target].mT @ shared).squeeze(-1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Jump from every chart to every chart.

        Args:
            z: A point of the ball in each chart's coordinates, `[B, N_c, D]`.

        Returns:
            `[B, N_c, N_c, D]`: source, then target.
        """
        anchors, rotations = expmap0(self.anchors_tangent), self.rotations()
        shared = (mobius_difference(anchors, z).unsqueeze(-2) @ rotations.mT).squeeze(-2)
        return mobius_add(anchors, (shared.unsqueeze(2).unsqueeze(3) @ rotations).squeeze(3))
