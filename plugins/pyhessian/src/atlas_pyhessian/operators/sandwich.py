"""Products with `J^T M J`: J the outputs' Jacobian by the parameters, M small and known at the outputs.

J v needs no forward-mode derivative, which many activations lack: J^T w is linear in w, so that a backward
through the graph of `J^T w` by w gives J v, whatever w is. Both factors take exactly the operations that
a Hessian's product takes, less those through the parameters of the first backward. No sample's gradient is
ever formed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from attrs import frozen
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel

from atlas.contracts import Batch
from atlas.errors import BadInput
from atlas_pyhessian.operators.loss_surface import LossFacts, LossSurface, gathered, repeated_product
from atlas_pyhessian.parameters import Parameters

__all__ = ["Forward", "MakeMiddle", "Middle", "SandwichOperator", "through_outputs"]

Forward = Callable[[Batch], tuple[torch.Tensor, torch.Tensor]]
"""Returns a batch's outputs `[*samples, C]` and its summed loss, a scalar, in one graph."""

Middle = Callable[[torch.Tensor, bool], torch.Tensor]
"""Multiplies a vector in the shape of the outputs; the flag says whether it will be called again."""

MakeMiddle = Callable[[torch.Tensor, torch.Tensor], Middle]
"""Takes outputs and loss, the loss divided by the weight of all batches, and returns their middle matrix."""


def through_outputs(
    outputs: Callable[[Batch], torch.Tensor], output_loss: Callable[[torch.Tensor, Batch], torch.Tensor]
) -> Forward:
    """Return the forward pass of a target that has outputs and a loss of them."""

    def forward(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        found = outputs(batch)
        return found, output_loss(found, batch)

    return forward


@frozen
class _Graph:
    """One micro-batch: from each parameter's share of `J^T w` to w, the middle, and from outputs down."""

    edges: tuple[GradientEdge, ...]
    positions: tuple[int, ...]
    dummy: torch.Tensor
    middle: Middle
    outputs: GradientEdge


def _require_detour_free(
    outputs: torch.Tensor, loss: torch.Tensor, parameters: Parameters, place: str
) -> None:
    """Refuse a loss whose graph reaches a parameter other than through the outputs."""
    owned = {id(tensor): name for name, tensor in zip(parameters.names, parameters.tensors, strict=True)}
    end, start = get_gradient_edge(outputs).node, get_gradient_edge(loss).node
    seen, waiting, met = {end}, [start], start is end
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) in owned:
            raise BadInput(
                f"the loss depends on {owned[id(leaf)]} other than through the outputs",
                where=place,
                fix="take `operator: hessian`, or leave out of the loss what is no function of the outputs",
            )
        following = [source for source, _ in node.next_functions if source is not None]
        met = met or end in following
        waiting += following
    if not met:
        raise BadInput(
            "the loss does not depend on the outputs",
            where=place,
            fix="return the outputs from which the loss is computed, without detaching or rebuilding them",
        )


class SandwichOperator:
    """`sum_b J_b^T M_b J_b / sum_b weight(b)` by the chosen parameters.

    With `retain_graph` what the products share is built once and kept for every micro-batch; without it
    each product builds it again, one micro-batch at a time.

    Args:
        parameters: What is differentiated by; the module must be `prepared`.
        forward: Outputs and summed loss of a batch.
        batches: Micro-batches, at least one.
        make_middle: Makes the middle matrix of a batch.
        name: What messages call the matrix.
        retain_graph: Keep graphs between products.
    """

    def __init__(
        self,
        parameters: Parameters,
        forward: Forward,
        batches: Sequence[Batch],
        make_middle: MakeMiddle,
        *,
        name: str,
        retain_graph: bool,
    ) -> None:
        self.parameters = parameters
        self.name = name
        self.surface = LossSurface(parameters, lambda batch: forward(batch)[1], batches)
        self._forward = forward
        self._make_middle = make_middle
        self._retain = retain_graph
        self._graphs: list[_Graph | None] | None = None
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
        """Return the matrix' product with `vector`, `[n]` to `[n]`.

        Args:
            vector: The vector, left as it is.
            out: Takes the product; None allocates.

        Raises:
            InstrumentFailed: The product is not finite; the message names the batch and the parameter.
            BadInput: An operation of the module has no double backward, or the loss is not a function of
                the outputs alone.
        """
        self._matvecs += 1
        result = torch.empty_like(vector) if out is None else out
        self._accumulate(vector, range(len(self.surface.batches)), result)

        def part(number: int, product: torch.Tensor) -> torch.Tensor:
            return self._accumulate(vector, [number], product)

        self.surface.require_finite_product(self.name, result, part)
        return result

    def repeated_matvec(self, vector: torch.Tensor, *, rtol: float = 1e-3) -> torch.Tensor:
        """Return a product that was computed twice on graphs built anew, after comparing the two.

        Raises:
            BadInput: They differ by more than `rtol`: the loss is not a function of the parameters.
        """
        return repeated_product(self, vector, rtol)

    def release(self) -> None:
        """Drop the retained graphs; the next product builds them again."""
        self._graphs = None

    def _build(self, number: int) -> _Graph | None:
        """Build what a batch's products share; None where the outputs do not depend on the parameters."""
        tensors = self.parameters.tensors
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            outputs, loss = self._forward(self.surface.batches[number])
            loss = loss / self.surface.weight
            if not (outputs.requires_grad and loss.requires_grad):
                return None
            _require_detour_free(outputs, loss, self.parameters, self.surface.place(number))
            middle = self._make_middle(outputs, loss)
            dummy = torch.zeros_like(outputs, requires_grad=True)
            shares = torch.autograd.grad(outputs, tensors, dummy, create_graph=True, allow_unused=True)
        pairs = [(i, share) for i, share in enumerate(shares) if share is not None and share.requires_grad]
        edges = tuple(get_gradient_edge(share) for _, share in pairs)
        return _Graph(edges, tuple(i for i, _ in pairs), dummy, middle, get_gradient_edge(outputs))

    def _graph(self, number: int) -> _Graph | None:
        if not self._retain:
            return self._build(number)
        if self._graphs is None:
            self._graphs = [self._build(i) for i in range(len(self.surface.batches))]
        return self._graphs[number]

    def _accumulate(self, vector: torch.Tensor, numbers: Sequence[int], result: torch.Tensor) -> torch.Tensor:
        """Overwrite `result` with the sum of the micro-batches' products and return it."""
        directions = self.parameters.views(vector)
        with gathered(self.parameters, result):
            for number in numbers:
                graph = self._graph(number)
                if graph is None or not graph.positions:
                    continue
                (tangent,) = torch.autograd.grad(
                    graph.edges,
                    (graph.dummy,),
                    grad_outputs=[directions[i] for i in graph.positions],
                    retain_graph=self._retain,
                )
                torch.autograd.backward(
                    (graph.outputs,),
                    grad_tensors=(graph.middle(tangent, self._retain),),
                    inputs=self.parameters.tensors,
                    retain_graph=self._retain,
                )
        return result
