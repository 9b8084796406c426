"""Exact products of a loss's Hessian with vectors, over micro-batches weighted by scored tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from attrs import frozen
from torch.autograd.graph import GradientEdge, get_gradient_edge

from atlas.contracts import Batch
from atlas_pyhessian.operators.loss_surface import LossFacts, LossSurface, gathered, repeated_product
from atlas_pyhessian.operators.opaque import (
    python_functions,
    require_twice_differentiable,
    require_whole_product,
)
from atlas_pyhessian.parameters import Parameters

__all__ = ["HessianOperator"]


@frozen
class _Graph:
    """The graph of one micro-batch's first gradient: an edge per parameter that the loss bends."""

    edges: tuple[GradientEdge, ...]
    positions: tuple[int, ...]


class HessianOperator:
    """Hessian of `sum_b loss_sum(b) / sum_b weight(b)` by the chosen parameters.

    A product is a second backward through the graph of the first gradient (Pearlmutter 1994), entered
    at the gradient's edges so that the gradient itself need not be kept, and accumulated straight into
    the result. With `retain_graph` the first graph of every micro-batch is built once and kept: twice
    as fast, and as much memory as all micro-batches together; without it each product builds them
    again, one at a time. A parameter that the loss does not use has zero rows.

    Args:
        parameters: What is differentiated by; the module must be `prepared`.
        loss_sum: Summed loss of a batch, a scalar with a graph.
        batches: Micro-batches, at least one.
        retain_graph: Keep first graphs between products.
    """

    def __init__(
        self,
        parameters: Parameters,
        loss_sum: Callable[[Batch], torch.Tensor],
        batches: Sequence[Batch],
        *,
        retain_graph: bool,
    ) -> None:
        self.parameters = parameters
        self.surface = LossSurface(parameters, loss_sum, batches)
        self._retain = retain_graph
        self._graphs: list[_Graph] | None = None
        self._functions: tuple[type, ...] | None = None
        self._matvecs = 0

    @property
    def size(self) -> int:
        """Dimension n."""
        return self.parameters.size

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of vectors."""
        return self.parameters.dtype

    @property
    def device(self) -> torch.device:
        """Device of vectors."""
        return self.parameters.device

    @property
    def num_matvecs(self) -> int:
        """Products computed so far, repetitions for checking included."""
        return self._matvecs

    def losses(self) -> tuple[float, ...]:
        """Return the mean loss of each micro-batch by a forward pass, nothing kept."""
        return self.surface.losses()

    def facts(self) -> LossFacts:
        """Evaluate loss and gradient once; raises as `LossSurface.facts`."""
        return self.surface.facts()

    def matvec(self, vector: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the Hessian's product with `vector`, `[n]` to `[n]`.

        Args:
            vector: The vector, left as it is.
            out: Takes the product, so that a caller can use the same memory again; None allocates.

        Raises:
            InstrumentFailed: The product is not finite; the message names the batch and the parameter.
            BadInput: An operation of the module has no double backward.
        """
        self._matvecs += 1
        result = torch.empty_like(vector) if out is None else out
        self._accumulate(vector, range(len(self.surface.batches)), result)

        def part(number: int, product: torch.Tensor) -> torch.Tensor:
            return self._accumulate(vector, [number], product)

        self.surface.require_finite_product("Hessian", result, part)
        return result

    def second_backward(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the product as a function of autograd over first graphs: what a tracer can follow.

        It counts no product, checks nothing, and holds the first graphs of all micro-batches: those that are
        retained, or others.
        """
        graphs = [self._graph(number) for number in range(len(self.surface.batches))]
        tensors = self.parameters.tensors

        def product(vector: torch.Tensor) -> torch.Tensor:
            directions = self.parameters.views(vector)
            parts: list[torch.Tensor | None] = [None] * len(tensors)
            for graph in (graph for graph in graphs if graph.positions):
                bent = [directions[i] for i in graph.positions]
                found = torch.autograd.grad(
                    graph.edges, tensors, grad_outputs=bent, retain_graph=True, allow_unused=True
                )
                for i, part in enumerate(found):
                    held = parts[i]
                    parts[i] = part if held is None else held if part is None else held + part
            pairs = zip(parts, tensors, strict=True)
            return torch.cat([(torch.zeros_like(t) if p is None else p).reshape(-1) for p, t in pairs])

        return product

    def repeated_matvec(self, vector: torch.Tensor, *, rtol: float = 1e-3) -> torch.Tensor:
        """Return a product that was computed twice on graphs built anew, after comparing the two.

        Where the loss goes through functions of Python, it is compared with differences of the gradient too.

        Raises:
            BadInput: They differ by more than `rtol`: the loss is not a function of the parameters. Or a
                function of Python has no second derivative.
        """
        product = repeated_product(self, vector, rtol)
        if self._functions:
            self.release()
            require_whole_product(self.surface, self._functions, vector, product)
        return product

    def build(self) -> None:
        """Build the graphs that are to be retained, in the precision that matrix products now have."""
        if self._retain:
            self._graph(0)

    def release(self) -> None:
        """Drop the retained graphs; the next product builds them again."""
        self._graphs = None

    def _build(self, batch: Batch) -> _Graph:
        loss, gradients = self.surface.gradient(batch, graph=True)
        if self._functions is None:
            self._functions = python_functions(loss)
            require_twice_differentiable(self._functions)
        positions = tuple(i for i, g in enumerate(gradients) if g is not None and g.requires_grad)
        edges = []
        for position in positions:
            gradient = gradients[position]
            assert gradient is not None
            edges.append(get_gradient_edge(gradient))
        return _Graph(tuple(edges), positions)

    def _graph(self, number: int) -> _Graph:
        if not self._retain:
            return self._build(self.surface.batches[number])
        if self._graphs is None:
            self._graphs = [self._build(batch) for batch in self.surface.batches]
        return self._graphs[number]

    def _accumulate(self, vector: torch.Tensor, numbers: Sequence[int], result: torch.Tensor) -> torch.Tensor:
        """Overwrite `result` with the sum of the micro-batches' products and return it."""
        directions = self.parameters.views(vector)
        with gathered(self.parameters, result):
            for number in numbers:
                graph = self._graph(number)
                if not graph.positions:
                    continue
                torch.autograd.backward(
                    graph.edges,
                    grad_tensors=[directions[i] for i in graph.positions],
                    inputs=self.parameters.tensors,
                    retain_graph=self._retain,
                )
        return result
