"""An orthonormal basis for the range of a matrix, grown product by product from random probes.

Halko, Martinsson and Tropp 2011, "Finding structure with randomness", section 4: with Y = A Omega and
Q R = Y, the range of Q holds what is large in A. Here A = P H P, with the Ritz basis taken out, and Q is
kept up to date by one orthogonalisation for each probe, so that a sketch can grow until its error is
small enough. Besides Q only matrices of the order of the number of probes are held: R, Q^T A Q, and the
lengths that the Frobenius norm needs. A Q is multiplied vector by vector and not held.
"""

from __future__ import annotations

import torch
from attrs import define, field

from atlas_pyhessian import reductions
from atlas_pyhessian.basis import Basis
from atlas_pyhessian.deflation import Deflation, TraceSample
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.wu2000thickrestart import MakeBasis

__all__ = ["RangeFinder"]

_CANCELLED = 0.1
"""Fraction of a product that may be left by orthogonalisation before the Ritz basis is cleared again."""


@define
class RangeFinder:
    """A growing sketch of A = P H P.

    Attributes:
        operator: H.
        deflation: The Ritz basis that P takes out, all before the product.
        basis: Q, empty at first, `[r]` vectors.
        kept: Numbers of the probes that added a vector to Q; others lay in its range.
        columns: Coefficients of each probe's product on Q as it then was: columns of R.
        compressed: Coefficients of A q on Q up to q itself: columns of the upper half of Q^T A Q.
        samples: What each probe says by itself.
        lengths: `|A q|^2` of each vector.
        captured: Sum over q of `|H q|^2 + |V^T H q|^2`.
    """

    operator: SymmetricOperator
    deflation: Deflation
    basis: Basis
    kept: list[int] = field(factory=list)
    columns: list[torch.Tensor] = field(factory=list)
    compressed: list[torch.Tensor] = field(factory=list)
    samples: list[TraceSample] = field(factory=list)
    lengths: list[float] = field(factory=list)
    captured: float = 0.0

    @classmethod
    def empty(
        cls, operator: SymmetricOperator, deflation: Deflation, most: int, make_basis: MakeBasis | None
    ) -> RangeFinder:
        """Return a sketch for at most so many probes; without `make_basis` it is held in memory."""
        capacity, size, dtype = min(most, operator.size), operator.size, operator.dtype
        if make_basis is not None:
            return cls(operator, deflation, make_basis(capacity, size, dtype))
        device = operator.device
        return cls(operator, deflation, Basis(capacity, size, storage=dtype, dtype=dtype, device=device))

    def add(self, probe: torch.Tensor) -> None:
        """Spend two products on a probe `[n]`, which is overwritten; one where its product adds nothing."""
        index = len(self.columns)
        coefficients = self.deflation.clear(probe)
        product = self.operator.matvec(probe)
        self.samples.append(self.deflation.sample(index, probe, product, coefficients))
        self.deflation.clear(product)
        before = reductions.norm(product)
        column = self.basis.orthogonalise(product)
        length = reductions.norm(product)
        if length < _CANCELLED * before:
            self.deflation.clear(product)
            column += self.basis.orthogonalise(product)
            length = reductions.norm(product)
        if length <= self.resolution * before:
            self.columns.append(column)
            return
        self.columns.append(torch.cat([column, torch.tensor([length], dtype=torch.float64)]))
        self.kept.append(index)
        self.basis.append(product, scale=1.0 / length)
        vector = self.basis.vector(len(self.basis) - 1, out=product)
        image = self.operator.matvec(vector, out=probe)
        self.compressed.append(self.basis.project(image))
        square = reductions.dot(image, image)
        inside = float(self.deflation.clear(image).square().sum())
        self.lengths.append(square - inside)
        self.captured += square + inside

    @property
    def resolution(self) -> float:
        """Relative length under which a vector counts as zero."""
        return 100 * torch.finfo(self.operator.dtype).eps

    def triangle(self) -> torch.Tensor:
        """Return R, float64 `[r, number of probes]`."""
        return _columns(self.columns, len(self.basis))

    def core(self) -> torch.Tensor:
        """Return Q^T A Q, float64 `[r, r]`."""
        upper = _columns(self.compressed, len(self.basis))
        return upper + upper.triu(1).T


def _columns(columns: list[torch.Tensor], rows: int) -> torch.Tensor:
    matrix = torch.zeros(rows, len(columns), dtype=torch.float64)
    for position, column in enumerate(columns):
        matrix[: len(column), position] = column
    return matrix
