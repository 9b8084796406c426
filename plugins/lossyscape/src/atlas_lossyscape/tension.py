"""The instrument `tension`: what holds the model in place on each slice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from atlas_pyhessian import reductions
from atlas_pyhessian.directions import measure_direction
from atlas_pyhessian.wu2000thickrestart import EigenRequest, Spectrum, thick_restart_lanczos

from atlas.contracts import StepContext
from atlas.errors import InstrumentFailed
from atlas.quantities import Quantity
from atlas_lossyscape.drift import Drift, Walk, drift_ratios
from atlas_lossyscape.members import Finished, Site, measure_members
from atlas_lossyscape.seen_spectrum import SeenSpectrum, seen_spectrum

__all__ = ["measure", "state_of"]


def state_of(curvature: float, share: float, drift_top: float, thresholds: Mapping[str, float]) -> str:
    """Return `taut` if all three thresholds are met, `slack` if none is, else `mixed`.

    Args:
        curvature: Along the gradient, relative to the largest magnitude; met from the threshold on.
        share: Of |g|^2 in the certified top space; met from the threshold on.
        drift_top: Drift ratio within that space; met up to the threshold.
        thresholds: `curvature`, `share` and `drift`.
    """
    met = (
        curvature >= thresholds["curvature"],
        share >= thresholds["share"],
        drift_top <= thresholds["drift"],
    )
    return "taut" if all(met) else "mixed" if any(met) else "slack"


def measure(context: StepContext) -> None:
    """Measure the tension of the target, or of each member of its series, on every slice.

    Raises:
        BadInput: The parameters do not fit the target, or the spectrum that it sees is of another loss.
        InstrumentFailed: A loss, gradient or product is not finite, or a gradient or the Hessian is zero.
    """
    seen = seen_spectrum(context.inputs)
    measure_members(context, lambda target: lambda site: _measure_slice(site, seen), ("tension",))


def _measure_slice(site: Site, seen: SeenSpectrum | None) -> Finished:
    params, part = site.context.params, site.part
    operator = site.operator()
    losses, gradient = operator.surface.value_and_gradient()
    length = reductions.norm(gradient)
    if not length:
        raise InstrumentFailed("the gradient is zero and has no direction", where=f"slice {part.key}")
    probes = site.probes()
    request = EigenRequest(params["top_k"], 0, params["tolerance"], params["max_matvecs"])

    def find(request: EigenRequest) -> Spectrum:
        return thick_restart_lanczos(
            operator, lambda i: probes.rademacher(f"{site.purpose} start", i), request, report=site.report
        )

    if seen is None:
        spectrum = find(request)
    else:
        loss = math.fsum(b.weight * value for b, value in zip(operator.surface.batches, losses, strict=True))
        seen.check(site, loss / operator.surface.weight, length)
        spectrum = seen.spectrum(request, part.key, find)
    if not spectrum.norm:
        raise InstrumentFailed("the Hessian is zero: nothing to compare with", where=f"slice {part.key}")
    along = measure_direction(operator, gradient / length, gradient, spectrum)
    operator.release()
    values = spectrum.ritz_values[: spectrum.num_verified]
    ranking = sorted(range(len(values)), key=lambda i: -abs(values[i]))
    sure = [i for place, i in enumerate(ranking) if spectrum.converged[place]]
    if not sure:
        raise InstrumentFailed(
            "no eigenpair is certified: there is no top space",
            where=f"slice {part.key}",
            fix="raise `max_matvecs` or `tolerance`",
        )
    share_se = _share_error(site, spectrum, sure, gradient)
    whole, top = _drifts(site, spectrum, sure)
    share = along.certified_share or 0.0
    relative = along.curvature / spectrum.norm
    finished = Finished()
    _record(finished, part.key, spectrum, along.curvature, (share, share_se), (whole, top), len(sure))
    finished.tables["tension"] = [
        {
            "gradient_curvature": along.curvature,
            "relative_curvature": relative,
            "top_share": share,
            "top_share_se": share_se,
            "num_certified": len(sure),
            "num_matvecs": spectrum.num_matvecs + 1,
            "drift": whole.ratio,
            "drift_se": whole.standard_error,
            "drift_top": top.ratio,
            "drift_top_se": top.standard_error,
            "state": state_of(relative, share, top.ratio, params["thresholds"]),
        }
    ]
    return finished


def _drifts(site: Site, spectrum: Spectrum, sure: list[int]) -> tuple[Drift, Drift]:
    """Return the drift ratio under noise in all directions, and under noise within the certified ones."""
    asked, probes = site.context.params["drift"], site.probes()
    moved = math.sqrt(math.fsum(float(t.detach().double().square().sum()) for t in site.parameters.tensors))

    def anywhere(replica: int, step: int) -> torch.Tensor:
        return probes.rademacher(f"{site.purpose} drift {replica}", step)

    def in_top(replica: int, step: int) -> torch.Tensor:
        purpose = f"{site.purpose} top drift {replica}"
        drawn = site.context.random.generator(purpose, step).standard_normal(len(sure))
        coefficients = torch.zeros(len(spectrum.basis), dtype=torch.float64)
        coefficients[sure] = torch.from_numpy(drawn)
        return spectrum.basis.combination(coefficients)

    walk = Walk(
        rate=asked["rate"] / spectrum.norm,
        length=asked["kick"] * (moved or 1.0),
        steps=asked["steps"],
        replicas=asked["replicas"],
    )
    whole, top = drift_ratios(
        site.surface(site.context.params["batch_size"]),
        [anywhere, in_top],
        walk,
        lambda done, total: site.context.progress(f"{site.part.key}: drift", done=done, total=total),
    )
    return whole, top


def _share_error(site: Site, spectrum: Spectrum, sure: list[int], gradient: torch.Tensor) -> float | None:
    """Return the jackknife standard error of the share over items; None below three of them.

    Inner products are all it needs, so that one item's gradient is held at a time:
    `|g - g_b|^2 = |g|^2 - 2 g.g_b + |g_b|^2`.
    """
    surface, own = site.surface(1), site.parameters
    count = len(surface.batches)
    if count < 3:
        return None
    total, inside = reductions.dot(gradient, gradient), spectrum.basis.project(gradient)[sure]
    flat = torch.empty_like(gradient)
    shares = []
    for batch in surface.batches:
        _, parts = surface.gradient(batch, graph=False)
        for view, part in zip(own.views(flat), parts, strict=True):
            view.zero_() if part is None else view.copy_(part)
        left = total - 2 * reductions.dot(gradient, flat) + reductions.dot(flat, flat)
        shares.append(float((inside - spectrum.basis.project(flat)[sure]).square().sum()) / left)
    mean = math.fsum(shares) / count
    return math.sqrt(math.fsum((s - mean) ** 2 for s in shares) * (count - 1) / count)


def _record(
    finished: Finished,
    key: str,
    spectrum: Spectrum,
    curvature: float,
    share: tuple[float, float | None],
    drifts: tuple[Drift, Drift],
    num_certified: int,
) -> None:
    def record(name: str, value: float, error: float | None, kind: str, **more: Any) -> None:
        finished.record(Quantity(name, value, error, kind, slice=key, **more))

    exact = "nothing is estimated; rounded as the target's arithmetic rounds"
    record("gradient_curvature", curvature, 0.0, "exact", unit="nat", num_matvecs=1, note=exact)
    # The largest magnitude lies within its residual of the norm: |c| / (norm - r) - |c| / norm.
    residual = spectrum.residual_norms[0]
    bound = abs(curvature) * residual / (spectrum.norm * (spectrum.norm - residual))
    settled, spent = spectrum.settled, spectrum.num_matvecs
    relative = curvature / spectrum.norm
    record("relative_curvature", relative, bound, "residual_bound", converged=settled, num_matvecs=spent)
    kind = "uncertified" if share[1] is None else "standard_error"
    note = f"{num_certified} eigenvectors within their residuals; jackknife over items, these held fixed"
    record("top_share", *share, kind, converged=settled, num_matvecs=spent, note=note)
    for name, drift in zip(("drift_ratio", "drift_ratio_top"), drifts, strict=True):
        record(name, drift.ratio, drift.standard_error, "standard_error", num_samples=drift.replicas)
