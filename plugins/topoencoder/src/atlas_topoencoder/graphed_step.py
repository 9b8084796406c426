"""A step of training on a CUDA device, recorded once as a graph of kernels and then replayed.

A step of small networks launches thousands of small kernels, and launching them one by one takes several
times as long as running them. A replay launches all at once. It writes its results to the same memory each
time, and reads its inputs from the same memory, into which a call copies them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from atlas.errors import BadInput

__all__ = ["GraphedStep", "set_rate"]

Result = TypeVar("Result")

_BEFORE = 3
"""Steps of a form that are taken before it is recorded: they compile, choose kernels and make the optimiser's
state, none of which a recording may do."""


class _Recorded(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: tuple[torch.Tensor | None, ...]
    result: Any


class GraphedStep(Generic[Result]):
    """A step that is replayed from the fourth call of each form of its inputs on.

    All calls do the same: those before the recording run the step itself.

    Args:
        step: Takes tensors of one device; forward, backward and optimiser, and nothing that the CPU has to
            know of. What it changes, it changes in place.
    """

    def __init__(self, step: Callable[..., Result]) -> None:
        self._step = step
        self._taken: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, _Recorded] = {}

    def __call__(self, *inputs: torch.Tensor | None) -> Result:
        """Take the step; a replay's result holds until the next call.

        Raises:
            BadInput: The step does what cannot be recorded.
        """
        form = tuple(None if given is None else (given.shape, given.dtype) for given in inputs)
        if self._taken[form] < _BEFORE:
            self._taken[form] += 1
            return self._aside(inputs)
        if form not in self._recorded:
            self._recorded[form] = self._record(inputs)
        recorded = self._recorded[form]
        for own, given in zip(recorded.inputs, inputs, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        recorded.graph.replay()
        result: Result = recorded.result
        return result

    def forget(self) -> None:
        """Record anew: the tensors that the step changes are others than before."""
        self._recorded.clear()

    def _aside(self, inputs: tuple[torch.Tensor | None, ...]) -> Result:
        """Take the step on a stream of its own, as what precedes a recording must be."""
        stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch leaves it so
        current = torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            result = self._step(*inputs)
        current.wait_stream(stream)
        return result

    def _record(self, inputs: tuple[torch.Tensor | None, ...]) -> _Recorded:
        own = tuple(None if given is None else given.clone() for given in inputs)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                result = self._step(*own)
        except RuntimeError as error:
            raise BadInput(
                f"the step cannot be recorded as a CUDA graph: {str(error).splitlines()[0]}",
                where="compile",
                fix="set `compile: false`, or leave out what reads a number back from the device within a "
                "step, such as a loss term that calls `item`",
            ) from error
        return _Recorded(graph, own, result)


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Set the learning rate of an optimiser's group, in place where a recorded step reads it."""
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate
