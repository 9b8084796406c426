"""Means of points of the Poincaré ball: the average of logarithms, and the Fréchet mean."""

from __future__ import annotations

import torch
from attrs import frozen

from atlas.errors import InstrumentFailed
from atlas_topoencoder.geometry import expmap0, logmap0, logmap0_difference, mobius_add, mobius_difference

__all__ = ["FrechetMean", "barycenter", "frechet_mean"]


@frozen
class FrechetMean:
    """A Fréchet mean with the evidence that it is one.

    Attributes:
        point: `[..., D]`.
        gradient_norm: Hyperbolic length of the weighted mean of the logarithms at the point, the largest
            of the batch;
            0 exactly at the mean.
        iterations: Taken.
    """

    point: torch.Tensor
    gradient_norm: float
    iterations: int


def barycenter(points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the exponential of the weighted average of the logarithms at the origin, `[..., D]`.

    One pass and no iteration; it is the Fréchet mean where the points lie on a line through the origin,
    and differs from it, and does not move with the points under isometries, elsewhere.

    Args:
        points: `[..., N, D]`.
        weights: `[..., N]`, summing to 1.
    """
    return expmap0((weights.unsqueeze(-2) @ logmap0(points)).squeeze(-2))


def frechet_mean(
    points: torch.Tensor, weights: torch.Tensor, *, tolerance: float = 1e-5, max_iterations: int = 1000
) -> FrechetMean:
    """Return the point of least weighted mean squared distance, `[..., D]`.

    Squared distance is concave in `cosh d`, which is linear on the hyperboloid; its tangent there is
    therefore an upper bound, least at the normalised sum of the points by `weights * d / sinh d`.
    Repeating that lowers the objective at every step (Lou et al. 2020, "Differentiating through the
    Fréchet mean", section 3). Each step is taken with the current mean at the origin, where nothing
    cancels.

    Args:
        points: `[..., N, D]`.
        weights: `[..., N]`, not negative, summing to 1.
        tolerance: Largest `gradient_norm`; float32 reaches about 1e-6 at radius 2.
        max_iterations: Most steps.

    Raises:
        InstrumentFailed: The tolerance is not met within the steps.
    """
    mean = barycenter(points, weights)
    for iteration in range(max_iterations + 1):
        tangents = logmap0_difference(mean.unsqueeze(-2), points)
        gradient_norm = 2 * (weights.unsqueeze(-1) * tangents).sum(-2).norm(dim=-1).max().item()
        if gradient_norm <= tolerance:
            return FrechetMean(mean, gradient_norm, iteration)
        seen = mobius_difference(mean.unsqueeze(-2), points)
        half = tangents.norm(dim=-1).clamp_min(1e-7)
        share = weights * 2 * half / (2 * half).sinh()
        sq = (seen * seen).sum(-1)
        time = (share * (1 + sq) / (1 - sq)).sum(-1, keepdim=True)
        space = (share.unsqueeze(-1) * 2 * seen / (1 - sq).unsqueeze(-1)).sum(-2)
        length = (time * time - (space * space).sum(-1, keepdim=True)).sqrt()
        mean = mobius_add(mean, space / (time + length))
    raise InstrumentFailed(
        f"the Fréchet mean has the gradient norm {gradient_norm:.1e} after {max_iterations} iterations",
        fix=f"allow more than {tolerance:.1e}, or give the points in float64",
    )
