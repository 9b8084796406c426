"""The one interface between algorithms and matrices: dimension, type, and products that are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from attrs import frozen

__all__ = ["OperatorView", "SymmetricOperator"]


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


@frozen
class OperatorView:
    """An operator's matrix with products of another make.

    Attributes:
        operator: Whose dimension, type and device it has, and who counts the products.
        multiply: Returns the product with a vector `[n]`, in the second argument where it is given.
    """

    operator: SymmetricOperator
    multiply: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]

    @property
    def size(self) -> int:
        """Dimension n."""
        return self.operator.size

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of vectors."""
        return self.operator.dtype

    @property
    def device(self) -> torch.device:
        """Device of vectors."""
        return self.operator.device

    @property
    def num_matvecs(self) -> int:
        """None of its own."""
        return 0

    def matvec(self, vector: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the product with a vector `[n]`, in `out` where given."""
        return self.multiply(vector, out)
