"""Data-parallel products: each process multiplies by its own micro-batches, and the products are summed.

Started with `torchrun`, one process a device. Every process holds the same model and other micro-batches,
and calls the same products in the same order with the same vectors. A process counts with its share of
the scored tokens, not of the batches, so that the sum is the matrix of all batches together, whatever
they hold.
"""

from __future__ import annotations

import torch
import torch.distributed as dist

from atlas_pyhessian.operators.symmetric import SymmetricOperator

__all__ = ["DataParallelOperator"]


class DataParallelOperator:
    """The token-weighted mean of the processes' operators.

    Args:
        local: The operator of this process' micro-batches.
        weight: Their scored tokens.
        group: The processes; None for all.
    """

    def __init__(
        self, local: SymmetricOperator, weight: float, *, group: dist.ProcessGroup | None = None
    ) -> None:
        self.local = local
        self._group = group
        total = torch.tensor([weight], dtype=torch.float64, device=local.device)
        dist.all_reduce(total, group=group)
        self._share = weight / float(total)

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

    def matvec(self, vector: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the product with `vector`, `[n]` to `[n]`, the same in every process."""
        result = self.local.matvec(vector, out=out)
        result.mul_(self._share)
        dist.all_reduce(result, group=self._group)
        return result
