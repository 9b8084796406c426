"""Trace from products that serve twice: as a sketch of the others' range, and as a sample beyond it.

Epperly, Tropp and Webber 2024, "XTrace: making the most of every sample in stochastic trace estimation",
SIAM J. Matrix Anal. Appl. 45(1). Let Y = A Omega = Q R, and Pi_i the projection on the range of Y without
column i. For independent probes of covariance I,

    t_i = tr(Pi_i A) + w_i^T (I - Pi_i) A (I - Pi_i) w_i

has the mean tr(A), since w_i is independent of Pi_i; XTrace is the mean of all t_i. In coordinates of Q,
Pi_i = Q (I - s_i s_i^T) Q^T with the unit vector s_i that is orthogonal to all columns of R but the i-th,
row i of R^-1 normalised; with G = Q^T A Q, v_i = Q^T w_i, r_i = Q^T A w_i the i-th column of R, and
p_i = v_i - s_i (s_i.v_i),

    t_i = tr(G) - s_i.G s_i + v_i.r_i - 2 r_i.p_i + p_i.G p_i,

so that A Q need not be held, and probes are drawn again where v_i needs them. A probe whose product lies
in the range of the others', as happens when A has low rank, adds no vector: then s_i = 0 for it and for
all others that its column of R can replace.

The t_i are exchangeable, not independent, and the root of their variance over their number, the paper's
error estimate, is 0.85 to 0.95 of the true spread in simulations (indefinite spectra with outliers, power
laws and zeros, 8 to 48 probes m), and less where m is no small part of n. Where the spectrum falls fast the
t_i share what the sketch still misses, and it was 0.69 to 0.78 with 8 to 16 probes of a trained model's
Hessian. It is multiplied by `INFLATION`, by the root of 1 + 8 / m, and over the root of 1 - m / n. With fewer
than `MIN_PROBES` probes the sketch may miss an outlier and intervals covered 85%, so that none are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from atlas.errors import BadInput
from atlas_pyhessian.deflation import Deflation, TraceSample
from atlas_pyhessian.halko2011rangefinder import RangeFinder
from atlas_pyhessian.hutchinson1989trace import TraceEstimate, mean_estimate
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.spectrum import Spectrum
from atlas_pyhessian.wu2000thickrestart import MakeBasis

__all__ = ["INFLATION", "LEAST_PRODUCTS", "MIN_PROBES", "leave_one_out", "xtrace"]

INFLATION = 1.12
"""What the paper's error estimate is multiplied by; see above."""

_FEW = 8
"""Probes up to which the samples share so much of their error that it must be raised; see above."""

MIN_PROBES = 8
"""Probes, two products each, before an error is believed."""

LEAST_PRODUCTS = 2 * MIN_PROBES
"""Products below which none is given."""

_GROWTH = 4
"""The sketch grows by one part in so many between two looks at its error, each of which draws all
probes again."""


def leave_one_out(
    triangle: torch.Tensor, inner: torch.Tensor, core: torch.Tensor, kept: list[int], resolution: float
) -> torch.Tensor:
    """Return t_i of every probe, float64 `[m]`.

    Args:
        triangle: R, `[r, m]`.
        inner: Q^T Omega, `[r, m]`.
        core: Q^T A Q, `[r, r]`.
        kept: The r probes that added a vector, ascending.
        resolution: Relative size under which a coefficient counts as zero.
    """
    rank, count = triangle.shape
    left_out = torch.zeros(rank, count, dtype=torch.float64)
    if rank:
        inverse = torch.linalg.solve_triangular(
            triangle[:, kept], torch.eye(rank, dtype=torch.float64), upper=True
        )
        normals = (inverse / inverse.norm(dim=1, keepdim=True)).T
        others = [i for i in range(count) if i not in set(kept)]
        spare = triangle[:, others]
        replaced = (normals.T @ spare).abs() > resolution * spare.norm(dim=0)
        left_out[:, kept] = normals * ~replaced.any(dim=1)
    parts = inner - left_out * (left_out * inner).sum(0)
    return (
        core.trace()
        - (left_out * (core @ left_out)).sum(0)
        + (inner * triangle).sum(0)
        - 2 * (triangle * parts).sum(0)
        + (parts * (core @ parts)).sum(0)
    )


def xtrace(
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

    As many vectors as probes are held, half the products.

    Args:
        operator: Any symmetric operator.
        draw: Returns Rademacher probe number i, `[n]`, the same whenever it is asked.
        rel_se: Standard error asked for, relative to the estimate; None spends all products.
        max_products: Products allowed, two for each probe.
        spectrum: Ritz basis to take out; None estimates the whole trace.
        make_basis: Makes the basis of the sketch; None keeps it in memory on the operator's device.
        report: Called with products so far and the relative standard error.

    Returns:
        The estimates, their samples the t_i; `converged` is false where `max_products` came first.

    Raises:
        BadInput: Too few products are allowed for an error that can be believed.
    """
    if max_products < LEAST_PRODUCTS:
        raise BadInput(
            f"XTrace was allowed {max_products} products, too few for an error that can be believed",
            fix=f"allow at least {LEAST_PRODUCTS}, or use `method: deflated`",
        )
    most = max_products // 2
    deflation = Deflation.whole(spectrum)
    finder = RangeFinder.empty(operator, deflation, most, make_basis)
    offset = math.fsum(deflation.ritz_values)
    started, goal = operator.num_matvecs, min(MIN_PROBES, most)
    while True:
        while len(finder.columns) < goal:
            finder.add(draw(len(finder.columns)))
        values = _values(finder, draw)
        part = min(goal / operator.size, 0.75)
        inflation = INFLATION * math.sqrt((1 + _FEW / goal) / (1 - part))
        total = mean_estimate(values, offset, inflation=inflation)
        spent = operator.num_matvecs - started
        if report is not None and total.value:
            report(spent, total.standard_error / abs(total.value))
        reached = rel_se is not None and total.standard_error <= rel_se * abs(total.value)
        if reached or goal == most:
            break
        goal = min(most, goal + max(1, goal // _GROWTH))
    known_squares = math.fsum(value * value for value in deflation.ritz_values)
    squares = mean_estimate([sample.squared_length for sample in finder.samples], known_squares)
    samples = [
        TraceSample(sample.index, value, sample.squared_length)
        for sample, value in zip(finder.samples, values, strict=True)
    ]
    return TraceEstimate(total, squares, offset, rel_se is None or reached, tuple(samples))


def _values(finder: RangeFinder, draw: Callable[[int], torch.Tensor]) -> list[float]:
    """Return t_i of every probe so far, each drawn again for its coefficients on the sketch."""
    inner = torch.zeros(len(finder.basis), len(finder.columns), dtype=torch.float64)
    for index in range(len(finder.columns)):
        inner[:, index] = finder.basis.project(draw(index))
    found = leave_one_out(finder.triangle(), inner, finder.core(), finder.kept, finder.resolution)
    return [float(value) for value in found]
