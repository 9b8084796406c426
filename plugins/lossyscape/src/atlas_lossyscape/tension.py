"""The instrument `tension`: what holds the model in place on each slice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from atlas_pyhessian import reductions
from atlas_pyhessian.directions import measure_direction
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.parameters import Parameters
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.wu2000thickrestart import EigenRequest, Spectrum, thick_restart_lanczos

from atlas.contracts import Slice, StepContext, Target
from atlas.errors import InstrumentFailed
from atlas.quantities import Quantity
from atlas_lossyscape.drift import Drift, drift_ratio

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
    """Measure the tension of the target on every slice.

    Raises:
        BadInput: The parameters do not fit the target.
        InstrumentFailed: A loss, gradient or product is not finite, or a gradient or the Hessian is zero.
    """
    target = context.target()
    with prepared(target.module, include=context.params["parameters"]) as parameters:
        context.table("tension", [_measure_slice(context, target, parameters, p) for p in context.slices])


def _measure_slice(
    context: StepContext, target: Target, parameters: Parameters, part: Slice
) -> dict[str, Any]:
    params = context.params
    batches = target.batches(part.items, batch_size=1, max_tokens=context.max_tokens)
    operator = HessianOperator(parameters, target.loss_sum, batches, retain_graph=False)
    surface = operator.surface
    _, gradient = surface.value_and_gradient()
    length = reductions.norm(gradient)
    if not length:
        raise InstrumentFailed("the gradient is zero and has no direction", where=f"slice {part.key}")
    names, sizes = parameters.names, parameters.sizes
    probes = Probes(context.random, names, sizes, parameters.dtype, parameters.device)
    request = EigenRequest(params["top_k"], 0, params["tolerance"], params["max_matvecs"])
    spectrum = thick_restart_lanczos(
        operator,
        lambda i: probes.rademacher(f"{part.key} start", i),
        request,
        report=lambda what, n, error: context.progress(f"{part.key}: {what}", done=n, residual=error),
    )
    if not spectrum.norm:
        raise InstrumentFailed("the Hessian is zero: nothing to compare with", where=f"slice {part.key}")
    along = measure_direction(operator, gradient / length, gradient, spectrum)
    values = spectrum.ritz_values[: spectrum.num_verified]
    ranking = sorted(range(len(values)), key=lambda i: -abs(values[i]))
    sure = [i for place, i in enumerate(ranking) if spectrum.converged[place]]
    if not sure:
        raise InstrumentFailed(
            "no eigenpair is certified: there is no top space",
            where=f"slice {part.key}",
            fix="raise `max_matvecs` or `tolerance`",
        )
    share = along.certified_share or 0.0
    share_se = _share_error(operator, spectrum, sure)
    asked = params["drift"]
    moved = math.sqrt(math.fsum(float(t.detach().double().square().sum()) for t in parameters.tensors))
    walk = {
        "rate": asked["rate"] / spectrum.norm,
        "length": asked["kick"] * (moved or 1.0),
        "steps": asked["steps"],
        "replicas": asked["replicas"],
    }

    def anywhere(replica: int, step: int) -> torch.Tensor:
        return probes.rademacher(f"{part.key} drift {replica}", step)

    def in_top(replica: int, step: int) -> torch.Tensor:
        drawn = context.random.generator(f"{part.key} top drift {replica}", step).standard_normal(len(sure))
        coefficients = torch.zeros(len(spectrum.basis), dtype=torch.float64)
        coefficients[sure] = torch.from_numpy(drawn)
        return spectrum.basis.combination(coefficients)

    context.progress(f"{part.key}: drift")
    whole, top = drift_ratio(surface, anywhere, **walk), drift_ratio(surface, in_top, **walk)
    relative = along.curvature / spectrum.norm
    _record(context, part, spectrum, along.curvature, share, share_se, whole, top, len(sure))
    return {
        "slice": part.key,
        "gradient_curvature": along.curvature,
        "relative_curvature": relative,
        "top_share": share,
        "num_certified": len(sure),
        "drift": whole.ratio,
        "drift_se": whole.standard_error,
        "drift_top": top.ratio,
        "drift_top_se": top.standard_error,
        "state": state_of(relative, share, top.ratio, params["thresholds"]),
    }


def _share_error(operator: HessianOperator, spectrum: Spectrum, sure: list[int]) -> float | None:
    """Return the jackknife standard error of the share over batches; None below three of them."""
    surface, parts = operator.surface, []
    count = len(surface.batches)
    if count < 3:
        return None
    for batch in surface.batches:
        _, found = surface.gradient(batch, graph=False)
        pairs = zip(found, operator.parameters.tensors, strict=True)
        parts.append(torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pairs]))
    whole = torch.stack(parts).sum(0)
    shares = []
    for piece in parts:
        left = whole - piece
        inside = float(spectrum.basis.project(left)[sure].square().sum())
        shares.append(inside / reductions.dot(left, left))
    mean = math.fsum(shares) / count
    return math.sqrt(math.fsum((s - mean) ** 2 for s in shares) * (count - 1) / count)


def _record(
    context: StepContext,
    part: Slice,
    spectrum: Spectrum,
    curvature: float,
    share: float,
    share_se: float | None,
    whole: Drift,
    top: Drift,
    num_certified: int,
) -> None:
    def record(name: str, value: float, error: float | None, kind: str, **more: Any) -> None:
        context.record(Quantity(name, value, error, kind, slice=part.key, **more))

    exact = "nothing is estimated; rounded as the target's arithmetic rounds"
    record("gradient_curvature", curvature, 0.0, "exact", unit="nat", num_matvecs=1, note=exact)
    bound = abs(curvature) * spectrum.residual_norms[0] / spectrum.norm**2
    settled = spectrum.settled
    spent = spectrum.num_matvecs
    relative = curvature / spectrum.norm
    record("relative_curvature", relative, bound, "residual_bound", converged=settled, num_matvecs=spent)
    kind = "uncertified" if share_se is None else "standard_error"
    note = f"{num_certified} certified eigenvectors; jackknife over batches, eigenvectors held fixed"
    record("top_share", share, share_se, kind, converged=settled, num_matvecs=spent, note=note)
    for name, drift in (("drift_ratio", whole), ("drift_ratio_top", top)):
        record(name, drift.ratio, drift.standard_error, "standard_error", num_samples=drift.replicas)
