"""What `atlas plan` says of a potential or tension step: products, gradients, time and memory.

Made by the curvature plugin's simulation of a product on the target's outline; no weight file is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from atlas_pyhessian.card_params import card_params
from atlas_pyhessian.memory.planner import GIB, MemoryPlan
from atlas_pyhessian.memory.products import Products, expected_products
from atlas_pyhessian.memory.provision import Provision
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.settings import Settings

from atlas.contracts import Prospect, Slice
from atlas.errors import BadInput
from atlas_lossyscape.drift import Walk

__all__ = ["potential", "tension"]

_Costs = Callable[[Slice, int], tuple[Products, int]]
"""Products and gradients of a slice, by it and the number of parameters."""

_GRADIENT = 1 / 3
"""Time of a gradient, a pass forward and one back, of that of a product, which differentiates both again."""

_KINDS = 2
"""Kinds of noise that the parameters drift under."""


def potential(prospect: Prospect) -> Iterator[str]:
    """Yield what a potential step takes.

    Raises:
        BadInput: The parameters do not fit the target.
    """
    params = prospect.params
    descent, krylov = params["descent"], params["krylov"]

    def costs(part: Slice, size: int) -> tuple[Products, int]:
        tokens = min(params["tokens"], _scored(prospect, part))
        fixed = min(krylov, 2 * size) + 1 + tokens
        most = descent["steps"] * descent["products"]
        gradients = 1 + len(part.items) + descent["steps"] + tokens
        return Products(fixed + most, fixed + descent["steps"], fixed + most), gradients

    yield from _estimate(prospect, {"top_k": max(1, krylov // 4), "basis": {"size": krylov}}, costs)


def tension(prospect: Prospect) -> Iterator[str]:
    """Yield what a tension step takes; one that sees a curvature step saves its fresh start.

    Raises:
        BadInput: The parameters do not fit the target.
    """
    params = prospect.params
    drift = params["drift"]
    walk = Walk(drift["rate"], drift["kick"], drift["steps"], drift["replicas"])
    asked = {name: params[name] for name in ("top_k", "tolerance", "max_matvecs")}

    def costs(part: Slice, size: int) -> tuple[Products, int]:
        products = expected_products(_settings(prospect, asked), size).plus(Products(1, 1, 1))
        return products, 1 + len(part.items) + walk.num_gradients(_KINDS)

    yield from _estimate(prospect, asked, costs)


def _scored(prospect: Prospect, part: Slice) -> int:
    """Return the tokens of a slice that have a loss."""
    outline: Any = prospect.outline
    batches = outline.batches(part.items, batch_size=1, max_tokens=prospect.max_tokens)
    return int(sum(batch.weight for batch in batches))


def _settings(prospect: Prospect, asked: Mapping[str, Any]) -> Settings:
    """Return the settings of a curvature step whose vectors and products are those of this one."""
    shared = {name: prospect.params[name] for name in ("parameters", "batch_size")}
    params = card_params({**shared, **asked, "trace": False, "along": ["gradient"]})
    return Settings.from_params(params, prospect.max_tokens)


def _estimate(prospect: Prospect, asked: Mapping[str, Any], costs: _Costs) -> Iterator[str]:
    outline: Any = prospect.outline
    if outline is None:
        yield "no estimate: the target's shape is not known on this machine before it is fetched or opened"
        return
    if not prospect.slices:
        yield "no estimate: the stimulus is not known yet"
        return
    torch.set_num_threads(prospect.threads)
    settings = _settings(prospect, asked)
    notes: list[str] = []
    folder = next(path for path in (prospect.folder, *prospect.folder.parents) if path.is_dir())
    with prepared(outline.module, include=settings.parameters) as parameters:
        provision = Provision(settings, outline, parameters, Path(folder), notes.append, loaded=False)
        plans: list[MemoryPlan] = []
        try:
            plans = [plan for p in prospect.slices if (plan := provision.plan(p.items)) is not None]
        except BadInput as error:
            yield f"too large: {error}"
            return
        found = [costs(part, parameters.size) for part in prospect.slices]
        size = parameters.size
    if plans:
        peak = max(plan.peak_bytes for plan in plans) / GIB
        yield f"{size / 1e6:.3g} million parameters; peak near {peak:.2f} GiB"
        products, gradients = found[0]
        seconds = sum(plan.seconds for plan in plans) / len(plans)
        low, usual, high = (
            sum((getattr(p, name) + _GRADIENT * g) * seconds for p, g in found)
            for name in ("fewest", "expected", "most")
        )
        each = f" for each of {len(found)} slices" if len(found) > 1 else ""
        yield (
            f"{products} products of {seconds:.2g} s and {gradients} gradients of {_GRADIENT * seconds:.2g} s"
            f"{each}: {usual:.0f} s ({low:.0f} to {high:.0f} s)"
        )
    yield from dict.fromkeys(notes)
