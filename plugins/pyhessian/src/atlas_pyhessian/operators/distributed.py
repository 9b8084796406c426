"""Data-parallel products: each process multiplies by its own micro-batches, and the products are summed.

Started with `torchrun`, one process a device. Every process holds the same model and other micro-batches,
and calls the same products in the same order with the same vectors. A process counts with its share of
the scored tokens, not of the batches, so that the sum is the matrix of all batches together, whatever
they hold.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from atlas_pyhessian import reductions
from atlas_pyhessian.operators.iterating import IteratingOperator
from atlas_pyhessian.operators.loss_surface import LossFacts, LossOperator, LossSurface, repeated_product
from atlas_pyhessian.operators.symmetric import OperatorView, SymmetricOperator

__all__ = ["DataParallelOperator"]


class DataParallelOperator:
    """The token-weighted mean of the processes' operators.

    Args:
        local: The operator of this process' micro-batches.
        group: The processes.
    """

    def __init__(self, local: LossOperator, group: dist.ProcessGroup) -> None:
        self.local = local
        self.group = group
        weight = local.surface.weight
        weights = self._gathered(weight)
        self._share = weight / sum(weights)
        self._mean = len(set(weights)) == 1 and dist.get_backend(group) == "nccl"
        self.certifier: OperatorView | None = None
        exact = local.certifier if isinstance(local, IteratingOperator) else None
        if exact is not None:
            self.certifier = OperatorView(exact, lambda vector, out: self._summed(exact, vector, out))

    @property
    def size(self) -> int:
        """Dimension n."""
        return self.local.size

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of vectors."""
        return self.local.dtype

    @property
    def device(self) -> torch.device:
        """Device of this process' vectors."""
        return self.local.device

    @property
    def num_matvecs(self) -> int:
        """Products computed so far; all processes together make one."""
        return self.local.num_matvecs

    @property
    def surface(self) -> LossSurface:
        """This process' part of the loss."""
        return self.local.surface

    def losses(self) -> tuple[float, ...]:
        """Return the mean loss of each micro-batch of each process in turn, nothing kept."""
        return tuple(loss for part in self._gathered(self.local.losses()) for loss in part)

    def facts(self) -> LossFacts:
        """Evaluate loss and gradient of all micro-batches; raises as `LossSurface.value_and_gradient`."""
        surface = self.local.surface
        losses, gradient = surface.value_and_gradient()
        dist.all_reduce(gradient.mul_(self._share), group=self.group)
        weights = tuple(batch.weight for batch in surface.batches)
        parts = self._gathered(tuple(zip(weights, losses, strict=True)))
        pairs = [pair for part in parts for pair in part]
        total = sum(weight for weight, _ in pairs)
        mean = sum(weight * loss for weight, loss in pairs) / total
        return LossFacts(mean, reductions.norm(gradient), total, tuple(loss for _, loss in pairs))

    def matvec(self, vector: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the product with `vector`, `[n]` to `[n]`, the same in every process."""
        return self._summed(self.local, vector, out)

    def _summed(
        self, part: SymmetricOperator, vector: torch.Tensor, out: torch.Tensor | None
    ) -> torch.Tensor:
        result = part.matvec(vector, out=out)
        if self._mean:  # which NCCL takes on the way, a pass over the vector less
            dist.all_reduce(result, op=dist.ReduceOp.AVG, group=self.group)
        else:
            dist.all_reduce(result.mul_(self._share), group=self.group)
        return result

    def repeated_matvec(self, vector: torch.Tensor, *, rtol: float = 1e-3) -> torch.Tensor:
        """Return a product that was computed twice on graphs built anew, after comparing the two."""
        return repeated_product(self, vector, rtol)

    def release(self) -> None:
        """Drop this process' retained graphs; the next product builds them again."""
        self.local.release()

    def _gathered(self, value: Any) -> list[Any]:
        parts: list[Any] = [None] * dist.get_world_size(self.group)
        dist.all_gather_object(parts, value, group=self.group)
        return parts
