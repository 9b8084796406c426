"""Trace and Frobenius norm from random probes, with the part that Lanczos already knows taken out.

Hutchinson 1989, "A stochastic estimator of the trace of the influence matrix"; deflation as in Girard
1989 and Gambhir, Stathopoulos and Orginos 2017. With orthonormal Ritz vectors V of H and P = I - V V^T,

    tr(H) = sum_i theta_i + tr(P H P),    E z^T P H P z = tr(P H P) for Rademacher z,

so that only the remainder, free of the outliers that make the variance, is estimated. Where the Lanczos
basis is there anyway the deflation costs no product. The same products give the Frobenius norm, and the
trace segment by segment; `deflation` has the arithmetic.

Stopping once the standard error is small prefers samples that scatter little by chance: of intervals by
Student's quantile of all probes, 93% cover the trace for normal samples and 91% for skewed ones. Where
the error stops the sampling, the quantile is therefore that of `MIN_PROBES` samples (94% to 97%).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from attrs import frozen
from scipy.special import stdtrit

from atlas_pyhessian.deflation import Deflation, TraceSample
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.recall import Recall

__all__ = ["Estimate", "TraceEstimate", "mean_estimate", "trace"]

MIN_PROBES = 12
"""Probes before a relative error may stop the sampling: a standard error from fewer is itself noise."""


@frozen
class Estimate:
    """A mean of independent samples with its standard error and two-sided 95% t-interval."""

    value: float
    standard_error: float
    low: float
    high: float
    num_samples: int


@frozen
class TraceEstimate:
    """Trace and squared Frobenius norm, what is known exactly included.

    Attributes:
        trace: Estimate of tr(H).
        frobenius_squared: Estimate of ||H||_F^2.
        deflated_trace: The part of the trace held by the Ritz vectors.
        converged: The relative standard error asked for was reached; true where none was.
        samples: The probes, in order.
        degrees: Degrees of freedom of the intervals; None for one fewer than there are samples.
    """

    trace: Estimate
    frobenius_squared: Estimate
    deflated_trace: float
    converged: bool
    samples: tuple[TraceSample, ...]
    degrees: int | None = None


def mean_estimate(
    samples: Sequence[float], offset: float = 0.0, *, degrees: int | None = None, inflation: float = 1.0
) -> Estimate:
    """Return `offset` plus the mean of at least two samples, with a Student t interval.

    Args:
        samples: The samples.
        offset: What is known exactly.
        degrees: Degrees of freedom of the interval; None for one fewer than there are samples.
        inflation: What the error of independent samples is multiplied by where they depend on each other.
    """
    count = len(samples)
    mean = math.fsum(samples) / count
    variance = math.fsum((sample - mean) ** 2 for sample in samples) / (count - 1)
    error = inflation * math.sqrt(variance / count)
    half = float(stdtrit(count - 1 if degrees is None else degrees, 0.975)) * error
    value = offset + mean
    return Estimate(value, error, value - half, value + half, count)


def trace(
    operator: SymmetricOperator,
    draw: Callable[[int], torch.Tensor],
    *,
    rel_se: float | None,
    max_probes: int,
    deflation: Deflation | None = None,
    given: Sequence[TraceSample] = (),
    recall: Recall | None = None,
    report: Callable[[int, float], None] | None = None,
) -> TraceEstimate:
    """Estimate the trace until its relative standard error is reached or the probes are spent.

    Args:
        operator: Any symmetric operator.
        draw: Returns Rademacher probe number i, `[n]`, which the next call may overwrite.
        rel_se: Standard error asked for, relative to the estimate; None spends all probes.
        max_probes: Probes in all, at least two, those given included.
        deflation: Ritz basis to take out; None estimates the whole trace.
        given: Samples of probes 0, 1, ... that another algorithm has paid for, of the same deflation.
        recall: Has the samples that an interrupted attempt paid for; its operator is `operator`.
        report: Called with probes so far and the relative standard error.

    Returns:
        The estimates; `converged` is false where `max_probes` came first.
    """
    known_part = deflation or Deflation.whole(None)
    known = math.fsum(known_part.ritz_values)
    known_squares = math.fsum(value * value for value in known_part.ritz_values)
    samples = list(given)
    product = torch.empty(operator.size, dtype=operator.dtype, device=operator.device)
    while True:
        if len(samples) >= 2:
            total = mean_estimate([s.quadratic_form for s in samples], known)
            error = total.standard_error
            if report is not None and total.value:
                report(len(samples), error / abs(total.value))
            enough = len(samples) >= min(MIN_PROBES, max_probes)
            reached = rel_se is not None and error <= rel_se * abs(total.value)
            if (reached and enough) or len(samples) >= max_probes:
                break
        index = len(samples)
        measured = partial(_sample, operator, draw, known_part, index, product)
        samples.append(measured() if recall is None else recall(f"trace {index}", TraceSample, measured))
    degrees = min(len(samples), MIN_PROBES) - 1 if len(samples) < max_probes else None
    total = mean_estimate([s.quadratic_form for s in samples], known, degrees=degrees)
    squares = mean_estimate([s.squared_length for s in samples], known_squares, degrees=degrees)
    return TraceEstimate(total, squares, known, rel_se is None or reached, tuple(samples), degrees)


def _sample(
    operator: SymmetricOperator,
    draw: Callable[[int], torch.Tensor],
    deflation: Deflation,
    index: int,
    out: torch.Tensor,
) -> TraceSample:
    probe = draw(index)
    coefficients = deflation.clear(probe)
    return deflation.sample(index, probe, operator.matvec(probe, out=out), coefficients)
