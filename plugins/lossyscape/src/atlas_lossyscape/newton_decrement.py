"""The drop that the quadratic model promises in a Krylov space, its certificate, and its noise over batches.

In the span of orthonormal Ritz vectors the model `L - g.s + s^T H s / 2` is diagonal, so that the sum of
`(g.y_i)^2 / (2 theta_i)` over positive Ritz values is attained by a step there: of a convex model it is a
lower bound of the whole Newton decrement (Nocedal and Wright 2006, section 4.1), and the whole of it
where the space holds all. Over certified pairs alone every theta_i besides is an eigenvalue
within its residual. `verified_drop` bounds what finite precision leaves of that.
"""

from __future__ import annotations

import math

import torch
from atlas_pyhessian import reductions
from atlas_pyhessian.operators import SymmetricOperator
from attrs import frozen

from atlas_lossyscape.krylov import KrylovSpace

__all__ = [
    "Decrement",
    "DecrementNoise",
    "VerifiedDrop",
    "decrement_noise",
    "newton_decrement",
    "verified_drop",
]


@frozen
class Decrement:
    """The promised drop of the loss over certified pairs, in its unit.

    Attributes:
        certified: Over certified positive pairs.
        low: `certified` with each eigenvalue at the upper end of its residual interval.
        high: The same at the lower end.
        step_norm: Length of the step that attains `certified`.
        share_certified: Part of |g|^2 along certified positive pairs.
        share_negative: Part along Ritz pairs that are not positive, which have no floor.
        share_open: Part along positive pairs without certificate.
        num_certified: Certified positive pairs.
    """

    certified: float
    low: float
    high: float
    step_norm: float
    share_certified: float
    share_negative: float
    share_open: float
    num_certified: int


@frozen
class VerifiedDrop:
    """The largest drop of the model in the span Y of all positive Ritz vectors, by a product of its own.

    Attributes:
        value: `g.s - s^T H s / 2` at the step s, the sum of `(g.y_i / theta_i) y_i`.
        bound: The largest drop in Y is within it of `value`.
        unmet: |g - H s| / |g|: norm of the model's gradient after the step, in and beyond Y.
    """

    value: float
    bound: float
    unmet: float


@frozen
class DecrementNoise:
    """What the sampling of batches does to the certified decrement.

    Attributes:
        floor: Expected decrement if the true gradient were zero: half the sum of variances over eigenvalues.
        floor_error: Its jackknife standard error.
        standard_error: Jackknife standard error of the decrement less the floor.
        batches: How many.
    """

    floor: float
    floor_error: float
    standard_error: float
    batches: int


def newton_decrement(space: KrylovSpace, tolerance: float) -> Decrement:
    """Return the decrement over certified pairs; `tolerance` < 1 certifies by a pair's own value."""
    theta, squares = space.theta, space.projections.square()
    positive = theta > 0
    sure = positive & space.certified(tolerance)
    total = space.gradient_norm**2
    lower = theta[sure] - space.residual_norms[sure]
    upper = theta[sure] + space.residual_norms[sure]
    return Decrement(
        certified=float((squares[sure] / theta[sure]).sum()) / 2,
        low=float((squares[sure] / upper).sum()) / 2,
        high=float((squares[sure] / lower).sum()) / 2,
        step_norm=math.sqrt(float((squares[sure] / theta[sure].square()).sum())),
        share_certified=float(squares[sure].sum()) / total,
        share_negative=float(squares[~positive].sum()) / total,
        share_open=float(squares[positive & ~sure].sum()) / total,
        num_certified=int(sure.sum()),
    )


def verified_drop(operator: SymmetricOperator, space: KrylovSpace, gradient: torch.Tensor) -> VerifiedDrop:
    """Return the drop over all positive Ritz pairs and how far it may be from the largest, by one product.

    The step is exact but for what the product shows: r = g - H s would have no part r_Y in Y. What is left
    there can still be gained, `r_Y^T (Y^T H Y)^-1 r_Y / 2 <= |r_Y|^2 / (2 theta_1)` with the smallest of
    the positive Ritz values; twice that is taken, which allows for rounding of theta_1 by half of itself. The
    part of the product's own error that reaches `s^T H s / 2` is seen in r_Y as well: `|s| |r_Y| / 2`.

    Args:
        operator: H.
        space: Of K_m(H, g).
        gradient: g `[n]`.
    """
    positive = space.theta > 0
    if not bool(positive.any()):
        return VerifiedDrop(0.0, 0.0, 1.0)
    coefficients = torch.where(positive, space.projections / space.theta, 0.0)
    step = space.basis.combination(coefficients)
    product = operator.matvec(step)
    value = reductions.dot(gradient, step) - reductions.dot(step, product) / 2
    residual = product.neg_().add_(gradient)
    inside = float(space.basis.project(residual)[positive].square().sum())
    least = float(space.theta[positive].min())
    return VerifiedDrop(
        value=value,
        bound=inside / least + reductions.norm(step) * math.sqrt(inside) / 2,
        unmet=reductions.norm(residual) / space.gradient_norm,
    )


def decrement_noise(
    space: KrylovSpace, tolerance: float, parts: torch.Tensor, weights: torch.Tensor
) -> DecrementNoise | None:
    """Return the noise of the certified decrement, the Ritz pairs held fixed.

    With each batch left out in turn the others' shares are scaled up to the whole, and both decrement and
    floor are taken anew. Of a part 1 - w of the tokens the floor is larger by 1 / (1 - w), which its error
    leaves out.

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
    drops, floors = [], []
    for left_out in range(count):
        rest = torch.arange(count) != left_out
        scale = 1 / (1 - share[left_out])
        drop, floor = _drop_and_floor(theta, parts[rest] * scale, share[rest] * scale)
        drops.append(drop)
        floors.append(floor)
    return DecrementNoise(
        floor=_drop_and_floor(theta, parts, share)[1],
        floor_error=_jackknife([floor * float(1 - w) for floor, w in zip(floors, share, strict=True)]),
        standard_error=_jackknife([drop - floor for drop, floor in zip(drops, floors, strict=True)]),
        batches=count,
    )


def _drop_and_floor(theta: torch.Tensor, parts: torch.Tensor, share: torch.Tensor) -> tuple[float, float]:
    """Return `sum_i g_i^2 / (2 theta_i)` and half the sum of the variances of g_i over theta_i."""
    count, whole = len(parts), parts.sum(0)
    variance = (parts - share * whole).square().sum(0) * count / (count - 1)
    return float((whole.square() / theta).sum()) / 2, float((variance / theta).sum()) / 2


def _jackknife(without: list[float]) -> float:
    """Return the standard error of a statistic by its values with each batch left out."""
    count = len(without)
    mean = math.fsum(without) / count
    return math.sqrt(math.fsum((value - mean) ** 2 for value in without) * (count - 1) / count)
