"""What `atlas plan` says of a curvature step: the memory plan, products and time, or why it is refused.

Made from the target's outline, on tensors without data; no weight file is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from atlas.contracts import Prospect
from atlas.errors import BadInput
from atlas_pyhessian.blocks import find_blocks
from atlas_pyhessian.memory.planner import GIB, MemoryPlan
from atlas_pyhessian.memory.products import Products, expected_products
from atlas_pyhessian.memory.provision import Provision
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.settings import Settings

__all__ = ["estimate"]

_SLOWER = 1.5
"""How much longer than estimated a product is seen to take where others use the machine too."""


def estimate(prospect: Prospect) -> Iterator[str]:
    """Yield a line for each kind of slice, and the refusal where nothing fits.

    Raises:
        BadInput: The parameters do not fit the target.
    """
    settings = Settings.from_params(prospect.params, prospect.max_tokens)
    outline: Any = prospect.outline
    if outline is None:
        yield "no estimate: the target's shape is not known on this machine before it is fetched or opened"
        return
    if not prospect.slices:
        yield "no estimate: the stimulus is not known yet"
        return
    torch.set_num_threads(prospect.threads)
    notes: list[str] = []
    with prepared(outline.module, include=settings.parameters, dtype=settings.dtype) as parameters:
        provision = Provision(
            settings, outline, parameters, _existing(prospect.folder), notes.append, loaded=False
        )
        blocks = find_blocks(parameters, settings.blocks.by) if settings.blocks is not None else ()
        products = expected_products(settings, parameters.size, num_blocks=len(blocks))
        found: dict[str, list[MemoryPlan]] = {}
        try:
            for part in prospect.slices:
                plan = provision.plan(part.items)
                if plan is not None:
                    found.setdefault(str(plan), []).append(plan)
        except BadInput as error:
            yield f"refused: {error}"
            return
    slices = len(prospect.slices)
    for plans in found.values():
        largest = max(plans, key=lambda plan: plan.peak_bytes)
        yield (f"{len(plans)} of {slices} slices: " if slices > 1 else "") + _lines(largest, parameters.size)
    if found:
        yield _time(products, [plan.seconds for plans in found.values() for plan in plans])
    yield from dict.fromkeys(notes)


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above that exists."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _lines(plan: MemoryPlan, size: int) -> str:
    peak = plan.peak_bytes / GIB
    return f"{size / 1e6:.3g} million parameters: {plan}; peak {peak:.2f} GiB\n  {plan.arithmetic()}"


def _time(products: Products, seconds: list[float]) -> str:
    mean, count = sum(seconds) / len(seconds), len(seconds)
    low, high = products.fewest * mean * count, _SLOWER * products.most * mean * count
    usual = _span(products.expected * mean * count)
    each = f" for each of {count} slices" if count > 1 else ""
    return f"{products} products{each} of {mean:.2g} s: {usual} ({_span(low)} to {_span(high)})"


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
