"""The drop that the quadratic model promises in a Krylov space, its certificate, and its noise over batches.

In the span of orthonormal Ritz vectors the model `L - g.s + s^T H s / 2` is diagonal, so that the sum of
`(g.y_i)^2 / (2 theta_i)` over positive Ritz values is attained by a step there: of a convex model it is a
lower bound of the whole Newton decrement (Nocedal and Wright 2006, section 4.1), and the whole of it
where the space holds all. Over certified pairs alone every theta_i besides is an eigenvalue
within its residual.
"""

from __future__ import annotations

import math

import torch
from attrs import frozen

from atlas_lossyscape.krylov import KrylovSpace

__all__ = ["Decrement", "DecrementNoise", "decrement_noise", "newton_decrement"]


@frozen
class Decrement:
    """The promised drop of the loss, in its unit.

    Attributes:
        certified: Over certified positive pairs.
        low: `certified` with each eigenvalue at the upper end of its residual interval.
        high: The same at the lower end; infinite where that end is not positive.
        krylov: Over all positive Ritz pairs.
        step_norm: Length of the step that attains `certified`.
        share_certified: Part of |g|^2 along certified positive pairs.
        share_negative: Part along Ritz pairs that are not positive, which have no floor.
        share_open: Part along positive pairs without certificate.
        num_certified: Certified positive pairs.
    """

    certified: float
    low: float
    high: float
    krylov: float
    step_norm: float
    share_certified: float
    share_negative: float
    share_open: float
    num_certified: int


@frozen
class DecrementNoise:
    """What the sampling of batches does to the certified decrement.

    Attributes:
        standard_error: Delete-one jackknife over batches.
        floor: Expected decrement if the true gradient were zero: half the sum of variances over eigenvalues.
        batches: How many.
    """

    standard_error: float
    floor: float
    batches: int


def newton_decrement(space: KrylovSpace, tolerance: float) -> Decrement:
    """Return the decrement in a Krylov space; `tolerance` certifies pairs relative to their own value."""
    theta, squares = space.theta, space.projections.square()
    positive = theta > 0
    sure = positive & space.certified(tolerance)
    total = space.gradient_norm**2
    lower = theta[sure] - space.residual_norms[sure]
    upper = theta[sure] + space.residual_norms[sure]
    return Decrement(
        certified=float((squares[sure] / theta[sure]).sum()) / 2,
        low=float((squares[sure] / upper).sum()) / 2,
        high=float((squares[sure] / lower).sum()) / 2 if bool((lower > 0).all()) else math.inf,
        krylov=float((squares[positive] / theta[positive]).sum()) / 2,
        step_norm=math.sqrt(float((squares[sure] / theta[sure].square()).sum())),
        share_certified=float(squares[sure].sum()) / total,
        share_negative=float(squares[~positive].sum()) / total,
        share_open=float(squares[positive & ~sure].sum()) / total,
        num_certified=int(sure.sum()),
    )


def decrement_noise(
    space: KrylovSpace, tolerance: float, parts: torch.Tensor, weights: torch.Tensor
) -> DecrementNoise | None:
    """Return the noise of the certified decrement, the Ritz pairs held fixed.

    Args:
        space: The space.
        tolerance: As for `newton_decrement`.
        parts: Projections of each batch's share of the gradient, `[B, m]`, whose sum is the whole's.
        weights: Scored tokens of each batch, `[B]`.

    Returns:
        None with fewer than three batches, over which no noise can be told.
    """
    count = len(parts)
    if count < 3:
        return None
    sure = (space.theta > 0) & space.certified(tolerance)
    theta, parts = space.theta[sure], parts[:, sure]
    share = (weights / weights.sum()).unsqueeze(1)
    whole = parts.sum(0)
    variance = (parts - share * whole).square().sum(0) * count / (count - 1)
    without = (whole - parts) / (1 - share)
    drops = (without.square() / theta).sum(1) / 2
    spread = (drops - drops.mean()).square().sum() * (count - 1) / count
    return DecrementNoise(math.sqrt(float(spread)), float((variance / theta).sum()) / 2, count)
