"""What a product would take, in bytes and operations, found by running it on tensors without data.

The very code of the product runs on torch's meta device, where a tensor has a shape but no memory; a
dispatch mode sees every operation, adds up the storages that are alive, and counts floating-point
operations and the bytes that are read and written. A second or less for a language model of any size,
against one product for finding out by trying.

Where a program asks for a value, it is told 1 or True; where a result's length depends on values, the
longest is assumed. What kernels take within themselves, and what an allocator cannot reuse, is not seen:
see `planner` for the allowance.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from attrs import evolve, frozen
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.flop_counter import flop_registry

from atlas.contracts import Batch
from atlas_pyhessian.operators import LossOperator
from atlas_pyhessian.parameters import Parameters

__all__ = ["LARGE", "Cost", "Meter", "simulate", "together"]

_ATEN = torch.ops.aten

LARGE = 64 << 20
"""Bytes from which blocks are few and alike, gradients of the largest parameters, and fit into each other's
gaps."""

_LEFT = 0.01
"""Part of the peak that may be left after a product without a graph being kept, such as a cached mask."""


@frozen
class Cost:
    """What a product takes beside the parameters, the vector and its product.

    Attributes:
        peak_bytes: Most bytes alive at once in any product, the first included.
        small_bytes: The same, in blocks below `LARGE`: those that leave gaps in an allocator's heap.
        kept_bytes: Bytes alive between products: retained graphs.
        flops: Floating-point operations of matrix multiplications in a product, the first excluded
            where graphs are kept.
        traffic_bytes: Bytes read and written by its operations.
        made_bytes: Bytes of new storages.
        operations: Their number.
    """

    peak_bytes: int
    small_bytes: int
    kept_bytes: int
    flops: float
    traffic_bytes: float
    made_bytes: float
    operations: int


def together(costs: Sequence[Cost]) -> Cost:
    """Return the cost of a product over micro-batches one after the other, from the cost of each alone."""
    kept = sum(cost.kept_bytes for cost in costs)
    return Cost(
        peak_bytes=kept + max(cost.peak_bytes - cost.kept_bytes for cost in costs),
        small_bytes=kept + max(max(0, cost.small_bytes - cost.kept_bytes) for cost in costs),
        kept_bytes=kept,
        flops=sum(cost.flops for cost in costs),
        traffic_bytes=sum(cost.traffic_bytes for cost in costs),
        made_bytes=sum(cost.made_bytes for cost in costs),
        operations=sum(cost.operations for cost in costs),
    )


def _tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, torch.Tensor)]


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves it untyped
    """Counts what operations on meta tensors would take.

    Attributes:
        live_bytes: In storages that were made under the mode and are still referred to.
        peak_bytes: Largest value of that.
        small_bytes: Largest value of that over storages below `LARGE` alone.
        flops: Of matrix multiplications and attention kernels, a multiplication and an addition each one.
        traffic_bytes: Read and written, views left out.
        made_bytes: Of all storages made.
        operations: Dispatched, views left out.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # same
        self.live_bytes = 0
        self._live_small = 0
        self.restart()
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def restart(self) -> None:
        """Begin to count anew; what is alive stays alive."""
        self.peak_bytes, self.small_bytes = self.live_bytes, self._live_small
        self.flops, self.traffic_bytes, self.made_bytes, self.operations = 0.0, 0.0, 0.0, 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation without data, and count it."""
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        if func is _ATEN._local_scalar_dense.default and given[0].is_meta:
            return torch.ones((), dtype=given[0].dtype).item()
        if any(tensor.is_meta for tensor in given):
            args, kwargs = tree_map(_without_data, (args, kwargs))
        for tensor in given:
            self._know(tensor, 0)
        result = _longest(func, args) if func in _VALUE_DEPENDENT else func(*args, **kwargs)
        made = _tensors(result)
        fresh = sum(self._know(tensor, tensor.untyped_storage().nbytes()) for tensor in made)
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self.small_bytes = max(self.small_bytes, self._live_small)
        if fresh or not func.is_view:
            self.operations += 1
            self.traffic_bytes += sum(t.numel() * t.element_size() for t in (*given, *made))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=result)
        return result

    def _know(self, tensor: torch.Tensor, size: int) -> bool:
        """Follow a storage until nothing refers to it, and say whether it is new."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._storages:
            return False

        small = size if size < LARGE else 0

        def forget(_: object) -> None:
            del self._storages[key]
            self.live_bytes -= size
            self._live_small -= small

        self._storages[key] = weakref.ref(storage, forget)
        self.live_bytes += size
        self._live_small += small
        self.made_bytes += size
        return True


def _without_data(leaf: object) -> object:
    return leaf.to("meta") if isinstance(leaf, torch.Tensor) and not leaf.is_meta else leaf


def _longest(func: Any, args: tuple[Any, ...]) -> torch.Tensor:
    """Return what a selection by values gives if it selects everything."""
    given: torch.Tensor = args[0]
    if func is _ATEN.nonzero.default:
        return torch.empty(given.numel(), given.dim(), dtype=torch.long, device=given.device)
    return torch.empty(given.numel(), dtype=given.dtype, device=given.device)


_VALUE_DEPENDENT = {_ATEN.nonzero.default, _ATEN.masked_select.default}


@contextmanager
def _emptied(module: torch.nn.Module) -> Iterator[dict[int, torch.Tensor]]:
    """Put meta tensors in the place of a module's parameters and buffers, by identity, and back after."""
    copies: dict[int, torch.Tensor] = {}
    places: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            places.append((held, dict(held)))
            for tensor in held.values():
                if tensor is not None and id(tensor) not in copies:
                    copies[id(tensor)] = _copy(tensor)
    try:
        for held, before in places:
            empty: dict[str, Any] = {n: copies[id(t)] for n, t in before.items() if t is not None}
            held.update(empty)
        yield copies
    finally:
        for held, before in places:
            held.update(before)


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


def simulate(
    module: torch.nn.Module,
    parameters: Parameters,
    make_operator: Callable[[Parameters, Sequence[Batch]], LossOperator],
    batches: Sequence[Batch],
) -> Cost:
    """Return what the products of an operator would take.

    Args:
        module: The module that the operator's loss runs; `prepared`, on any device. Its tensors are out of
            it while the simulation runs, so nobody else may use it then.
        parameters: Of that module.
        make_operator: Makes the operator of parameters and micro-batches without data.
        batches: Micro-batches of one product.

    Raises:
        NotImplementedError, RuntimeError: An operation cannot run without data.
    """
    empty = [evolve(b, inputs={k: v.to("meta") for k, v in b.inputs.items()}) for b in batches]
    with _emptied(module) as copies:
        tensors: Any = tuple(copies[id(tensor)] for tensor in parameters.tensors)
        chosen = Parameters(parameters.names, tensors)
        operator = make_operator(chosen, empty)
        vector = torch.empty(chosen.size, dtype=chosen.dtype, device="meta")
        out = torch.empty_like(vector)
        with Meter() as meter:
            operator.matvec(vector, out=out)
            peak, small = meter.peak_bytes, meter.small_bytes
            if meter.live_bytes > _LEFT * peak:
                meter.restart()
                operator.matvec(vector, out=out)
            cost = Cost(
                peak_bytes=max(peak, meter.peak_bytes),
                small_bytes=max(small, meter.small_bytes),
                kept_bytes=meter.live_bytes,
                flops=meter.flops,
                traffic_bytes=meter.traffic_bytes,
                made_bytes=meter.made_bytes,
                operations=meter.operations,
            )
            operator.release()
            del operator
    return cost
