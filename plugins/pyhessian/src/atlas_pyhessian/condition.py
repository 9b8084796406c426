"""What can be said honestly of a curvature's conditioning.

The Hessian of a language model's loss is indefinite and singular, so that lambda_max / lambda_min is no
condition number. Reported instead are ratios that exist, each with the bound that follows from the
residuals and standard errors of its parts; the literal `condition_number` stays empty, with the reason,
unless the smallest eigenvalue is certified to be positive.

Uses: Ghorbani, Krishnan and Xiao 2019 (ratios to the largest eigenvalue, negative mass); Roy and
Vetterli 2007 give another effective rank, by entropy; here it is tr(H)^2 / ||H||_F^2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from atlas.quantities import Quantity
from atlas_pyhessian.golub1973nodes import (
    Bracket,
    Known,
    absolute_sum_bracket,
    count_bracket,
    negative_share_bracket,
)
from atlas_pyhessian.hutchinson1989trace import TraceEstimate, mean_estimate
from atlas_pyhessian.ubaru2017slq import Quadrature
from atlas_pyhessian.wu2000thickrestart import Spectrum

__all__ = ["condition_report"]


def _ratio_bound(above: float, above_error: float, below: float, below_error: float) -> float | None:
    """Return how far |above / below| can be off, or None where `below` may be zero."""
    if abs(below) <= below_error:
        return None
    highest = (abs(above) + above_error) / (abs(below) - below_error)
    return highest - abs(above) / abs(below)


def _ratio(
    name: str,
    above: tuple[float, float],
    below: tuple[float, float],
    *,
    converged: bool,
    num_matvecs: int,
    note: str,
) -> Quantity:
    bound = _ratio_bound(*above, *below)
    if bound is None:
        return Quantity(
            name,
            None,
            None,
            "undefined",
            converged=converged,
            num_matvecs=num_matvecs,
            note=f"the denominator {below[0]:.3g} is not resolved from zero (residual {below[1]:.1e})",
        )
    return Quantity(
        name,
        abs(above[0]) / abs(below[0]),
        bound,
        "residual_bound",
        converged=converged,
        num_matvecs=num_matvecs,
        note=note,
    )


def _literal(low: tuple[float, float], high: tuple[float, float], spectrum: Spectrum) -> Quantity:
    if low[0] - low[1] > 0:
        return _ratio(
            "condition_number",
            high,
            low,
            converged=spectrum.settled,
            num_matvecs=spectrum.num_matvecs,
            note="lambda_max / lambda_min, both certified",
        )
    sign = "is negative" if low[0] + low[1] < 0 else "is not resolved from zero"
    return Quantity(
        "condition_number",
        None,
        None,
        "undefined",
        converged=spectrum.settled,
        num_matvecs=spectrum.num_matvecs,
        note=f"lambda_min = {low[0]:.6g} (residual {low[1]:.1e}) {sign}: lambda_max / lambda_min is "
        "no condition number; see kappa_eps, outlier_ratio and negativity_ratio",
    )


def _kappa(pairs: Sequence[tuple[float, float]], spectrum: Spectrum, eps: float) -> Quantity:
    """Bracket lambda_1 over the smallest magnitude above `eps * lambda_1`.

    A certified pair above the resolution bounds that magnitude from above, the resolution bounds it
    from below unless the whole spectrum is known and none of it straddles the resolution.
    """
    top, top_error = abs(pairs[0][0]), pairs[0][1]
    if spectrum.exhausted:
        pairs = list(zip(spectrum.ritz_values, spectrum.ritz_residuals, strict=True))
    above = [(abs(v), r) for v, r in pairs if abs(v) - r > eps * (top + top_error)]
    beneath = [v for v, r in pairs if abs(v) + r <= eps * (top - top_error)]
    whole = spectrum.exhausted and len(above) + len(beneath) == len(pairs)
    if not above:
        return Quantity(
            "kappa_eps",
            None,
            None,
            "undefined",
            num_matvecs=spectrum.num_matvecs,
            note="no certified eigenvalue lies above the resolution",
        )
    value, error = min(above)
    low = max(1.0, (top - top_error) / (value + error))
    high = (top + top_error) / (value - error) if whole else 1.0 / eps
    return Quantity(
        "kappa_eps",
        (low + high) / 2,
        (high - low) / 2,
        "residual_bound",
        converged=spectrum.settled,
        num_matvecs=spectrum.num_matvecs,
        low=low,
        high=high,
        note=f"lambda_1 over the smallest magnitude above eps = {eps:g} of it; a bracket",
    )


def _interval(name: str, bracket: Bracket, num_matvecs: int, note: str, *, unit: float = 1.0) -> Quantity:
    return Quantity(
        name,
        bracket.value / unit,
        (bracket.high - bracket.low) / 2 / unit,
        "interval_95",
        num_matvecs=num_matvecs,
        num_samples=bracket.num_samples,
        low=bracket.low / unit,
        high=bracket.high / unit,
        note=note + "; the interval holds what the quadrature cannot resolve",
    )


def _effective_rank(estimate: TraceEstimate, num_matvecs: int) -> Quantity:
    """Return tr(H)^2 / ||H||_F^2 with its standard error by the delta method over probes."""
    trace, squares = estimate.trace, estimate.frobenius_squared
    if squares.value <= 0:
        return Quantity("effective_rank", None, None, "undefined", note="the Hessian is zero")
    value = trace.value**2 / squares.value
    by_trace, by_squares = 2 * trace.value / squares.value, -value / squares.value
    forms = [sample.quadratic_form for sample in estimate.samples]
    lengths = [sample.squared_length for sample in estimate.samples]
    count = len(forms)
    centre_form, centre_length = math.fsum(forms) / count, math.fsum(lengths) / count
    dependence = trace.standard_error / (mean_estimate(forms).standard_error or 1.0)
    variance = math.fsum(
        (by_trace * (f - centre_form) + by_squares * (s - centre_length)) ** 2
        for f, s in zip(forms, lengths, strict=True)
    )
    return Quantity(
        "effective_rank",
        value,
        dependence * math.sqrt(variance / (count - 1) / count),
        "standard_error",
        converged=estimate.converged,
        num_matvecs=num_matvecs,
        num_samples=count,
        note="tr(H)^2 / ||H||_F^2",
    )


def condition_report(
    spectrum: Spectrum,
    *,
    top_k: int,
    eps: float,
    trace: TraceEstimate | None = None,
    rules: Sequence[Quadrature] = (),
    num_matvecs: int | None = None,
) -> Iterator[Quantity]:
    """Yield the condition of a curvature as quantities.

    Args:
        spectrum: Certified extreme eigenpairs.
        top_k: How many of the pairs are the largest by magnitude; the others are algebraic ends.
        eps: Resolution, relative to the largest magnitude.
        trace: Trace and Frobenius norm, for the effective rank.
        rules: Quadrature rules, at least two, for counts below the resolution and negative mass.
        num_matvecs: Products spent in all; None takes those of the spectrum.
    """
    pairs = list(zip(spectrum.values, spectrum.residual_norms, strict=True))
    low, high = min(pairs), max(pairs)
    total = spectrum.num_matvecs if num_matvecs is None else num_matvecs
    certified = spectrum.settled
    yield _literal(low, high, spectrum)
    yield _ratio(
        "negativity_ratio",
        low if low[0] < 0 else (0.0, low[1]),
        high if high[0] > 0 else (0.0, high[1]),
        converged=certified,
        num_matvecs=spectrum.num_matvecs,
        note="|lambda_min| / lambda_max, zero without a negative eigenvalue",
    )
    last = min(top_k, len(pairs))
    yield _ratio(
        "outlier_ratio",
        pairs[0],
        pairs[last - 1],
        converged=spectrum.searched and all(spectrum.converged[:last]),
        num_matvecs=spectrum.num_matvecs,
        note=f"largest magnitude over number {last} by magnitude",
    )
    yield _kappa(pairs, spectrum, eps)
    if trace is not None:
        yield _effective_rank(trace, total)
    if len(rules) >= 2 and spectrum.norm > 0:
        edge = eps * abs(pairs[0][0])
        known = Known.of(spectrum)
        below = count_bracket(rules, known, -edge, edge)
        yield _interval("count_below_eps", below, total, f"eigenvalues within {edge:.3g} of zero")
        negative = count_bracket(rules, known, -math.inf, -edge)
        yield _interval("count_negative", negative, total, f"eigenvalues below {-edge:.3g}")
        nuclear = absolute_sum_bracket(rules, known)
        note = "sum of magnitudes over the largest magnitude"
        yield _interval("nuclear_rank", nuclear, total, note, unit=spectrum.norm)
        mass = negative_share_bracket(rules, known)
        note = "negative eigenvalues' part of the sum of magnitudes (Ghorbani et al. 2019)"
        yield _interval("negative_mass", mass, total, note)
