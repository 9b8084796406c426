"""The instrument `potential`: how far the loss of each slice could fall, both ways, and its tokens."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, cast

import numpy as np
import torch
from atlas_pyhessian import reductions
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.parameters import Parameters
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.probes import Probes
from attrs import asdict

from atlas.contracts import Batch, OutputTarget, Slice, StepContext, Target
from atlas.errors import BadInput
from atlas.quantities import Quantity
from atlas_lossyscape.correlation import Correlation, rarity_control
from atlas_lossyscape.descent import Budget, Descent, descend
from atlas_lossyscape.krylov import KrylovSpace, krylov_space
from atlas_lossyscape.newton_decrement import Decrement, DecrementNoise, decrement_noise, newton_decrement
from atlas_lossyscape.tokens import TokenMeasure, measure_tokens, token_counts

__all__ = ["measure", "state_of"]

_SIGMAS = 2.0
"""Standard errors by which a decrement must exceed its noise floor to count as charged."""


def state_of(newton: float, noise: DecrementNoise | None) -> str:
    """Return `charged`, `discharged`, or `undetermined` where no noise is known."""
    if noise is None:
        return "undetermined"
    return "charged" if newton - noise.floor > _SIGMAS * noise.standard_error else "discharged"


def measure(context: StepContext) -> None:
    """Measure the potential of the target on every slice.

    Raises:
        BadInput: The parameters do not fit the target.
        InstrumentFailed: A loss, gradient or product is not finite, or a gradient is zero.
    """
    target = context.target()
    rows: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    tokens: list[dict[str, Any]] = []
    with prepared(target.module, include=context.params["parameters"]) as parameters:
        by_slice = {part.key: _batches(context, target, part) for part in context.slices}
        counts = _counts(context, [batch for batches in by_slice.values() for batch in batches])
        for part in context.slices:
            found = _measure_slice(context, target, parameters, part, by_slice[part.key], counts)
            rows.append(found[0])
            steps += found[1]
            tokens += found[2]
    context.table("potential", rows)
    context.table("descent", steps)
    if context.params["tokens"]:
        context.table("tokens", tokens)


def _batches(context: StepContext, target: Target, part: Slice) -> list[Batch]:
    return list(target.batches(part.items, batch_size=1, max_tokens=context.max_tokens))


def _counts(context: StepContext, batches: list[Batch]) -> Counter[int]:
    return token_counts(batches) if context.params["tokens"] else Counter()


def _measure_slice(
    context: StepContext,
    target: Target,
    parameters: Parameters,
    part: Slice,
    batches: list[Batch],
    counts: Counter[int],
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    params = context.params
    operator = HessianOperator(parameters, target.loss_sum, batches, retain_graph=False)
    losses, gradient = operator.surface.value_and_gradient()
    weights = torch.tensor([batch.weight for batch in batches], dtype=torch.float64)
    loss = float((torch.tensor(losses, dtype=torch.float64) * weights).sum() / weights.sum())
    context.check(f"loss of {part.key}", loss > 0, f"the mean loss is {loss:.6g} nat, expected above zero")
    names, sizes = parameters.names, parameters.sizes
    probes = Probes(context.random, names, sizes, parameters.dtype, parameters.device)

    def report(what: str, products: int, error: float) -> None:
        context.progress(f"{part.key}: {what}", done=products, residual=error)

    space = krylov_space(
        operator, gradient, params["krylov"], lambda i: probes.rademacher(f"{part.key} krylov", i), report
    )
    promised = newton_decrement(space, params["tolerance"])
    noise = decrement_noise(space, params["tolerance"], _batch_parts(operator, space), weights)
    budget = params["descent"]
    context.progress(f"{part.key}: trust-region descent")
    descent = descend(operator, Budget(budget["steps"], budget["products"], budget["radius"], budget["rtol"]))
    measured: list[TokenMeasure] = []
    if params["tokens"]:
        if not hasattr(target, "outputs"):
            raise BadInput("the target does not offer its outputs", fix="set `tokens: 0`")
        measured = measure_tokens(
            cast(OutputTarget, target),
            operator,
            batches,
            counts,
            params["tokens"],
            context.random.generator(f"{part.key} tokens"),
            lambda done, total: context.progress(f"{part.key}: tokens", done=done, total=total),
        )
    gradient_norm = reductions.norm(gradient)
    _record(context, part, loss, gradient_norm, promised, noise, descent, space, int(weights.sum()))
    if measured:
        _record_tokens(context, part, measured)
    row = {
        "slice": part.key,
        "loss": loss,
        "gradient_norm": gradient_norm,
        "newton": promised.certified,
        "newton_low": promised.low,
        "newton_high": promised.high if math.isfinite(promised.high) else None,
        "newton_krylov": promised.krylov,
        "newton_step": promised.step_norm,
        "share_certified": promised.share_certified,
        "share_negative": promised.share_negative,
        "share_open": promised.share_open,
        "descent": descent.drop,
        "descent_distance": descent.distance,
        "descent_reached": descent.reached,
        "noise_floor": noise.floor if noise is not None else None,
        "noise_se": noise.standard_error if noise is not None else None,
        "state": state_of(promised.certified, noise),
    }
    taken = []
    for step in descent.steps:
        values = asdict(step)
        number, drop = values.pop("number"), values["drop"]
        taken.append(
            {"slice": part.key, "step": number} | values | {"drop": drop if math.isfinite(drop) else None}
        )
    return row, taken, [{"slice": part.key} | asdict(token) for token in measured]


def _batch_parts(operator: HessianOperator, space: KrylovSpace) -> torch.Tensor:
    """Return the projections of each batch's share of the gradient, `[B, m]`."""
    rows = []
    for batch in operator.surface.batches:
        _, parts = operator.surface.gradient(batch, graph=False)
        pairs = zip(parts, operator.parameters.tensors, strict=True)
        flat = torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pairs])
        rows.append(space.basis.project(flat))
    return torch.stack(rows)


def _record(
    context: StepContext,
    part: Slice,
    loss: float,
    gradient_norm: float,
    promised: Decrement,
    noise: DecrementNoise | None,
    descent: Descent,
    space: KrylovSpace,
    weight: int,
) -> None:
    def record(name: str, value: float | None, error: float | None, kind: str, **more: Any) -> None:
        context.record(Quantity(name, value, error, kind, slice=part.key, **({"unit": "nat"} | more)))

    exact = "nothing is estimated; rounded as the target's arithmetic rounds"
    record("loss", loss, 0.0, "exact", num_samples=weight, note=exact)
    record("gradient_norm", gradient_norm, 0.0, "exact", num_samples=weight, note=exact)
    left = (
        f"{promised.num_certified} certified positive pairs hold {promised.share_certified:.3g} of |g|^2; "
        f"left out: {promised.share_open:.3g} along pairs without certificate, {promised.share_negative:.3g} "
        "along pairs that are not positive"
    )
    spent = space.num_matvecs
    bounded = math.isfinite(promised.high)
    width = max(promised.high - promised.certified, promised.certified - promised.low) if bounded else None
    kind = "residual_bound" if bounded else "uncertified"
    ends = {"low": promised.low, "high": promised.high} if bounded else {}
    record("potential_newton", promised.certified, width, kind, num_matvecs=spent, note=left, **ends)
    record(
        "potential_krylov",
        promised.krylov,
        None,
        "uncertified",
        num_matvecs=spent,
        note="over all positive Ritz pairs; of a convex model a lower bound",
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
    apart = promised.krylov - descent.drop
    record(
        "potential_disagreement",
        apart,
        None,
        "uncertified",
        note="Krylov decrement less descent; beyond the quadratic region they need not agree",
    )
    if noise is None:
        record("potential_noise", None, None, "undefined", note="fewer than three batches")
    else:
        record("potential_noise", noise.floor, None, "uncertified", num_samples=noise.batches)
        record(
            "potential_above_noise",
            promised.certified - noise.floor,
            noise.standard_error,
            "standard_error",
            num_samples=noise.batches,
            note=f"charged above {_SIGMAS:g} standard errors",
        )


def _record_tokens(context: StepContext, part: Slice, measured: list[TokenMeasure]) -> None:
    """Correlate loss with curvature, over all tokens and with their rarity held."""
    bent = [(t, t.curvature) for t in measured if t.curvature is not None]
    loss = np.array([t.loss for t, _ in bent])
    curvature = np.array([c for _, c in bent], dtype=np.float64)
    # Rarer: fewer occurrences, then a later entry of the vocabulary, whose merges go by frequency.
    order = sorted(range(len(bent)), key=lambda i: (-bent[i][0].count, bent[i][0].token))
    rarity = np.empty(len(bent))
    rarity[order] = np.arange(len(bent), dtype=np.float64)
    found = rarity_control(loss, curvature, rarity, context.random.generator(f"{part.key} bootstrap"))
    values: list[tuple[str, Correlation | None, str]] = [
        ("perplexity_curvature", found.all, "all tokens"),
        ("perplexity_curvature_frequent", found.frequent, "the more frequent half"),
        ("perplexity_curvature_rare", found.rare, "the rarer half"),
        ("perplexity_curvature_partial", found.partial, "rarity partialled out"),
    ]
    for name, value, what in values:
        if value is None:
            note = f"{what}: fewer than five tokens, or ranks that do not differ"
            context.record(Quantity(name, None, None, "undefined", slice=part.key, note=note))
            continue
        context.record(
            Quantity(
                name,
                value.rho,
                max(value.high - value.rho, value.rho - value.low),
                "interval_95",
                num_samples=value.count,
                slice=part.key,
                low=value.low,
                high=value.high,
                note=f"Spearman, {what}; percentile bootstrap over tokens as if independent",
            )
        )
