"""The change of chart: how local coordinates of one chart become those of another."""

from __future__ import annotations

import torch
from torch import nn

from atlas_topoencoder.points import Point, exp0, half_distance, minus, pairwise_chord, plus, point

__all__ = ["FactorizedJumpOperator"]

_ROUNDING = 1e-7
"""Of a chord by one product, near the origin; under it two points count as one."""


class FactorizedJumpOperator(nn.Module):
    """Jumps from chart i to chart j by way of a frame that all charts share.

    `J_ij(z) = a_j + R_j^T R_i ((-a_i) + z)`, Möbius sums, with an anchor and a rotation of each chart. The
    rotation is the Cayley transform of an antisymmetric matrix, hence orthogonal: every jump is an isometry,
    `J_ii` is the identity, `J_ji` undoes `J_ij`, and `J_jk` after `J_ij` is `J_ik`. Source: seed 002,
    section 0.4, tier 5.

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
        anchors, rotations = exp0(self.anchors_tangent), self.rotations()

        def anchor(chart: torch.Tensor) -> Point:
            return Point(anchors.z[chart], anchors.complement[chart])

        seen = minus(anchor(source), point(z))
        turned = rotations[target].mT @ rotations[source] @ seen.z.unsqueeze(-1)
        return plus(anchor(target), Point(turned.squeeze(-1), seen.complement)).z

    def sq_misses(self, at: Point) -> torch.Tensor:
        """Return `d(J_ij(z_i), z_j)^2` for every pair of charts.

        Jumps are isometries, so that the distance is that of the two points in the shared frame: the pairs
        cost one product, and no pair is jumped.

        Args:
            at: A point of the ball in each chart's coordinates, `[B, N_c, D]`.

        Returns:
            `[B, N_c, N_c]`, symmetric.
        """
        seen = minus(exp0(self.anchors_tangent), at)
        turned = torch.bmm(seen.z.transpose(0, 1), self.rotations().mT).transpose(0, 1)
        shared = Point(turned, seen.complement)
        return (2 * half_distance(pairwise_chord(shared, shared), _ROUNDING)).square()
