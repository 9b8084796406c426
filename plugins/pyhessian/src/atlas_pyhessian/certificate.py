"""When wanted eigenpairs may be believed: their residuals, and outsiders that stay outside.

Where products and stored vectors are exact to rounding, the recurrence H V = V T + r e_m^T is an identity
in the numbers at hand, and `|r| |s_m|` of a Ritz vector V s is its residual: a product would only compute
it again. Elsewhere each wanted vector is multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from atlas_pyhessian import reductions
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.ritz import RitzState
from atlas_pyhessian.spectrum import Certified, SegmentImage

__all__ = ["clears", "from_recurrence", "unmatched", "verify"]


def clears(state: RitzState, chosen: Sequence[int], top_k: int, ends: int, slack: float) -> bool:
    """Say whether every outsider, by its own bound, stays out of the wanted set."""
    outside = [i for i in range(len(state.theta)) if i not in chosen]
    if not outside:
        return True
    smallest = min((abs(state.theta[i]) for i in chosen[:top_k]), default=math.inf)
    low = min(state.theta[i] for i in chosen)
    high = max(state.theta[i] for i in chosen)
    by_value = sorted(outside, key=lambda i: state.theta[i])
    for index in (by_value[0], by_value[-1]):
        value, bound = state.theta[index], state.bounds[index]
        if abs(value) + bound > smallest + slack:
            return False
        if ends and (value + bound > high + slack or value - bound < low - slack):
            return False
    return True


def from_recurrence(
    state: RitzState, chosen: Sequence[int], error: float, segments: Sequence[int] = ()
) -> Certified:
    """Take Ritz values and residuals from the recurrence, which `error` bounds, without a product.

    The product with a Ritz vector u is `theta u + s_m r`, which with the lengths of `segments` is summed by
    segment.
    """
    images: list[SegmentImage] = []
    if segments:
        rest = _summed(state.residual, state.residual, segments)
        for index in chosen:
            theta, last = state.theta[index], float(state.rotation[-1, index])
            vector = state.basis.combination(state.rotation[:, index], out=state.spare)
            own = _summed(vector, vector, segments)
            both = _summed(vector, state.residual, segments)
            squares = theta**2 * own + 2 * theta * last * both + last**2 * rest
            images.append(SegmentImage(tuple((theta * own + last * both).tolist()), tuple(squares.tolist())))
            state.spare = vector
    values = tuple(state.theta[i] for i in chosen)
    return Certified(values, tuple(state.bounds[i] + error for i in chosen), tuple(images))


def _summed(x: torch.Tensor, y: torch.Tensor, segments: Sequence[int]) -> torch.Tensor:
    return torch.tensor(reductions.segment_dots(x, y, segments), dtype=torch.float64)


def verify(
    state: RitzState,
    operator: SymmetricOperator,
    chosen: Sequence[int],
    tolerance: float,
    segments: Sequence[int] = (),
) -> tuple[Certified, torch.Tensor | None]:
    """Take Rayleigh quotients and residuals of Ritz vectors by one product each.

    The residual of the recurrence is overwritten. With the lengths of `segments` each product is summed
    by segment too. Beside the pairs comes the largest residual vector above the tolerance, if one is.
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
    return Certified(tuple(values), tuple(residual_norms), tuple(images)), failed


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
