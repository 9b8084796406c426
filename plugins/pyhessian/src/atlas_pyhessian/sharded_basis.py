"""A basis spread over processes: each keeps one slice of every vector, and sees vectors whole.

Vectors that are worked on are held whole by every process, three of them; the basis, which is many, is
divided. Inner products are summed over the processes, combinations are gathered. All processes call the
same methods in the same order with the same vectors, and get the same results.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist

from atlas_pyhessian.basis import Basis

__all__ = ["ShardedBasis"]


class ShardedBasis(Basis):
    """Up to `capacity` unit vectors of length `size`, of which this process keeps a slice.

    Args:
        capacity: Largest number of vectors, m.
        size: Length of a vector, n, over all processes.
        storage: dtype in which vectors are kept.
        dtype: Working dtype.
        device: Where this process' slice is kept.
        group: The processes.
    """

    def __init__(
        self,
        capacity: int,
        size: int,
        *,
        storage: torch.dtype,
        dtype: torch.dtype,
        device: torch.device,
        group: dist.ProcessGroup,
    ) -> None:
        self._group = group
        self._size = size
        self._length = math.ceil(size / dist.get_world_size(group))
        start = min(size, dist.get_rank(group) * self._length)
        self._own = slice(start, min(size, start + self._length))
        super().__init__(
            capacity, self._own.stop - self._own.start, storage=storage, dtype=dtype, device=device
        )
        self._scale = math.sqrt(size) if storage is torch.float16 else 1.0

    def append(self, vector: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        """Store `scale * vector`, a unit vector `[n]`; return it as stored, in the memory of `vector`."""
        return self._gathered(super().append(vector[self._own], scale=scale), vector)

    def vector(self, index: int, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return a copy of a stored vector `[n]` in the working dtype, in `out` where given."""
        return self._gathered(super().vector(index), out)

    def project(self, vector: torch.Tensor, count: int | None = None) -> torch.Tensor:
        """Return the inner products with the first `count` vectors, or all, float64 `[count]` on the CPU."""
        sums = super().project(vector[self._own], count).to(vector.device)
        dist.all_reduce(sums, group=self._group)
        return sums.cpu()

    def subtract(self, vector: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        """Subtract the combination of held vectors from `vector` in place and return it."""
        return self._gathered(super().subtract(vector[self._own], coefficients), vector)

    def combination(self, coefficients: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the combination of held vectors `[n]` in the working dtype, never rounded to storage."""
        return self._gathered(super().combination(coefficients), out)

    def _gathered(self, part: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        """Return the vector `[n]` of which every process gives its slice."""
        padded = torch.zeros(self._length, dtype=part.dtype, device=part.device)
        padded[: part.numel()] = part
        whole = torch.empty(
            self._length * dist.get_world_size(self._group), dtype=part.dtype, device=part.device
        )
        dist.all_gather_into_tensor(whole, padded, group=self._group)
        return whole[: self._size] if out is None else out.copy_(whole[: self._size])
