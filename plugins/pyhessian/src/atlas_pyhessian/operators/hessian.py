"""Exact products of a loss's Hessian with vectors, over micro-batches weighted by scored tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from attrs import frozen
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel

from atlas.contracts import Batch
from atlas.errors import BadInput, InstrumentFailed
from atlas_pyhessian import reductions
from atlas_pyhessian.parameters import Parameters

__all__ = ["HessianOperator", "LossFacts"]


@frozen
class LossFacts:
    """The loss at the point where its curvature is taken.

    Attributes:
        loss: Token-weighted mean over all batches, in nats.
        gradient_norm: Norm of its gradient over the chosen parameters.
        weight: Scored tokens in all.
        batch_losses: Mean of each micro-batch.
    """

    loss: float
    gradient_norm: float
    weight: float
    batch_losses: tuple[float, ...]


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
        self._loss_sum = loss_sum
        self._batches = tuple(batches)
        self._weight = float(sum(batch.weight for batch in self._batches))
        if not self._weight > 0:
            raise BadInput(
                "the batches hold no scored token",
                fix="give at least one stimulus item of two tokens, or raise `max_tokens`",
            )
        self._retain = retain_graph
        self._graphs: list[_Graph] | None = None
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

    def _mean_loss(self, batch: Batch) -> torch.Tensor:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            return self._loss_sum(batch) / self._weight

    def _gradient(self, batch: Batch, *, graph: bool) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        loss = self._mean_loss(batch)
        if not loss.requires_grad:
            return loss, [None] * len(self.parameters.tensors)
        gradients = torch.autograd.grad(loss, self.parameters.tensors, create_graph=graph, allow_unused=True)
        return loss, list(gradients)

    def losses(self) -> tuple[float, ...]:
        """Return the mean loss of each micro-batch by a forward pass, nothing kept."""
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            return tuple(float(self._loss_sum(b)) / b.weight for b in self._batches)

    def facts(self) -> LossFacts:
        """Evaluate loss and gradient once.

        Raises:
            InstrumentFailed: A loss or a gradient is not finite; the message names the batch, and the
                parameter.
        """
        flat = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        views = self.parameters.views(flat)
        losses = []
        for number, batch in enumerate(self._batches):
            loss, gradients = self._gradient(batch, graph=False)
            losses.append(float(loss.detach()) * self._weight / batch.weight)
            self._require_finite(losses[-1], number)
            for view, gradient in zip(views, gradients, strict=True):
                if gradient is not None:
                    view += gradient
            if (name := self.parameters.first_non_finite(flat)) is not None:
                raise InstrumentFailed(f"the gradient by {name} is not finite", where=self._place(number))
        weights = [batch.weight for batch in self._batches]
        mean = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / self._weight
        return LossFacts(mean, reductions.norm(flat), self._weight, tuple(losses))

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
        self._accumulate(vector, range(len(self._batches)), result)
        if not bool(torch.isfinite(result.sum())):
            self._refuse(vector, result)
        return result

    def second_backward(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the product as a function of autograd over first graphs built now: what a tracer can follow.

        It counts no product, checks nothing, and holds the first graphs of all micro-batches.
        """
        graphs, tensors = [self._build(batch) for batch in self._batches], self.parameters.tensors

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

        Raises:
            BadInput: They differ by more than `rtol`: the loss is not a function of the parameters.
        """
        first = self.matvec(vector)
        self.release()
        second = self.matvec(vector)
        gap, scale = reductions.norm(first - second), reductions.norm(first)
        if gap > rtol * scale:
            raise BadInput(
                "the loss is not deterministic: one product, computed twice, differs by "
                f"{gap / scale if scale else float('inf'):.1e} of its length",
                fix="switch off dropout and other sampling that evaluation mode leaves on",
            )
        return second

    def release(self) -> None:
        """Drop the retained graphs; the next product builds them again."""
        self._graphs = None

    def _place(self, number: int) -> str:
        items = ", ".join(self._batches[number].item_ids)
        return f"batch {number}" + (f" ({items})" if items else "")

    def _require_finite(self, loss: float, number: int) -> None:
        if not -float("inf") < loss < float("inf"):
            raise InstrumentFailed(f"the loss is {loss}", where=self._place(number))

    def _build(self, batch: Batch) -> _Graph:
        _, gradients = self._gradient(batch, graph=True)
        positions = tuple(i for i, g in enumerate(gradients) if g is not None and g.requires_grad)
        edges = []
        for position in positions:
            gradient = gradients[position]
            assert gradient is not None
            edges.append(get_gradient_edge(gradient))
        return _Graph(tuple(edges), positions)

    def _graph(self, number: int) -> _Graph:
        if not self._retain:
            return self._build(self._batches[number])
        if self._graphs is None:
            self._graphs = [self._build(batch) for batch in self._batches]
        return self._graphs[number]

    def _accumulate(self, vector: torch.Tensor, numbers: Sequence[int], result: torch.Tensor) -> torch.Tensor:
        """Overwrite `result` with the sum of the micro-batches' products and return it.

        Each parameter's part is moved into `result` as soon as it is complete, while it is warm and so
        that it can be freed: parts that wait for each other would be another vector as long as the model.
        """
        directions = self.parameters.views(vector)
        fresh = set(range(len(self.parameters.tensors)))

        def taking(position: int, view: torch.Tensor) -> Callable[[torch.Tensor], None]:
            def take(tensor: torch.Tensor) -> None:
                part, tensor.grad = tensor.grad, None
                assert part is not None  # the hook runs after accumulation
                if position in fresh:
                    view.copy_(part)
                    fresh.discard(position)
                else:
                    view.add_(part)

            return take

        tensors = self.parameters.tensors
        views = self.parameters.views(result)
        hooks = [
            tensor.register_post_accumulate_grad_hook(taking(position, view))  # type: ignore[no-untyped-call] # of torch
            for position, (tensor, view) in enumerate(zip(tensors, views, strict=True))
        ]
        try:
            for number in numbers:
                graph = self._graph(number)
                if not graph.positions:
                    continue
                torch.autograd.backward(
                    graph.edges,
                    grad_tensors=[directions[i] for i in graph.positions],
                    inputs=tensors,
                    retain_graph=self._retain,
                )
        except RuntimeError as error:
            if "is not implemented" not in str(error):
                raise
            raise BadInput(
                f"the module has no double backward: {error}",
                fix='use eager attention (attn_implementation="eager") and composite operations',
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
            for tensor in tensors:
                tensor.grad = None
        for position in fresh:
            views[position].zero_()
        return result

    def _refuse(self, vector: torch.Tensor, result: torch.Tensor) -> None:
        """Raise if a product is not finite, naming the first batch and parameter where it is so."""
        name = self.parameters.first_non_finite(result)
        if name is None:
            return
        place = None
        for number in range(len(self._batches)):
            culprit = self.parameters.first_non_finite(self._accumulate(vector, [number], result))
            if culprit is not None:
                name, place = culprit, self._place(number)
                break
        raise InstrumentFailed(f"the Hessian-vector product is not finite at {name}", where=place)
