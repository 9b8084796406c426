"""When wanted eigenpairs may be believed: explicit residuals, and outsiders that stay outside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from attrs import frozen

from atlas_pyhessian import reductions
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.ritz import RitzState
from atlas_pyhessian.spectrum import SegmentImage

__all__ = ["Verified", "clears", "unmatched", "verify"]


def clears(state: RitzState, chosen: Sequence[int], top_k: int, ends: int, slack: float) -> bool:
    """Say whether every outsider, by its own bound, stays out of the wanted set."""
    outside = [i for i in range(len(state.theta)) if i not in chosen]
    if not outside:
        return True
    smallest = min((abs(state.theta[i]) for i in chosen[:top_k]), default=math.inf)
    low = min(state.theta[i] for i in chosen)
    high = max(state.theta[i] for i in chosen)
    for index in (outside[0], outside[-1]):
        value, bound = state.theta[index], state.bounds[index]
        if abs(value) + bound > smallest + slack:
            return False
        if ends and (value + bound > high + slack or value - bound < low - slack):
            return False
    return True


@frozen
class Verified:
    """Explicit residuals of the wanted pairs; `failed` is the largest residual vector above the limit."""

    values: list[float]
    residual_norms: list[float]
    failed: torch.Tensor | None
    images: tuple[SegmentImage, ...]


def verify(
    state: RitzState,
    operator: SymmetricOperator,
    chosen: Sequence[int],
    tolerance: float,
    segments: Sequence[int] = (),
) -> Verified:
    """Take Rayleigh quotients and residuals of Ritz vectors by one product each.

    The residual of the recurrence is overwritten. With the lengths of `segments` each product is summed
    by segment too.
    """
    values: list[float] = []
    images: list[SegmentImage] = []
    residual_norms: list[float] = []
    failed: torch.Tensor | None = None
    for index in chosen:
        vector = state.basis.combination(state.rotation[:, index], out=state.residual)
        vector /= reductions.norm(vector)
        product = operator.matvec(vector, out=state.spare)
        state.spare = product
        values.append(reductions.dot(vector, product))
        if segments:
            forms = reductions.segment_dots(vector, product, segments)
            images.append(SegmentImage(forms, reductions.segment_dots(product, product, segments)))
        product.sub_(vector, alpha=values[-1])
        residual_norms.append(reductions.norm(product))
        if residual_norms[-1] > tolerance * state.norm and residual_norms[-1] == max(residual_norms):
            failed, state.spare = product, failed
    return Verified(values, residual_norms, failed, tuple(images))


def unmatched(known: Sequence[float], now: Sequence[float], slack: float) -> int:
    """Return how many of the values `now` have no partner of their own among those known."""
    free, missing = sorted(known), 0
    for value in sorted(now):
        partner = min(free, key=lambda other: abs(other - value), default=math.inf)
        if abs(partner - value) <= slack:
            free.remove(partner)
        else:
            missing += 1
    return missing
