"""The codebooks of the charts, the choice of their codes, and the structure filter."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.points import Point, exp0, log0_difference, minus, pairwise_chord, plus
from atlas_topoencoder.spectral import NormGatedGELU, SpectralLinear

__all__ = ["Codebook", "Quantised", "SoftEquivariantMetric", "StructureFilter", "straight_through"]


def straight_through(local: Point, z_q: Point) -> Point:
    """Return the value of `z_q` with the gradient of `local`.

    It is `local + sg((-local) + z_q)` in the Möbius sense, by left cancellation; neither the codebook nor
    the weights of `z_q` get a gradient.
    """
    return plus(local, minus(local, z_q).detach())


class Quantised(NamedTuple):
    """The codes that a batch of local points meets.

    Attributes:
        chords: `sinh(d / 2)^2` to every code, `[B, N_c, K]`.
        metric_sq_distances: By the soft-equivariant metric, `[B, N_c, K]`; None without.
        points: The codes in the ball, `[N_c, K, D]`.
        codes: The nearest of each chart, `[B, N_c]` int64.
        z_q_tangent: Logarithms of those, live, `[B, N_c, D]`.
        z_q: Those, live, `[B, N_c, D]`.
    """

    chords: torch.Tensor
    metric_sq_distances: torch.Tensor | None
    points: torch.Tensor
    codes: torch.Tensor
    z_q_tangent: torch.Tensor
    z_q: Point


class SoftEquivariantMetric(nn.Module):
    """A learned length of tangent vectors, one for each chart.

    A vector is cut into bundles; a bundle is stretched by 1 plus a function of all bundles' norms, which
    commutes with rotations of a bundle, and mixed with the others by a matrix, which does not. The matrix
    starts at 0 and a penalty on it keeps the metric near equivariance. Source: seed 002, section 0.2.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        latent, charts = architecture.latent, architecture.charts
        self.bundle = next(size for size in (4, 3, 2, 1) if latent % size == 0)
        bundles = latent // self.bundle
        self.inner = nn.Parameter(torch.empty(charts, bundles, 4 * bundles))
        self.outer = nn.Parameter(torch.empty(charts, 4 * bundles, bundles))
        self.offset = nn.Parameter(torch.zeros(charts, 1, bundles))
        self.mixing = nn.Parameter(torch.zeros(charts, latent, latent))

    def forward(self, delta: torch.Tensor) -> torch.Tensor:
        """Map tangent vectors `[N_c, M, D]`, those of a chart in its row, to `[N_c, M, D]`."""
        bundles = delta.reshape(*delta.shape[:-1], -1, self.bundle)
        norms = (bundles * bundles).sum(-1).clamp_min(1e-12).sqrt()
        stretch = functional.softplus(functional.gelu(norms @ self.inner) @ self.outer + self.offset)
        stretched = bundles * (1 + stretch).unsqueeze(-1)
        mapped: torch.Tensor = stretched.view_as(delta) + delta @ self.mixing
        return mapped


class Codebook(nn.Module):
    """A codebook in each chart, its codes kept as logarithms at the origin.

    The nearest code is found without a loop by one matrix product, in which the
    distance is monotone; the soft-equivariant metric needs the logarithms themselves.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        shape = (architecture.charts, architecture.codes, architecture.latent)
        self.tangent = nn.Parameter(torch.empty(shape))
        self.metric = SoftEquivariantMetric(architecture) if architecture.soft_equivariant else None
        self.register_buffer("first", torch.arange(0, shape[0] * shape[1], shape[1]), persistent=False)
        self.first: torch.Tensor

    def forward(self, local: Point) -> Quantised:
        """Find the nearest code of every chart to local points `[B, D]` of the ball."""
        charts, codes, latent = self.tangent.shape
        flat = self.tangent.flatten(0, 1)
        points = exp0(flat)
        chords = pairwise_chord(local, points).view(-1, charts, codes)
        lengths = None
        if self.metric is not None:
            delta = log0_difference(
                Point(points.z.view(charts, 1, codes, -1), points.complement.view(charts, 1, codes, 1)),
                local.at(1),
            )
            mapped = self.metric(delta.flatten(1, 2)).view_as(delta)
            lengths = (mapped * mapped).sum(-1).transpose(0, 1)
        nearest = (chords if lengths is None else lengths).argmin(-1)
        table = torch.cat((flat, points.z, points.complement), 1)
        winners = functional.embedding(nearest + self.first, table)
        tangent, z, complement = torch.split(winners, [latent, latent, 1], -1)
        return Quantised(
            chords, lengths, points.z.view_as(self.tangent), nearest, tangent, Point(z, complement)
        )


class StructureFilter(nn.Module):
    """Takes the nuisance out of a residual: a gate on norms between two bounded linear maps."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        latent, bound = architecture.latent, architecture.lipschitz
        self.inner = SpectralLinear(latent, latent, bound=bound)
        self.gate = NormGatedGELU(latent)
        self.outer = SpectralLinear(latent, latent, bound=bound)

    def forward(self, residual: torch.Tensor) -> torch.Tensor:
        """Filter tangent vectors `[..., D]`."""
        filtered: torch.Tensor = self.outer(self.gate(self.inner(residual)))
        return filtered
