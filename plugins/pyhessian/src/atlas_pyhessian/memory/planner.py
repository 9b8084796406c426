"""Which way of measuring fits into memory, and of those that fit the fastest, with the arithmetic.

What varies is the micro-batch, whether first graphs are kept, whether freed memory is kept for reuse or
given back, and whether the basis lies in memory or on disk. None of it changes a result beyond rounding.
What a product takes is simulated; what the process holds already is measured. Not varied, because it was
seen to gain nothing: gradient checkpointing, since a double backward keeps what it recomputes (7% less
memory for 12% more work in six blocks of a transformer's shape), and Lanczos in two passes, since a basis
on disk costs no memory and no product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import frozen

from atlas.errors import BadInput
from atlas_pyhessian.memory.calibration import Calibration
from atlas_pyhessian.memory.simulation import Cost
from atlas_pyhessian.rows import BLOCK

__all__ = ["LONG_VECTORS", "Demand", "MemoryPlan", "choose"]

GIB = 1 << 30
MIB = 1 << 20

LONG_VECTORS = 4
"""Vectors as long as the model that are reckoned with while a product is computed: the vector, its product,
the first product, which the second is compared with, or the residual that failed its verification; and a
fourth, since up to most of one more was seen resident at the third product."""

_ALLOWANCE = 96 * MIB
"""For what kernels take within themselves, threads, and Python: 15 to 40 MiB were seen."""

_GAPS = {True: 0.05, False: 2.0}
"""What the allocator cannot reuse, as a multiple of a product's small blocks, by whether freed memory is
given back: at most 0.04 was seen then; where it is kept, 0.2 to 0.7 after one micro-batch, and up to 1.7
after many, whose gaps add up."""

_DISK_RESERVE = GIB
_BASIS_BYTES_PER_S = {"memory": 3e9, "disk": 1e9}
_BASIS_PASSES = 3


@frozen
class Demand:
    """What is asked, and what there is to do it with.

    Attributes:
        size: Length n of a vector.
        width: Bytes of a number in the working precision.
        storage_width: The same for a stored basis vector.
        capacity: Basis vectors.
        sketch: Vectors of a trace's sketch, in the working precision.
        held: Further vectors that are held throughout: directions along which curvature is measured.
        batch_size: Most items of a micro-batch.
        graph: `auto`, `retained` or `recompute`.
        place: `auto`, `memory` or `disk`.
        resident_bytes: What the process holds before the first vector: libraries and weights.
        budget_bytes: What it may hold in all; None for no limit.
        limited: Whether the budget was asked for, or is what the machine has free.
        disk_bytes: Free on the disk that a basis would lie on.
    """

    size: int
    width: int
    storage_width: int
    capacity: int
    sketch: int
    held: int
    batch_size: int
    graph: str
    place: str
    resident_bytes: int
    budget_bytes: int | None
    limited: bool
    disk_bytes: int

    @property
    def vector_bytes(self) -> int:
        """Bytes of a vector that is worked on."""
        return self.size * self.width

    @property
    def basis_bytes(self) -> int:
        """Bytes of the stored basis, and of a sketch that stands beside it."""
        return self.size * (self.capacity * self.storage_width + self.sketch * self.width)

    @property
    def buffer_bytes(self) -> int:
        """Bytes of the blocks through which a basis on disk and a sketch there are read."""
        return min(BLOCK, self.size) * (self.capacity * self.storage_width + self.sketch * self.width)


@frozen
class MemoryPlan:
    """One way of measuring, and what it takes.

    Attributes:
        batch_size: Most items of a micro-batch.
        retain_graph: First graphs are kept between products.
        returned: Freed memory is given back to the system at once.
        place: Where the basis lies, `memory` or `disk`.
        items: The arithmetic, in bytes: what, and how much.
        budget_bytes: What there is; None for no limit.
        product: Cost of one product.
        seconds: Estimate for a product and its share of the basis' work.
    """

    batch_size: int
    retain_graph: bool
    returned: bool
    place: str
    items: tuple[tuple[str, int], ...]
    budget_bytes: int | None
    product: Cost
    seconds: float

    @property
    def peak_bytes(self) -> int:
        """Sum of the arithmetic."""
        return sum(size for _, size in self.items)

    @property
    def fits(self) -> bool:
        """Whether that is within the budget."""
        return self.budget_bytes is None or self.peak_bytes <= self.budget_bytes

    def __str__(self) -> str:
        """Say the choice on one line."""
        graph = "graphs kept" if self.retain_graph else "graphs built anew"
        memory = "freed memory returned" if self.returned else "freed memory reused"
        items = f"{self.batch_size} item{'s' if self.batch_size != 1 else ''} at a time"
        return f"{items}, {graph}, {memory}, basis in {self.place}".replace("in disk", "on disk")

    def facts(self) -> dict[str, str]:
        """Return what the record holds of it, as text."""
        return {
            "plan": str(self),
            "arithmetic": self.arithmetic(),
            "expected_seconds_per_product": f"{self.seconds:.3g}",
        }

    def arithmetic(self) -> str:
        """Return the sum on one line, in GiB."""
        terms = " + ".join(f"{what} {size / GIB:.2f}" for what, size in self.items)
        limit = "" if self.budget_bytes is None else f" of {self.budget_bytes / GIB:.2f}"
        return f"{terms} = {self.peak_bytes / GIB:.2f}{limit} GiB"


def choose(demand: Demand, cost_of: Callable[[int, bool], Cost], calibration: Calibration) -> MemoryPlan:
    """Return the fastest way that fits.

    The first choice is the micro-batch as asked, with graphs kept, freed memory reused and the basis in
    memory; the others are looked at, by a simulation each, only where that one does not fit.

    Args:
        demand: What is asked.
        cost_of: Simulates a product for a micro-batch of so many items, with graphs kept or not.
        calibration: The machine's rates.

    Raises:
        BadInput: Nothing fits; the message holds the arithmetic of the smallest way.
    """
    tried: list[MemoryPlan] = []
    for plan in _ways(demand, cost_of, calibration):
        tried.append(plan)
        if plan.fits and len(tried) == 1:
            return plan
    fitting = [plan for plan in tried if plan.fits]
    if fitting:
        return min(fitting, key=lambda plan: plan.seconds)
    raise _refusal(demand, tried)


def _ways(
    demand: Demand, cost_of: Callable[[int, bool], Cost], calibration: Calibration
) -> Iterator[MemoryPlan]:
    places: tuple[str, ...] = ("memory", "disk") if demand.place == "auto" else (demand.place,)
    if demand.disk_bytes < demand.basis_bytes + _DISK_RESERVE:
        places = tuple(place for place in places if place != "disk") or ("memory",)
    keeps = {"auto": (True, False), "retained": (True,), "recompute": (False,)}[demand.graph]
    for batch_size in _batch_sizes(demand.batch_size):
        for retain in keeps:
            cost = cost_of(batch_size, retain)
            for place in places:
                for returned in (False, True):
                    yield _plan(demand, cost, batch_size, retain, returned, place, calibration)


def _batch_sizes(most: int) -> Iterator[int]:
    while most > 1:
        yield most
        most = -(-most // 2)
    yield 1


def _plan(
    demand: Demand,
    cost: Cost,
    batch_size: int,
    retain: bool,
    returned: bool,
    place: str,
    calibration: Calibration,
) -> MemoryPlan:
    vectors, stored = LONG_VECTORS + demand.held, demand.capacity + demand.sketch
    items = (
        ("libraries and weights", demand.resident_bytes),
        (f"{vectors} vectors", vectors * demand.vector_bytes),
        (f"basis of {stored}", demand.basis_bytes)
        if place == "memory"
        else ("a block of the basis", demand.buffer_bytes),
        ("product", cost.peak_bytes),
        ("gaps between blocks", int(_GAPS[returned] * cost.small_bytes)),
        ("allowance", _ALLOWANCE),
    )
    seconds = calibration.seconds(cost, returned=returned)
    seconds += _BASIS_PASSES * demand.basis_bytes / _BASIS_BYTES_PER_S[place]
    return MemoryPlan(batch_size, retain, returned, place, items, demand.budget_bytes, cost, seconds)


def _refusal(demand: Demand, tried: list[MemoryPlan]) -> BadInput:
    """Say what the smallest way would take, and what would fit."""
    least = min(tried, key=lambda plan: plan.peak_bytes)
    assert least.budget_bytes is not None  # without a limit everything fits
    width = max(len(what) for what, _ in least.items)
    rows = [f"  {what:<{width}}  {size / GIB:7.2f} GiB" for what, size in least.items]
    rows.append(
        f"  {'in all':<{width}}  {least.peak_bytes / GIB:7.2f} GiB, of {least.budget_bytes / GIB:.2f}"
    )
    over = least.peak_bytes - least.budget_bytes
    fewer = demand.size - over // (LONG_VECTORS * demand.width)  # the vectors alone
    ways = (
        [f"memory_gb: {-(-least.peak_bytes * 10 // GIB) / 10:g}"] if demand.limited else ["a larger machine"]
    )
    if fewer > 0:
        ways.append(f"`parameters` that match at most about {fewer / 1e6:.3g} million entries")
    if demand.disk_bytes < demand.basis_bytes + _DISK_RESERVE and demand.place != "memory":
        need = (demand.basis_bytes + _DISK_RESERVE) / GIB
        ways.append(f"{need:.1f} GiB free on the disk of the run folder, for the basis")
    if demand.graph == "retained":
        ways.append("`graph: auto`")
    ways.append("fewer tokens (`max_tokens`)")
    asked = "memory_gb" if demand.limited else "free memory"
    return BadInput(
        f"nothing fits into the {least.budget_bytes / GIB:.2f} GiB of {asked}; the least, {least}:\n"
        + "\n".join(rows),
        fix=", or ".join(ways),
    )
