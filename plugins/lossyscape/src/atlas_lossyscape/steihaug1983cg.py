"""The trust-region step by conjugate gradients (Steihaug 1983).

Minimises `g.s + s^T H s / 2` over |s| <= radius, and stops at the boundary where a step leaves the region or
meets curvature that is not positive. Only products with H are needed; four vectors are held.
"""

from __future__ import annotations

import math

import torch
from atlas_pyhessian import reductions
from atlas_pyhessian.operators import SymmetricOperator
from attrs import frozen

__all__ = ["TrustRegionStep", "steihaug_step"]


@frozen
class TrustRegionStep:
    """A step and what the model promises of it.

    Attributes:
        step: s `[n]`.
        reduction: `-(g.s + s^T H s / 2)`, not negative.
        at_boundary: Whether |s| is the radius.
        num_matvecs: Products spent.
    """

    step: torch.Tensor
    reduction: float
    at_boundary: bool
    num_matvecs: int


def _to_boundary(step: torch.Tensor, direction: torch.Tensor, radius: float) -> float:
    """Return tau >= 0 with |step + tau direction| = radius."""
    a = reductions.dot(direction, direction)
    b = reductions.dot(step, direction)
    c = reductions.dot(step, step) - radius**2
    return (-b + math.sqrt(max(0.0, b * b - a * c))) / a


def steihaug_step(
    operator: SymmetricOperator,
    gradient: torch.Tensor,
    radius: float,
    *,
    max_products: int,
    rtol: float = 1e-2,
) -> TrustRegionStep:
    """Return the step.

    Args:
        operator: H.
        gradient: g `[n]`, not zero.
        radius: Of the region.
        max_products: Products allowed.
        rtol: Residual relative to |g| at which to stop.
    """
    step = torch.zeros_like(gradient)
    residual = gradient.clone()
    direction = -gradient
    square = reductions.dot(residual, residual)
    stop = rtol * math.sqrt(square)
    reduction = 0.0
    for spent in range(1, max_products + 1):
        product = operator.matvec(direction)
        bend = reductions.dot(direction, product)
        ahead = _to_boundary(step, direction, radius)
        length = square / bend if bend > 0 else math.inf
        leaves = length >= ahead
        taken = ahead if leaves else length
        # residual = g + H s, and direction is conjugate to the steps before: the model falls by this.
        reduction += -taken * reductions.dot(residual, direction) - taken**2 * bend / 2
        step.add_(direction, alpha=taken)
        if leaves:
            return TrustRegionStep(step, reduction, True, spent)
        residual.add_(product, alpha=taken)
        before, square = square, reductions.dot(residual, residual)
        if math.sqrt(square) <= stop:
            return TrustRegionStep(step, reduction, False, spent)
        direction.mul_(square / before).sub_(residual)
    return TrustRegionStep(step, reduction, False, max_products)
