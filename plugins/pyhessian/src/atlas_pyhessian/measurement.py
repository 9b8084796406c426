"""One slice's curvature with the certified engine: spectrum, density, trace, condition.

One Lanczos run feeds everything after it: its Ritz basis deflates the probes, the density's first
products are trace samples, and no product is paid twice.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from attrs import evolve, frozen

from atlas.quantities import Quantity
from atlas_pyhessian import reductions
from atlas_pyhessian.condition import condition_report
from atlas_pyhessian.deflation import Deflation, TraceSample
from atlas_pyhessian.hutchinson1989trace import TraceEstimate, trace
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.settings import Settings
from atlas_pyhessian.ubaru2017slq import DensityPoint, Quadrature, density, quadrature
from atlas_pyhessian.wu2000thickrestart import Spectrum, thick_restart_lanczos

__all__ = ["Measurement", "Report", "measure_curvature"]

Report = Callable[[str, int, float], None]
"""Told what is being done, products so far, and the current relative error."""


@frozen
class Measurement:
    """What was measured on one slice."""

    spectrum: Spectrum
    trace: TraceEstimate | None
    density: tuple[DensityPoint, ...]
    quantities: tuple[Quantity, ...]


def measure_curvature(
    operator: HessianOperator, probes: Probes, settings: Settings, *, purpose: str, report: Report
) -> Measurement:
    """Measure an operator's curvature.

    Args:
        operator: Hessian of one slice's loss.
        probes: Random vectors over its parameters.
        settings: What is wanted.
        purpose: Prefix that keeps this slice's random draws apart from others'.
        report: Told how far it is.

    Raises:
        BadInput: The loss is not deterministic, or the tolerance cannot be certified.
        InstrumentFailed: A product is not finite.
    """
    spectrum = _spectrum(operator, probes, settings, purpose, report)
    quantities = _eigenvalues(spectrum)
    rules, samples = _rules(operator, probes, settings, purpose, spectrum, report)
    estimate = _trace(operator, probes, settings, purpose, spectrum, samples, report)
    if estimate is not None:
        quantities += _trace_quantities(estimate, operator.num_matvecs)
    quantities += condition_report(
        spectrum,
        top_k=settings.top_k,
        eps=settings.eps,
        trace=estimate,
        rules=rules,
        num_matvecs=operator.num_matvecs,
    )
    bins = settings.density.bins if settings.density is not None else 0
    points = density(rules, spectrum.eigenvalues, bins) if rules else ()
    return Measurement(spectrum, estimate, points, tuple(quantities))


def _spectrum(
    operator: HessianOperator, probes: Probes, settings: Settings, purpose: str, report: Report
) -> Spectrum:
    def draw(index: int) -> torch.Tensor:
        return probes.rademacher(f"{purpose} Lanczos start", index)

    start = draw(0)
    start /= reductions.norm(start)
    report("repeating the first product", 0, 1.0)
    first = operator.repeated_matvec(start)
    del start
    spent = operator.num_matvecs
    spectrum = thick_restart_lanczos(
        operator,
        draw,
        settings.request(operator.size, operator.dtype),
        first_product=first,
        report=lambda phase, matvecs, residual: report(phase, spent + matvecs, residual),
    )
    return evolve(spectrum, num_matvecs=operator.num_matvecs)


def _rules(
    operator: HessianOperator,
    probes: Probes,
    settings: Settings,
    purpose: str,
    spectrum: Spectrum,
    report: Report,
) -> tuple[list[Quadrature], list[TraceSample]]:
    rules: list[Quadrature] = []
    samples: list[TraceSample] = []
    deflation = Deflation.of_eigenvectors(spectrum)
    if settings.density is None:
        return rules, samples
    for index in range(settings.density.probes):
        report("density", operator.num_matvecs, 1.0 - index / settings.density.probes)
        probe = probes.rademacher(f"{purpose} trace probe", index)
        rule, sample = quadrature(operator, probe, index, settings.density.steps, deflation)
        rules.append(rule)
        samples.append(sample)
    return rules, samples


def _trace(
    operator: HessianOperator,
    probes: Probes,
    settings: Settings,
    purpose: str,
    spectrum: Spectrum,
    samples: list[TraceSample],
    report: Report,
) -> TraceEstimate | None:
    if settings.trace is None:
        return None
    return trace(
        operator,
        lambda index: probes.rademacher(f"{purpose} trace probe", index),
        rel_se=settings.trace.rel_se,
        max_probes=max(settings.trace.max_probes, len(samples)),
        deflation=Deflation.of_eigenvectors(spectrum),
        given=samples,
        report=lambda count, error: report("trace", operator.num_matvecs, error),
    )


def _eigenvalues(spectrum: Spectrum) -> list[Quantity]:
    note = (
        f"{spectrum.clean_starts} fresh random start(s) found nothing beyond"
        if spectrum.clean_starts or spectrum.exhausted
        else "from one start vector: a repeated eigenvalue would not have been seen"
    )
    if spectrum.exhausted:
        note = "the basis spans the whole space"

    def certified(name: str, position: int, index: int | None) -> Quantity:
        return Quantity(
            name,
            spectrum.values[position],
            spectrum.residual_norms[position],
            "residual_bound",
            unit="nat",
            converged=spectrum.converged[position],
            num_matvecs=spectrum.num_matvecs,
            index=index,
            note=note,
        )

    positions = range(len(spectrum.values))
    highest = max(positions, key=lambda i: spectrum.values[i])
    lowest = min(positions, key=lambda i: spectrum.values[i])
    return [
        certified("lambda_max", highest, None),
        certified("lambda_min", lowest, None),
        *(certified("eigenvalue", i, i + 1) for i in positions),
    ]


def _trace_quantities(estimate: TraceEstimate, num_matvecs: int) -> list[Quantity]:
    note = f"Ritz values hold {estimate.deflated_trace:.6g} of it; 95% t-interval over probes"
    return [
        Quantity(
            name,
            part.value,
            part.standard_error,
            "standard_error",
            unit=unit,
            converged=estimate.converged,
            num_matvecs=num_matvecs,
            num_samples=part.num_samples,
            low=part.low,
            high=part.high,
            note=text,
        )
        for name, part, unit, text in (
            ("trace", estimate.trace, "nat", note),
            ("frobenius_squared", estimate.frobenius_squared, "nat2", "||H||_F^2"),
        )
    ]
