"""Storage of orthonormal vectors as long as the model: full precision, or float16 at half the memory.

A unit vector of length n has entries near 1/sqrt(n), below float16's normal range when n is large, so
that `v * sqrt(n)` is what is stored: its entries are near 1 and at most sqrt(n), which cannot overflow
for n < 4e9. Rounding then perturbs a vector by 2e-4 to 3.5e-4 of its length. bfloat16 takes the same
memory and perturbs by 2e-3, more than a certificate of 1e-3 allows, and is not offered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from atlas.errors import BadInput
from atlas_pyhessian import reductions
from atlas_pyhessian.rows import MemoryRows, Rows

__all__ = ["ROUNDING", "Basis"]

ROUNDING = {torch.float16: 3.5e-4, torch.float32: 6e-8, torch.float64: 1e-16}
"""Relative perturbation of a stored unit vector; for float16 as measured on a language model."""


class Basis:
    """Up to `capacity` unit vectors of length `size`.

    Args:
        capacity: Largest number of vectors, m.
        size: Length of a vector, n.
        storage: dtype in which vectors are kept.
        dtype: Working dtype, in which vectors go in and come out.
        device: Where they are kept.
        rows: What keeps them; None for memory. It must have this capacity, size and storage.

    Raises:
        BadInput: `storage` has no certified rounding.
    """

    def __init__(
        self,
        capacity: int,
        size: int,
        *,
        storage: torch.dtype,
        dtype: torch.dtype,
        device: torch.device,
        rows: Rows | None = None,
    ) -> None:
        if storage not in ROUNDING:
            raise BadInput(
                f"a basis cannot be stored as {storage}",
                fix="use float16 (scaled), float32 or float64",
            )
        self._rows = rows if rows is not None else MemoryRows(capacity, size, storage, device)
        self._dtype = dtype
        self._scale = math.sqrt(size) if storage is torch.float16 else 1.0
        self._count = 0

    def __len__(self) -> int:
        """Number of vectors held."""
        return self._count

    @property
    def capacity(self) -> int:
        """Largest number of vectors."""
        return self._rows.capacity

    @property
    def rounding(self) -> float:
        """Relative perturbation of a vector by being stored."""
        return ROUNDING[self._rows.dtype]

    @property
    def size(self) -> int:
        """Length of a vector."""
        return self._rows.size

    @property
    def storage(self) -> torch.dtype:
        """Type in which vectors are kept."""
        return self._rows.dtype

    @property
    def device(self) -> torch.device:
        """Where they are kept."""
        return self._rows.device

    @property
    def num_bytes(self) -> int:
        """Bytes of the held vectors."""
        return self._count * self.size * self.storage.itemsize

    def stored(self) -> Iterator[torch.Tensor]:
        """Yield the held vectors as they are stored, scaled and rounded, piece after piece."""
        for row in range(self._count):
            yield from self._rows.pieces(row)

    def append_stored(self, fill: Callable[[torch.Tensor], None]) -> None:
        """Hold a vector again that `stored` gave; `fill` overwrites a piece with what comes next."""
        self._rows.fill(self._count, fill)
        self._count += 1

    def append(self, vector: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        """Store `scale * vector`, a unit vector `[n]`; return it as stored, in the memory of `vector`."""
        torch.mul(vector, scale * self._scale, out=vector)
        self._rows.write(self._count, vector)
        self._count += 1
        return vector if self.storage is vector.dtype else self._read(self._count - 1, vector)

    def vector(self, index: int, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return a copy of a stored vector `[n]` in the working dtype, in `out` where given."""
        return self._read(index, self._new() if out is None else out)

    def _read(self, index: int, out: torch.Tensor) -> torch.Tensor:
        self._rows.read(index, out)
        return out if self._scale == 1.0 else out.div_(self._scale)

    def _new(self) -> torch.Tensor:
        return torch.empty(self._rows.size, dtype=self._dtype, device=self._rows.device)

    def project(self, vector: torch.Tensor, count: int | None = None) -> torch.Tensor:
        """Return the inner products with the first `count` held vectors, or all, float64 `[count]`."""
        total = torch.zeros(self._count if count is None else count, dtype=torch.float64)
        for part, block in self._rows.blocks(len(total)):
            total += reductions.project(block, vector[part])
        return total / self._scale

    def subtract(self, vector: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        """Subtract the combination of the first held vectors from `vector` in place and return it."""
        return self._add(vector, -coefficients)

    def _add(self, vector: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        weights = coefficients / self._scale
        for part, block in self._rows.blocks(len(weights)):
            reductions.add_combination(vector[part], block, weights)
        return vector

    def orthogonalise(self, vector: torch.Tensor) -> torch.Tensor:
        """Make `vector` orthogonal to the held vectors in place; return float64 coefficients removed.

        Classical Gram-Schmidt, repeated while a pass cancels more than half the length, three times at
        most (Daniel, Gragg, Kaufman and Stewart 1976).
        """
        removed = torch.zeros(self._count, dtype=torch.float64)
        length = reductions.norm(vector)
        for _ in range(3):
            coefficients = self.project(vector)
            self.subtract(vector, coefficients)
            removed += coefficients
            before, length = length, reductions.norm(vector)
            if length >= 0.5 * before:
                break
        return removed

    def combination(self, coefficients: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the combination of held vectors `[n]` in the working dtype, never rounded to storage."""
        return self._add((self._new() if out is None else out).zero_(), coefficients)

    def rotate(self, rotation: torch.Tensor) -> None:
        """Replace the held vectors by `rotation @ vectors`, `rotation` being `[k, len(self)]`."""
        for _, block in self._rows.blocks(self._count, keep=rotation.shape[0]):
            reductions.combine(block, rotation, self._dtype)
        self._count = rotation.shape[0]
