"""One slice's curvature with the certified engine: spectrum, density, trace, condition.

One Lanczos run feeds everything after it: its Ritz basis deflates the probes, the density's first
products are trace samples, and no product is paid twice.

The products of a fresh start are not used a second time, though its first is a trace sample too: z is
cleared of the wanted vectors C only, so that its variance is that of all the rest, its own vector then
joins the basis, and N deflated probes leave it a weight of 1 / (N + 1) at the most: one probe in 12 to
32 where the variances are equal, nothing where they are not, and the interval would rest on a sample of
unknown variance. As a rule of quadrature its Krylov space ends at the next restart, after five steps by
default, and its brackets are several times wider than those of the density's own sixteen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from attrs import evolve, frozen

from atlas.quantities import Quantity
from atlas_pyhessian import reductions
from atlas_pyhessian.basis import Basis
from atlas_pyhessian.condition import condition_report
from atlas_pyhessian.deflation import Deflation, TraceSample
from atlas_pyhessian.density import DensityPoint, density
from atlas_pyhessian.golub1973nodes import Known
from atlas_pyhessian.hutchinson1989trace import TraceEstimate
from atlas_pyhessian.operators import LossOperator
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.recall import CountedOperator, Recall
from atlas_pyhessian.restarts import MakeBasis, Restarts, load_spectrum, save_spectrum
from atlas_pyhessian.savedstates import SavedStates
from atlas_pyhessian.segments import SegmentTrace, by_segment
from atlas_pyhessian.settings import Settings
from atlas_pyhessian.trace_methods import estimate_trace
from atlas_pyhessian.ubaru2017slq import Quadrature, quadrature
from atlas_pyhessian.wu2000thickrestart import Spectrum, thick_restart_lanczos

__all__ = ["Measurement", "Report", "measure_curvature"]

Report = Callable[[str, int, float], None]
"""Told what is being done, products so far, and the current relative error."""


_REPEATED = 2
"""Products of the first vector, which is multiplied twice to see that the loss is deterministic."""


@frozen
class _Probed:
    """What one probe of the density gives."""

    rule: Quadrature
    sample: TraceSample


@frozen
class Measurement:
    """What was measured on one slice."""

    spectrum: Spectrum
    trace: TraceEstimate | None
    density: tuple[DensityPoint, ...]
    quantities: tuple[Quantity, ...]
    tensors: tuple[SegmentTrace, ...] = ()


def measure_curvature(
    operator: LossOperator,
    probes: Probes,
    settings: Settings,
    *,
    purpose: str,
    report: Report,
    make_basis: MakeBasis | None = None,
    states: SavedStates | None = None,
    resumed: Callable[[str], None] | None = None,
    known: Spectrum | None = None,
    results: dict[str, Any] | None = None,
) -> Measurement:
    """Measure an operator's curvature.

    Args:
        operator: A curvature matrix of one slice's loss.
        probes: Random vectors over its parameters.
        settings: What is wanted.
        purpose: Prefix that keeps this slice's random draws apart from others'.
        report: Told how far it is.
        make_basis: Makes the Lanczos basis; None keeps it in memory on the operator's device.
        states: Where it is kept how far it is, for an attempt after an interrupted one; None for nowhere.
        resumed: Told what of an interrupted attempt was used.
        known: The operator's spectrum from an earlier call, which is then not computed again.
        results: Results of earlier calls with that spectrum, which are used and added to.

    Raises:
        BadInput: The loss is not deterministic, or the tolerance cannot be certified.
        InstrumentFailed: A product is not finite.
    """
    held = make_basis or _in_memory(operator)
    kept, counted = states or SavedStates(None), CountedOperator(operator, -operator.num_matvecs)
    recall = Recall(kept, counted) if results is None else Recall(kept, counted, results=results)
    if known is None:
        spectrum, before = _spectrum(operator, recall, probes, settings, purpose, report, held)
    else:
        spectrum, before = known, 0
        counted.earlier = known.num_matvecs - operator.num_matvecs
    if resumed is not None and (before or recall.found):
        resumed(f"after {before} products of Lanczos, with {len(recall.found)} finished samples")
    quantities = _eigenvalues(spectrum, settings)
    by_tensor = settings.trace is not None and settings.trace.method == "deflated"
    deflation = Deflation.of_eigenvectors(spectrum, probes.sizes)
    held_probe = probes.empty()

    def draw(index: int) -> torch.Tensor:
        return probes.rademacher(f"{purpose} trace probe", index, out=held_probe)

    rules, samples = _rules(recall, draw, settings, deflation, report)
    estimate: TraceEstimate | None = None
    if settings.trace is not None:
        estimate = estimate_trace(
            recall, draw, settings.trace, deflation, given=samples, make_basis=held, report=report
        )
        quantities += _trace_quantities(estimate, settings.trace.method, counted.num_matvecs)
    quantities += condition_report(
        spectrum,
        top_k=settings.top_k,
        eps=settings.eps,
        trace=estimate,
        rules=rules,
        num_matvecs=counted.num_matvecs,
    )
    bins = settings.density.bins if settings.density is not None else 0
    points = density(rules, Known.of(spectrum), bins) if rules else ()
    tensors = by_segment(estimate, deflation) if estimate is not None and by_tensor else ()
    return Measurement(spectrum, estimate, points, tuple(quantities), tensors)


def _in_memory(operator: LossOperator) -> MakeBasis:
    def make(capacity: int, size: int, storage: torch.dtype) -> Basis:
        return Basis(capacity, size, storage=storage, dtype=operator.dtype, device=operator.device)

    return make


def _spectrum(
    operator: LossOperator,
    recall: Recall,
    probes: Probes,
    settings: Settings,
    purpose: str,
    report: Report,
    make_basis: MakeBasis,
) -> tuple[Spectrum, int]:
    """Return the spectrum and how many of its products an interrupted attempt had spent."""
    states, counted = recall.states, recall.operator

    def draw(index: int) -> torch.Tensor:
        return probes.rademacher(f"{purpose} Lanczos start", index)

    found = load_spectrum(states, operator.size, make_basis)
    if found is not None:
        counted.earlier = found.num_matvecs
        return found, found.num_matvecs
    restarts = Restarts.of(states)
    first: torch.Tensor | None = None
    if restarts.running is None:
        start = draw(0)
        start /= reductions.norm(start)
        report("repeating the first product", 0, 1.0)
        first = operator.repeated_matvec(start)
        del start
    else:
        counted.earlier = _REPEATED + restarts.running.spent
    before = counted.earlier
    spectrum = thick_restart_lanczos(
        counted,
        draw,
        settings.request(operator.size, operator.dtype, operator.device),
        certifier=getattr(operator, "certifier", None),
        make_basis=make_basis,
        first_product=first,
        segments=probes.sizes,
        restarts=restarts,
        report=lambda phase, matvecs, residual: report(phase, _REPEATED + matvecs, residual),
    )
    spectrum = evolve(spectrum, num_matvecs=counted.num_matvecs)
    recall.meanwhile(partial(save_spectrum, states, spectrum))
    return spectrum, before


def _rules(
    recall: Recall,
    draw: Callable[[int], torch.Tensor],
    settings: Settings,
    deflation: Deflation,
    report: Report,
) -> tuple[list[Quadrature], list[TraceSample]]:
    rules: list[Quadrature] = []
    samples: list[TraceSample] = []
    if settings.density is None:
        return rules, samples
    for index in range(settings.density.probes):
        report("density", recall.operator.num_matvecs, 1.0 - index / settings.density.probes)

        def probed(index: int = index, steps: int = settings.density.steps) -> _Probed:
            return _Probed(*quadrature(recall.operator, draw(index), index, steps, deflation))

        result = recall(f"density {index}, {settings.density.steps} steps", _Probed, probed)
        rules.append(result.rule)
        samples.append(result.sample)
    return rules, samples


def _eigenvalues(spectrum: Spectrum, settings: Settings) -> list[Quantity]:
    """Return the eigenvalues; they converged if their residuals did and the search was completed."""
    note = (
        f"{spectrum.clean_starts} fresh random start(s) found nothing beyond"
        if spectrum.clean_starts or spectrum.exhausted
        else "from one start vector: a repeated eigenvalue would not have been seen"
    )
    if not spectrum.searched:
        note = f"the budget ran out before {settings.fresh_starts} fresh start(s) had found nothing beyond"
    if spectrum.exhausted:
        note = "the basis spans the whole space"

    def certified(name: str, position: int, index: int | None) -> Quantity:
        return Quantity(
            name,
            spectrum.values[position],
            spectrum.residual_norms[position],
            "residual_bound",
            unit="nat",
            converged=spectrum.converged[position] and spectrum.searched,
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


def _trace_quantities(estimate: TraceEstimate, method: str, num_matvecs: int) -> list[Quantity]:
    note = f"Ritz values hold {estimate.deflated_trace:.6g} of it; 95% t-interval over probes"
    if method != "deflated":
        note += f", by {method}"
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
