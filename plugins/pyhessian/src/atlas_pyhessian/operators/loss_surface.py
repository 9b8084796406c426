"""The loss that curvature is taken of: micro-batches, their weights, and what is checked before a product."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from attrs import frozen
from torch.nn.attention import SDPBackend, sdpa_kernel

from atlas.contracts import Batch
from atlas.errors import BadInput, InstrumentFailed
from atlas_pyhessian import reductions
from atlas_pyhessian.operators.symmetric import SymmetricOperator
from atlas_pyhessian.parameters import Parameters

__all__ = ["LossFacts", "LossOperator", "LossSurface", "gathered", "repeated_product"]

_NO_DOUBLE_BACKWARD = ("is not implemented", "marked with @once_differentiable", "support double backward")


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


class LossOperator(SymmetricOperator, Protocol):
    """A curvature matrix of a loss: an operator that also knows its loss."""

    @property
    def surface(self) -> LossSurface:
        """The loss."""
        ...

    def losses(self) -> tuple[float, ...]:
        """Return the mean loss of each micro-batch by a forward pass, nothing kept."""
        ...

    def facts(self) -> LossFacts:
        """Evaluate loss and gradient once."""
        ...

    def repeated_matvec(self, vector: torch.Tensor, *, rtol: float = 1e-3) -> torch.Tensor:
        """Return a product that was computed twice on graphs built anew, after comparing the two."""
        ...

    def release(self) -> None:
        """Drop the retained graphs; the next product builds them again."""
        ...


class LossSurface:
    """The function `sum_b loss_sum(b) / sum_b weight(b)` of the chosen parameters.

    Args:
        parameters: What is differentiated by; the module must be `prepared`.
        loss_sum: Summed loss of a batch, a scalar with a graph.
        batches: Micro-batches, at least one.

    Raises:
        BadInput: There is no batch, or one has no weight.
    """

    def __init__(
        self,
        parameters: Parameters,
        loss_sum: Callable[[Batch], torch.Tensor],
        batches: Sequence[Batch],
    ) -> None:
        self.parameters = parameters
        self.batches = tuple(batches)
        self.weight = float(sum(batch.weight for batch in self.batches))
        self._loss_sum = loss_sum
        for number, batch in enumerate(self.batches):
            if not batch.weight > 0:
                raise BadInput(
                    f"the weight of a batch is {batch.weight:g}: it holds no scored token or example",
                    where=self.place(number),
                    fix="give items of at least two tokens, raise `max_tokens`, or take larger batches",
                )
        if not self.batches:
            raise BadInput("there is no batch to take the loss of", fix="give at least one stimulus item")

    def gradient(self, batch: Batch, *, graph: bool) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """Return a batch's share of the mean loss and its gradient by each parameter, None where unused."""
        loss = self._share(batch)
        if not loss.requires_grad:
            return loss, [None] * len(self.parameters.tensors)
        gradients = torch.autograd.grad(loss, self.parameters.tensors, create_graph=graph, allow_unused=True)
        return loss, list(gradients)

    def gradient_into(self, result: torch.Tensor) -> torch.Tensor:
        """Overwrite `result` `[n]` with the gradient of the whole loss, holding no other, and return it."""
        with gathered(self.parameters, result):
            for batch in self.batches:
                loss = self._share(batch)
                if loss.requires_grad:
                    torch.autograd.backward(loss, inputs=self.parameters.tensors)
        return result

    def _share(self, batch: Batch) -> torch.Tensor:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            return self._loss_sum(batch) / self.weight

    def losses(self) -> tuple[float, ...]:
        """Return the mean loss of each micro-batch by a forward pass, nothing kept."""
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            return tuple(float(self._loss_sum(b)) / b.weight for b in self.batches)

    def facts(self) -> LossFacts:
        """Evaluate loss and gradient once; raises as `value_and_gradient`."""
        losses, gradient = self.value_and_gradient()
        weights = [batch.weight for batch in self.batches]
        mean = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / self.weight
        return LossFacts(mean, reductions.norm(gradient), self.weight, losses)

    def value_and_gradient(self) -> tuple[tuple[float, ...], torch.Tensor]:
        """Return the mean loss of each micro-batch and the gradient of the whole loss, `[n]`.

        Raises:
            InstrumentFailed: A loss or a gradient is not finite; the message names the batch, and the
                parameter.
        """
        parameters = self.parameters
        flat = torch.zeros(parameters.size, dtype=parameters.dtype, device=parameters.device)
        views = parameters.views(flat)
        losses = []
        for number, batch in enumerate(self.batches):
            loss, gradients = self.gradient(batch, graph=False)
            losses.append(float(loss.detach()) * self.weight / batch.weight)
            self._require_finite(losses[-1], number)
            for view, gradient in zip(views, gradients, strict=True):
                if gradient is not None:
                    view += gradient
            if (name := parameters.first_non_finite(flat)) is not None:
                raise InstrumentFailed(f"the gradient by {name} is not finite", where=self.place(number))
        return tuple(losses), flat

    def place(self, number: int) -> str:
        """Name a batch by its number and its items."""
        items = ", ".join(self.batches[number].item_ids)
        return f"batch {number}" + (f" ({items})" if items else "")

    def _require_finite(self, loss: float, number: int) -> None:
        if not -float("inf") < loss < float("inf"):
            raise InstrumentFailed(f"the loss is {loss}", where=self.place(number))

    def require_finite_product(
        self, what: str, product: torch.Tensor, part: Callable[[int, torch.Tensor], torch.Tensor]
    ) -> None:
        """Refuse a product that is not finite.

        Args:
            what: Name of the matrix.
            product: The product `[n]`; overwritten if it is refused.
            part: Overwrites a vector with the product of one micro-batch alone.

        Raises:
            InstrumentFailed: It is not finite; the message names the first batch and parameter where.
        """
        if bool(torch.isfinite(product.sum())):
            return
        name = self.parameters.first_non_finite(product)
        if name is None:
            return
        place = None
        for number in range(len(self.batches)):
            culprit = self.parameters.first_non_finite(part(number, product))
            if culprit is not None:
                name, place = culprit, self.place(number)
                break
        raise InstrumentFailed(f"the {what}-vector product is not finite at {name}", where=place)


@contextmanager
def gathered(parameters: Parameters, result: torch.Tensor) -> Iterator[None]:
    """Overwrite `result` `[n]` with the sum of what backward passes within leave at the parameters.

    Each parameter's part is moved into `result` as soon as it is complete, while it is warm and so that
    it can be freed: parts that wait for each other would be another vector as long as the model.

    Raises:
        BadInput: An operation of the module has no double backward.
    """
    tensors, views = parameters.tensors, parameters.views(result)
    fresh = set(range(len(tensors)))

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

    hooks = [
        tensor.register_post_accumulate_grad_hook(taking(position, view))  # type: ignore[no-untyped-call] # of torch
        for position, (tensor, view) in enumerate(zip(tensors, views, strict=True))
    ]
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _NO_DOUBLE_BACKWARD):
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


def repeated_product(operator: LossOperator, vector: torch.Tensor, rtol: float) -> torch.Tensor:
    """Return a product that was computed twice on graphs built anew, after comparing the two.

    Raises:
        BadInput: They differ by more than `rtol`: the loss is not a function of the parameters.
    """
    first = operator.matvec(vector)
    operator.release()
    second = operator.matvec(vector)
    gap, scale = reductions.norm(first - second), reductions.norm(first)
    if gap > rtol * scale:
        raise BadInput(
            "the loss is not deterministic: one product, computed twice, differs by "
            f"{gap / scale if scale else float('inf'):.1e} of its length",
            fix="switch off dropout and other sampling that evaluation mode leaves on",
        )
    return second
