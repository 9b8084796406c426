"""Trace from a sketch that takes out what is large, and probes for the rest.

Meyer, Musco, Musco and Woodruff 2021, "Hutch++: optimal stochastic trace estimation", SOSA. With Q an
orthonormal basis of the range of A Omega and probes g independent of it,

    tr(A) = tr(Q^T A Q) + E g^T (I - Q Q^T) A (I - Q Q^T) g.

The first term is exact, so that the error is that of the mean over the probes g, independent given Q, and
Student's interval holds. The same products give ||A||_F^2 = ||A Q||_F^2 + E |A (I - Q Q^T) g|^2.

A third of the products goes into A Omega, a third into A Q and a third into probes, as in the paper,
where all are to be spent. Where a relative error is asked for, the sketch ends as soon as a further
vector costs more probes than it saves (Persson, Cortinovis and Kressner 2022, "Improved variants of the
Hutch++ algorithm"): a vector q lowers the variance of a probe by 2 d, d = 2 |A q|^2 less what Q^T A Q
grows by in squared Frobenius norm, and so saves 2 d / se^2 probes for its two products. What ends the
sketch is seen in the sketch alone, and the probes stay independent of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from atlas.errors import BadInput
from atlas_pyhessian.deflation import Deflation, TraceSample
from atlas_pyhessian.halko2011rangefinder import RangeFinder
from atlas_pyhessian.hutchinson1989trace import MIN_PROBES, TraceEstimate, mean_estimate
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.spectrum import Spectrum
from atlas_pyhessian.wu2000thickrestart import MakeBasis

__all__ = ["LEAST_PRODUCTS", "hutch_plus_plus"]

LEAST_PRODUCTS = 2 * MIN_PROBES
"""Products below which the error is not to be believed."""

_LEAST = 4
"""Vectors of the sketch before its growth may be judged; the last so many are what is judged."""


def hutch_plus_plus(
    operator: SymmetricOperator,
    draw: Callable[[int], torch.Tensor],
    *,
    rel_se: float | None,
    max_products: int,
    spectrum: Spectrum | None = None,
    make_basis: MakeBasis | None = None,
    report: Callable[[int, float], None] | None = None,
) -> TraceEstimate:
    """Estimate the trace until its relative standard error is reached or the products are spent.

    At most a third as many vectors as products are held.

    Args:
        operator: Any symmetric operator.
        draw: Returns Rademacher probe number i, `[n]`, which the next call may overwrite.
        rel_se: Standard error asked for, relative to the estimate; None spends all products.
        max_products: Products allowed.
        spectrum: Ritz basis to take out; None estimates the whole trace.
        make_basis: Makes the basis of the sketch; None keeps it in memory on the operator's device.
        report: Called with products so far and the relative standard error.

    Returns:
        The estimates, their samples those of the probes after the sketch; `converged` is false where
        `max_products` came first.

    Raises:
        BadInput: Too few products are allowed for an error that can be believed.
    """
    if max_products < LEAST_PRODUCTS:
        raise BadInput(
            f"Hutch++ was allowed {max_products} products, too few for an error that can be believed",
            fix=f"allow at least {LEAST_PRODUCTS}, or use `method: deflated`",
        )
    started, most = operator.num_matvecs, max_products // 3
    finder = RangeFinder.empty(operator, Deflation.whole(spectrum), most, make_basis)
    _sketch(finder, draw, rel_se, most)
    known = math.fsum(finder.deflation.ritz_values)
    known_squares = math.fsum(value * value for value in finder.deflation.ritz_values)
    first, samples = len(finder.columns), list[TraceSample]()
    budget = max_products - (operator.num_matvecs - started)
    while True:
        if len(samples) >= 2:
            total = mean_estimate([s.quadratic_form for s in samples], known)
            error = total.standard_error
            if report is not None and total.value:
                report(operator.num_matvecs - started, error / abs(total.value))
            reached = rel_se is not None and error <= rel_se * abs(total.value)
            if (reached and len(samples) >= min(MIN_PROBES, budget)) or len(samples) >= budget:
                break
        samples.append(_beyond(finder, draw(first + len(samples)), len(samples)))
    degrees = min(len(samples), MIN_PROBES) - 1 if len(samples) < budget else None
    total = mean_estimate([s.quadratic_form for s in samples], known, degrees=degrees)
    squares = mean_estimate([s.squared_length for s in samples], known_squares, degrees=degrees)
    return TraceEstimate(total, squares, known, rel_se is None or reached, tuple(samples), degrees)


def _sketch(
    finder: RangeFinder, draw: Callable[[int], torch.Tensor], rel_se: float | None, most: int
) -> None:
    """Grow the sketch to `most` probes, or until its last vectors saved less than they cost or none came."""
    while len(finder.columns) < most:
        finder.add(draw(len(finder.columns)))
        if len(finder.kept) < len(finder.columns):
            break
        if rel_se is None or len(finder.columns) < _LEAST:
            continue
        recent = range(max(0, len(finder.kept) - _LEAST), len(finder.kept))
        saved = math.fsum(_saving(finder, j) for j in recent) / _LEAST
        rough = math.fsum(finder.deflation.ritz_values)
        rough += math.fsum(s.quadratic_form for s in finder.samples) / len(finder.samples)
        if saved <= (rel_se * rough) ** 2:
            break


def _saving(finder: RangeFinder, position: int) -> float:
    """Return by how much vector q_j lowers the squared Frobenius norm of what is left of A."""
    column = finder.compressed[position]
    growth = 2 * float(column.square().sum()) - float(column[position]) ** 2
    return 2 * finder.lengths[position] - growth


def _beyond(finder: RangeFinder, probe: torch.Tensor, index: int) -> TraceSample:
    """Spend one product on a probe `[n]` cleared of Ritz basis and sketch."""
    finder.deflation.clear(probe)
    finder.basis.subtract(probe, finder.basis.project(probe))
    product = finder.operator.matvec(probe)
    nothing = torch.zeros(len(finder.deflation.ritz_values), dtype=torch.float64)
    sample = finder.deflation.sample(index, probe, product, nothing)
    form = sample.quadratic_form + float(finder.core().trace())
    return TraceSample(index, form, sample.squared_length + finder.captured)
