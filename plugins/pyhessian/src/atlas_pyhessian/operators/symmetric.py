"""The one interface between algorithms and matrices: dimension, type, and products that are counted."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

__all__ = ["SymmetricOperator"]


@runtime_checkable
class SymmetricOperator(Protocol):
    """A symmetric matrix `[n, n]` known by its products; what every algorithm here works on."""

    @property
    def size(self) -> int:
        """Dimension n."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of vectors."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of vectors."""
        ...

    @property
    def num_matvecs(self) -> int:
        """Products computed so far."""
        ...

    def matvec(self, vector: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the product with a vector `[n]`, in `out` where given; `vector` is left as it is."""
        ...
