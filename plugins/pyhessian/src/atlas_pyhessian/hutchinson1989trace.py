"""Trace and Frobenius norm from random probes, with the part that Lanczos already knows taken out.

Hutchinson 1989, "A stochastic estimator of the trace of the influence matrix"; deflation as in Girard
1989 and Gambhir, Stathopoulos and Orginos 2017. With orthonormal Ritz vectors V of H and P = I - V V^T,

    tr(H) = sum_i theta_i + tr(P H P),    E z^T P H P z = tr(P H P) for Rademacher z,

so that only the remainder, free of the outliers that make the variance, is estimated. Where the Lanczos
basis is there anyway the deflation costs no product. The same products give the Frobenius norm by
`E |H P z|^2 = tr(P H^2 P)`.

Stopping once the standard error is small prefers samples that scatter little by chance: of intervals by
Student's quantile of all probes, 93% cover the trace for normal samples and 91% for skewed ones. Where
the error stops the sampling, the quantile is therefore that of `MIN_PROBES` samples (94% to 97%).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from attrs import frozen
from scipy.special import stdtrit

from atlas_pyhessian import reductions
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.wu2000thickrestart import Spectrum

__all__ = ["Estimate", "TraceEstimate", "TraceSample", "mean_estimate", "sample_trace", "trace"]

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
class TraceSample:
    """One probe's contributions: `z^T P H P z` and `|H P z|^2`."""

    index: int
    quadratic_form: float
    squared_length: float


@frozen
class TraceEstimate:
    """Trace and squared Frobenius norm, what is known exactly included.

    Attributes:
        trace: Estimate of tr(H).
        frobenius_squared: Estimate of ||H||_F^2.
        deflated_trace: The part of the trace held by the Ritz vectors.
        converged: The relative standard error asked for was reached; true where none was.
        samples: The probes, in order.
    """

    trace: Estimate
    frobenius_squared: Estimate
    deflated_trace: float
    converged: bool
    samples: tuple[TraceSample, ...]


def mean_estimate(samples: Sequence[float], offset: float = 0.0, *, degrees: int | None = None) -> Estimate:
    """Return `offset` plus the mean of at least two independent samples, with a Student t interval.

    Args:
        samples: The samples.
        offset: What is known exactly.
        degrees: Degrees of freedom of the interval; None for one fewer than there are samples.
    """
    count = len(samples)
    mean = math.fsum(samples) / count
    variance = math.fsum((sample - mean) ** 2 for sample in samples) / (count - 1)
    error = math.sqrt(variance / count)
    half = float(stdtrit(count - 1 if degrees is None else degrees, 0.975)) * error
    value = offset + mean
    return Estimate(value, error, value - half, value + half, count)


def sample_trace(
    operator: SymmetricOperator, probe: torch.Tensor, index: int, spectrum: Spectrum | None
) -> TraceSample:
    """Spend one product on a probe `[n]`, which is overwritten by its projection P z."""
    if spectrum is not None:
        spectrum.basis.subtract(probe, spectrum.basis.project(probe))
    product = operator.matvec(probe)
    return TraceSample(index, reductions.dot(probe, product), reductions.dot(product, product))


def trace(
    operator: SymmetricOperator,
    draw: Callable[[int], torch.Tensor],
    *,
    rel_se: float | None,
    max_probes: int,
    spectrum: Spectrum | None = None,
    given: Sequence[TraceSample] = (),
    report: Callable[[int, float], None] | None = None,
) -> TraceEstimate:
    """Estimate the trace until its relative standard error is reached or the probes are spent.

    Args:
        operator: Any symmetric operator.
        draw: Returns Rademacher probe number i, `[n]`, a new tensor each time.
        rel_se: Standard error asked for, relative to the estimate; None spends all probes.
        max_probes: Probes in all, at least two, those given included.
        spectrum: Ritz basis to take out; None estimates the whole trace.
        given: Samples of probes 0, 1, ... that another algorithm has paid for, deflated alike.
        report: Called with probes so far and the relative standard error.

    Returns:
        The estimates; `converged` is false where `max_probes` came first.
    """
    ritz = spectrum.ritz_values if spectrum is not None else ()
    residuals = spectrum.ritz_residuals if spectrum is not None else ()
    known = math.fsum(ritz)
    known_squares = math.fsum(t * t + r * r for t, r in zip(ritz, residuals, strict=True))
    samples = list(given)
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
        samples.append(sample_trace(operator, draw(index), index, spectrum))
    degrees = min(len(samples), MIN_PROBES) - 1 if len(samples) < max_probes else None
    total = mean_estimate([s.quadratic_form for s in samples], known, degrees=degrees)
    squares = mean_estimate([s.squared_length for s in samples], known_squares, degrees=degrees)
    return TraceEstimate(total, squares, known, rel_se is None or reached, tuple(samples))
