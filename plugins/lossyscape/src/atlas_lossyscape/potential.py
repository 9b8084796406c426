"""The instrument `potential`: how far the loss of each slice could fall, both ways, and its tokens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import torch
from atlas_pyhessian import reductions
from atlas_pyhessian.operators import HessianOperator
from attrs import asdict, frozen
from scipy.stats import t as student

from atlas.contracts import OutputTarget, StepContext, Target
from atlas.errors import BadInput
from atlas.quantities import Quantity
from atlas_lossyscape.claim import claim_quantities, token_rows
from atlas_lossyscape.descent import Budget, Descent, descend
from atlas_lossyscape.krylov import KrylovSpace, krylov_space
from atlas_lossyscape.members import Finished, Site, measure_members
from atlas_lossyscape.newton_decrement import (
    Decrement,
    DecrementNoise,
    VerifiedDrop,
    decrement_noise,
    newton_decrement,
    verified_drop,
)
from atlas_lossyscape.tokens import TokenMeasure, measure_tokens, token_counts

__all__ = ["measure", "state_of"]

_EXACT = "nothing is estimated; rounded as the target's arithmetic rounds"


@frozen
class _Floors:
    """Both floors of a slice and what bounds them."""

    promised: Decrement
    drop: VerifiedDrop
    noise: DecrementNoise | None
    descent: Descent
    num_matvecs: int


def state_of(newton: float, noise: DecrementNoise | None) -> str:
    """Return `charged` where the one-sided 95% limit of decrement less floor lies above zero.

    Else `discharged`; `undetermined` where no noise is known.
    """
    if noise is None:
        return "undetermined"
    limit = newton - noise.floor - float(student.ppf(0.95, noise.batches - 1)) * noise.standard_error
    return "charged" if limit > 0 else "discharged"


def measure(context: StepContext) -> None:
    """Measure the potential of the target, or of each member of its series, on every slice.

    Raises:
        BadInput: The parameters do not fit the target.
        InstrumentFailed: A loss, gradient or product is not finite, or a gradient is zero.
    """

    def begin(target: Target) -> Callable[[Site], Finished]:
        counts: Counter[int] = Counter()
        if context.params["tokens"]:
            if not hasattr(target, "outputs"):
                raise BadInput("the target does not offer its outputs", fix="set `tokens: 0`")
            for part in context.slices:
                counts += token_counts(
                    target.batches(part.items, batch_size=1, max_tokens=context.max_tokens)
                )
        return lambda site: _measure_slice(site, counts)

    tables = ("potential", "descent", "tokens") if context.params["tokens"] else ("potential", "descent")
    measure_members(context, begin, tables)


def _measure_slice(site: Site, counts: Counter[int]) -> Finished:
    context, params, part = site.context, site.context.params, site.part
    operator = site.operator()
    losses, gradient = operator.surface.value_and_gradient()
    weights = torch.tensor([batch.weight for batch in operator.surface.batches], dtype=torch.float64)
    loss = float((torch.tensor(losses, dtype=torch.float64) * weights).sum() / weights.sum())
    context.check(f"loss of {part.key}", loss > 0, f"the mean loss is {loss:.6g} nat, expected above zero")
    probes = site.probes()
    space = krylov_space(
        operator,
        gradient,
        params["krylov"],
        lambda i: probes.rademacher(f"{site.purpose} krylov", i),
        site.report,
    )
    drop = verified_drop(operator, space, gradient)
    promised = newton_decrement(space, params["tolerance"])
    noise = decrement_noise(space, params["tolerance"], *_parts(site, space))
    gradient_norm = reductions.norm(gradient)
    measured = _tokens(site, counts, operator) if params["tokens"] else []
    spent = space.num_matvecs + 1
    del space, gradient
    operator.release()
    context.progress(f"{part.key}: trust-region descent")
    budget = Budget(**params["descent"])
    floors = _Floors(promised, drop, noise, descend(site.operator(moving=True), budget), spent)
    finished = Finished()
    for name, value in (("loss", loss), ("gradient_norm", gradient_norm)):
        finished.record(
            Quantity(
                name, value, 0.0, "exact", "nat", num_samples=int(weights.sum()), slice=part.key, note=_EXACT
            )
        )
    _record(finished, part.key, floors)
    finished.tables["potential"] = [{"loss": loss, "gradient_norm": gradient_norm} | _row(floors)]
    finished.tables["descent"] = _descent_rows(floors.descent)
    if params["tokens"]:
        finished.tables["tokens"] = token_rows(measured)
        for quantity in claim_quantities(measured, part.key):
            finished.record(quantity)
    return finished


def _parts(site: Site, space: KrylovSpace) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the projections of each item's share of the gradient, `[B, m]`, and the items' weights."""
    surface, rows = site.surface(1), []
    flat = torch.empty(site.parameters.size, dtype=site.parameters.dtype, device=site.parameters.device)
    for batch in surface.batches:
        _, parts = surface.gradient(batch, graph=False)
        for view, part in zip(site.parameters.views(flat), parts, strict=True):
            view.zero_() if part is None else view.copy_(part)
        rows.append(space.basis.project(flat))
    return torch.stack(rows), torch.tensor([b.weight for b in surface.batches], dtype=torch.float64)


def _tokens(site: Site, counts: Counter[int], operator: HessianOperator) -> list[TokenMeasure]:
    return measure_tokens(
        cast(OutputTarget, site.target),
        operator,
        site.batches(1),
        counts,
        site.context.params["tokens"],
        site.context.random.generator(f"{site.purpose} tokens"),
        lambda done, total: site.context.progress(f"{site.part.key}: tokens", done=done, total=total),
    )


def _row(floors: _Floors) -> dict[str, Any]:
    promised, drop, noise, descent = floors.promised, floors.drop, floors.noise, floors.descent
    return {
        "newton": promised.certified,
        "newton_low": promised.low,
        "newton_high": promised.high,
        "newton_krylov": drop.value,
        "krylov_bound": drop.bound,
        "krylov_unmet": drop.unmet,
        "newton_step": promised.step_norm,
        "share_certified": promised.share_certified,
        "share_negative": promised.share_negative,
        "share_open": promised.share_open,
        "descent": descent.drop,
        "descent_distance": descent.distance,
        "descent_reached": descent.reached,
        "noise_floor": noise.floor if noise is not None else None,
        "noise_floor_se": noise.floor_error if noise is not None else None,
        "noise_se": noise.standard_error if noise is not None else None,
        "state": state_of(promised.certified, noise),
    }


def _descent_rows(descent: Descent) -> list[dict[str, Any]]:
    rows = []
    for step in descent.steps:
        values = asdict(step)
        number, drop = values.pop("number"), values["drop"]
        rows.append({"step": number} | values | {"drop": drop if math.isfinite(drop) else None})
    return rows


def _record(finished: Finished, key: str, floors: _Floors) -> None:
    promised, drop, noise, descent = floors.promised, floors.drop, floors.noise, floors.descent

    def record(name: str, value: float | None, error: float | None, kind: str, **more: Any) -> None:
        finished.record(Quantity(name, value, error, kind, **({"unit": "nat", "slice": key} | more)))

    left = (
        f"{promised.num_certified} certified positive pairs hold {promised.share_certified:.3g} of |g|^2; "
        f"left out: {promised.share_open:.3g} along pairs without certificate, {promised.share_negative:.3g} "
        "along pairs that are not positive"
    )
    record(
        "potential_newton",
        promised.certified,
        max(promised.high - promised.certified, promised.certified - promised.low),
        "residual_bound",
        num_matvecs=floors.num_matvecs,
        low=promised.low,
        high=promised.high,
        note=left,
    )
    record(
        "potential_krylov",
        drop.value,
        drop.bound,
        "residual_bound",
        num_matvecs=floors.num_matvecs,
        note="largest drop of the quadratic model in the span of all positive Ritz vectors, by a product "
        f"of its own; after it the model's gradient is {drop.unmet:.3g} times |g|; of a convex model a "
        "lower bound",
    )
    reached = "the gradient vanished" if descent.reached else "the budget ran out, so that more may be left"
    record(
        "potential_descent",
        descent.drop,
        0.0,
        "exact",
        converged=descent.reached,
        num_matvecs=descent.num_matvecs,
        note=f"a drop that was taken, {descent.distance:.3g} away; {reached}",
    )
    record(
        "potential_disagreement",
        drop.value - descent.drop,
        drop.bound,
        "residual_bound",
        converged=descent.reached,
        num_matvecs=floors.num_matvecs + descent.num_matvecs,
        note="Krylov drop less descent, with the Krylov drop's bound; beyond the quadratic region they need "
        f"not agree; {reached}",
    )
    if noise is None:
        for name in ("potential_noise", "potential_above_noise"):
            record(name, None, None, "undefined", note="fewer than three items")
        return
    record(
        "potential_noise",
        noise.floor,
        noise.floor_error,
        "standard_error",
        num_samples=noise.batches,
        note="jackknife over items, Ritz pairs held fixed",
    )
    record(
        "potential_above_noise",
        promised.certified - noise.floor,
        float(student.ppf(0.975, noise.batches - 1)) * noise.standard_error,
        "interval_95",
        num_samples=noise.batches,
        note="t-interval by jackknife over items, Ritz pairs held fixed; charged where the one-sided 95% "
        "limit lies above zero",
    )
