"""Distances that terms keep open: between codes, centres, charts and examples.

Shapes: `B` examples, `N_c` charts, `K` codes, `D` latent dimensions; points lie in the unit ball.
"""

from __future__ import annotations

import math

import torch

from atlas_topoencoder.geometry import distance, expmap0, logmap0
from atlas_topoencoder.points import half_distance, pairwise_chord, point

__all__ = [
    "centring",
    "chart_separation",
    "closeness",
    "jump_gap",
    "pairs_within",
    "uniformity",
]

_CHORD = 1e-6
"""Rounding of `pairwise_chord` in float32; nearer pairs count as this far apart, with gradient 0."""


def pairs_within(points: torch.Tensor) -> torch.Tensor:
    """Return the distances of all unordered pairs among `[..., N, D]`, `[..., N (N - 1) / 2]`."""
    count = points.shape[-2]
    first, second = torch.triu_indices(count, count, 1, device=points.device)
    return distance(points[..., first, :], points[..., second, :])


def closeness(points: torch.Tensor, margin: float) -> torch.Tensor:
    """Return the mean over pairs of what their distance lacks of `margin`; 0 where there is no pair."""
    if points.shape[-2] < 2:
        return 0 * points.sum()
    return (margin - pairs_within(points)).relu().mean()


def centring(tangents: torch.Tensor) -> torch.Tensor:
    """Return the mean squared norm of the average of each set of logarithms, from `[..., N, D]`."""
    return tangents.mean(-2).square().sum(-1).mean()


def chart_separation(points: torch.Tensor, weights: torch.Tensor, margin: float) -> torch.Tensor:
    """Return `closeness` of the charts' mean points, by weights `[B, N_c]` of points `[B, D]`."""
    mass = weights.sum(0).clamp_min(1e-6)
    return closeness(expmap0(weights.mT @ logmap0(points) / mass[:, None]), margin)


def uniformity(points: torch.Tensor) -> torch.Tensor:
    """Return the mean over examples of log mean exp(-tau d) to the others, `tau = sqrt(D) (1 - |z|^2) / 2`.

    It falls as examples `[B, D]` spread (Wang and Isola 2020, "Understanding contrastive representation
    learning", eq. 5, with the router's temperature and the ball's distance). One example gives 0.
    """
    count, size = points.shape
    if count < 2:
        return 0 * points.sum()
    at = point(points)
    gaps = half_distance(pairwise_chord(at, at), _CHORD)
    own = torch.eye(count, dtype=torch.bool, device=points.device)
    return (at.complement * -math.sqrt(size) * gaps).masked_fill(own, -math.inf).logsumexp(
        1
    ).mean() - math.log(count - 1)


def jump_gap(missed: torch.Tensor, weights: torch.Tensor, least: float) -> torch.Tensor:
    """Return the mean over ordered pairs of charts of the squared distance that a jump misses by.

    Args:
        missed: Squared distance that the jump from chart i to chart j misses by, `[B, N_c, N_c]`.
        weights: `[B, N_c]`; an example counts for a pair by the product of its weights.
        least: Pairs of less mass are left out.
    """
    both = weights[:, :, None] * weights[:, None, :]
    mass = both.sum(0)
    mean = (both * missed).sum(0) / mass.clamp_min(least)
    apart = ~torch.eye(mass.shape[0], dtype=torch.bool, device=mass.device)
    counted = ((mass >= least) & apart).to(mean.dtype)
    return (counted * mean).sum() / counted.sum().clamp_min(1)
