"""What each slice of a step is measured with: its memory plan, its micro-batches, its basis.

Plans are made for the engine of this package on the CPU. On another device, or with the library's engine,
the settings decide alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from attrs import define, field

from atlas.contracts import Batch, StimulusItem, Target
from atlas.errors import AtlasError, BadInput
from atlas_pyhessian.basis import Basis
from atlas_pyhessian.memory.calibration import Calibration, Calibrations
from atlas_pyhessian.memory.machine import (
    anonymous_bytes,
    free_bytes,
    return_memory,
    reuse_memory,
)
from atlas_pyhessian.memory.planner import Demand, MemoryPlan, choose
from atlas_pyhessian.memory.simulation import Cost, simulate, together
from atlas_pyhessian.operators import target_operator
from atlas_pyhessian.parameters import Parameters
from atlas_pyhessian.rows import FileRows
from atlas_pyhessian.settings import Settings
from atlas_pyhessian.wu2000thickrestart import MakeBasis

__all__ = ["LIBRARIES_BYTES", "Provision"]

LIBRARIES_BYTES = 400 << 20
"""What torch, transformers and the interpreter hold, where it cannot be asked or is not loaded yet."""

_SHARE = 0.9
"""Part of the free memory that a plan may use where no limit was asked for."""

_PRODUCTS_PER_VECTOR = {"xtrace": 2, "hutch++": 3}
"""Products of a trace's method for each vector of its sketch; those that are not here hold none."""

_SHORTEST = 0.5
"""Seconds of a product below which a run does not correct the calibration."""


@define
class Provision:
    """Plans the slices of one step.

    Attributes:
        settings: What is asked.
        target: The target.
        parameters: Its parameters, prepared.
        folder: Where a basis may lie on disk.
        note: Told what could not be done as planned.
        loaded: Whether the target's weights are in this process' memory, or only foretold.
    """

    settings: Settings
    target: Target
    parameters: Parameters
    folder: Path
    note: Callable[[str], None]
    loaded: bool = True
    _costs: dict[tuple[object, ...], Cost] = field(factory=dict)
    _resident: int | None = None
    _free: int | None = None
    _calibration: Calibration | None = None

    def batches(self, items: Sequence[StimulusItem], batch_size: int) -> Sequence[Batch]:
        """Encode a slice's items."""
        return self.target.batches(items, batch_size=batch_size, max_tokens=self.settings.max_tokens)

    def plan(self, items: Sequence[StimulusItem]) -> MemoryPlan | None:
        """Choose how a slice is measured; None leaves it to the settings.

        Raises:
            BadInput: Nothing fits, or `memory_gb` was asked for and cannot be promised here.
        """
        limited = self.settings.memory_gb is not None
        reason = self._unplanned()
        if reason is None:
            try:
                plan = choose(self._demand(len(items)), self._cost_of(items), self.calibration)
            except AtlasError:
                raise
            except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                reason = f"the product cannot be simulated: {type(error).__name__}: {error}"
            else:
                return plan
        if limited:
            raise BadInput(f"memory_gb cannot be promised: {reason}", fix="leave `memory_gb` out")
        self.note(f"memory is not planned: {reason}")
        return None

    def take(self, items: Sequence[StimulusItem]) -> MemoryPlan | None:
        """Choose as `plan` does, and set this process' allocator accordingly."""
        plan = self.plan(items)
        if plan is not None:
            (return_memory if plan.returned else reuse_memory)()
        return plan

    def make_basis(self, plan: MemoryPlan | None) -> MakeBasis:
        """Return what makes a basis where the plan puts it."""
        dtype, device = self.parameters.dtype, self.parameters.device
        on_disk = plan is not None and plan.place == "disk"

        def make(capacity: int, size: int, storage: torch.dtype) -> Basis:
            rows = FileRows(capacity, size, storage, self.folder) if on_disk else None
            return Basis(capacity, size, storage=storage, dtype=dtype, device=device, rows=rows)

        return make

    def learn(self, plan: MemoryPlan | None, *, seconds: float, products: int) -> None:
        """Correct the machine's calibration by what a slice's products took."""
        if plan is None or products == 0 or seconds / products < _SHORTEST:
            return
        self._calibration = self.calibration.corrected(seconds / products / plan.seconds)
        self._calibrations.keep(self._calibration, threads=torch.get_num_threads())

    @property
    def calibration(self) -> Calibration:
        """This machine's rates."""
        if self._calibration is None:
            self._calibration = self._calibrations.find(threads=torch.get_num_threads())
        return self._calibration

    @property
    def _calibrations(self) -> Calibrations:
        return Calibrations.of_user(self.note)

    def _unplanned(self) -> str | None:
        if self.settings.engine != "lanczos":
            return "the library's engine keeps vectors of its own"
        if self.loaded and self.parameters.device.type != "cpu":
            return f"plans are made for the CPU, and the target is on {self.parameters.device}"
        return None

    def _demand(self, num_items: int) -> Demand:
        settings, size, dtype = self.settings, self.parameters.size, self.parameters.dtype
        request = settings.request(size, dtype)
        storage = request.storage or dtype
        resident = self._resident_bytes()
        return Demand(
            size=size,
            width=dtype.itemsize,
            storage_width=storage.itemsize,
            capacity=request.capacity(size),
            sketch=min(size, _sketch(settings)),
            held=len(settings.along),
            batch_size=min(settings.batch_size, num_items),
            graph=settings.graph,
            place=settings.basis_place,
            resident_bytes=resident,
            budget_bytes=self._budget_bytes(resident),
            limited=settings.memory_gb is not None,
            disk_bytes=shutil.disk_usage(self.folder).free,
        )

    def _resident_bytes(self) -> int:
        """Return what the process holds before the first long vector, asked once."""
        if self._resident is None:
            known = None
            if self.loaded:
                return_memory()
                known = anonymous_bytes()
            weights = sum(p.numel() * p.element_size() for p in self.target.module.parameters())
            self._resident = known if known is not None else LIBRARIES_BYTES + weights
        return self._resident

    def _budget_bytes(self, resident: int) -> int | None:
        """Return what the process may hold: as asked, or of what is free when it is first asked."""
        if self.settings.memory_gb is not None:
            return int(self.settings.memory_gb * (1 << 30))
        if self._free is None:
            self._free = free_bytes()
        return None if self._free is None else resident * self.loaded + int(_SHARE * self._free)

    def _cost_of(self, items: Sequence[StimulusItem]) -> Callable[[int, bool], Cost]:
        def cost_of(batch_size: int, retain: bool) -> Cost:
            return together([self._cost(batch, retain) for batch in self.batches(items, batch_size)])

        return cost_of

    def _cost(self, batch: Batch, retain: bool) -> Cost:
        """Simulate a micro-batch, once for each shape."""
        shapes = [(name, value.dtype, *value.shape) for name, value in batch.inputs.items()]
        key = (retain, *sorted(map(str, shapes)))
        if key not in self._costs:
            self._costs[key] = simulate(
                self.target.module,
                self.parameters,
                lambda parameters, batches: target_operator(
                    self.settings.operator, parameters, self.target, batches, retain_graph=retain
                ),
                [batch],
            )
        return self._costs[key]


def _sketch(settings: Settings) -> int:
    """Return how many vectors a trace's sketch holds."""
    if settings.trace is None:
        return 0
    share = _PRODUCTS_PER_VECTOR.get(settings.trace.method)
    return 0 if share is None else settings.trace.max_probes // share
