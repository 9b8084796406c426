"""Extreme eigenpairs: what is asked of a solver, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen

from atlas_pyhessian.basis import Basis

__all__ = [
    "SHORT",
    "Certified",
    "EigenRequest",
    "SegmentImage",
    "Spectrum",
    "default_basis_size",
    "wanted",
]


SHORT = 1_000_000
"""Length up to which vectors are cheap, so that more of them are kept and more products spent on doubt."""

_SHORT_BASIS = 32


@frozen
class EigenRequest:
    """What is asked of the solver.

    Attributes:
        top_k: Eigenvalues of largest magnitude.
        ends: Eigenvalues at each algebraic end besides.
        tolerance: Largest residual norm, relative to ||H|| (the largest Ritz value's magnitude).
        max_matvecs: Products allowed, verification included.
        basis_size: Vectors kept, m; None for `default_basis_size`, or more where vectors are short.
        storage: dtype of the stored basis; None for the operator's own.
        fresh_starts: Fresh random vectors, in a row, that must find nothing new.
    """

    top_k: int = 5
    ends: int = 1
    tolerance: float = 1e-3
    max_matvecs: int = 200
    basis_size: int | None = None
    storage: torch.dtype | None = None
    fresh_starts: int = 1

    def capacity(self, size: int) -> int:
        """Return how many vectors of length `size` the basis is to hold."""
        asked = self.basis_size or default_basis_size(self.top_k, self.ends)
        if self.basis_size is None and size <= SHORT:
            asked = max(asked, _SHORT_BASIS)
        return min(size, max(asked, min(size, self.top_k + 2 * self.ends) + 2))


@frozen
class SegmentImage:
    """A unit Ritz vector v and its product H v, summed by segment: `v_b . (H v)_b` and `|(H v)_b|^2`."""

    forms: tuple[float, ...]
    squares: tuple[float, ...]


@frozen
class Certified:
    """Wanted eigenpairs with their residuals.

    Attributes:
        values: Rayleigh quotients, by falling magnitude, `[p]`.
        residual_norms: Upper bounds of `||H v - lambda v||` of unit vectors, `[p]`.
        images: The products summed by segment; empty without segments.
    """

    values: tuple[float, ...]
    residual_norms: tuple[float, ...]
    images: tuple[SegmentImage, ...] = ()


@frozen
class Spectrum:
    """Verified extreme eigenpairs, largest magnitude first, and the Ritz basis that is left.

    Attributes:
        values: Rayleigh quotients of the wanted vectors, `[p]`.
        residual_norms: `||H v - lambda v||` of unit vectors, or upper bounds of it, `[p]`.
        converged: Whether each residual is within the tolerance, `[p]`.
        norm: Estimate of ||H||, the largest magnitude seen.
        exhausted: The basis spans the whole space, so that `ritz_values` are the whole spectrum.
        found_by_fresh_starts: Wanted eigenvalues that the first start vector had missed.
        clean_starts: Fresh starts in a row that found nothing new.
        searched: As many of them as were asked for, or nothing is left to search; false where the budget
            ran out first, so that the pairs are eigenpairs but may not be the extreme ones.
        num_matvecs: Products spent.
        ritz_values: Ritz values of `basis`, the wanted first, `[m]`.
        ritz_residuals: Their residual norms, those beyond `p` by the recurrence, `[m]`.
        basis: The stored Ritz vectors.
        images: Of the first `p` vectors of `basis`; empty unless segments were given.
    """

    values: tuple[float, ...]
    residual_norms: tuple[float, ...]
    converged: tuple[bool, ...]
    norm: float
    exhausted: bool
    found_by_fresh_starts: int
    clean_starts: int
    searched: bool
    num_matvecs: int
    ritz_values: tuple[float, ...]
    ritz_residuals: tuple[float, ...]
    basis: Basis
    images: tuple[SegmentImage, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether the pairs are certified and the search for others was completed."""
        return self.searched and all(self.converged)

    @property
    def num_verified(self) -> int:
        """How many of the basis' vectors, the first p, have certified residuals."""
        return len(self.values)

    @property
    def num_eigenvectors(self) -> int:
        """How many of them are eigenvectors within their residuals: these, or all if they span the space."""
        return len(self.basis) if self.exhausted else self.num_verified

    @property
    def eigenvalues(self) -> tuple[float, ...]:
        """Theirs, in the basis' order."""
        return self.ritz_values[: self.num_eigenvectors]


def default_basis_size(top_k: int, ends: int) -> int:
    """Return a basis size that restarts well: 8 for the top 3, 12 for the top 5."""
    return 2 * top_k + 2 * max(ends, 1)


def wanted(values: Sequence[float], top_k: int, ends: int) -> list[int]:
    """Return positions of the `top_k` largest magnitudes and of `ends` values at each algebraic end.

    They are ordered by falling magnitude.
    """
    by_magnitude = sorted(range(len(values)), key=lambda i: -abs(values[i]))
    by_value = sorted(range(len(values)), key=lambda i: values[i])
    chosen = set(by_magnitude[:top_k])
    if ends:
        chosen |= {*by_value[:ends], *by_value[-ends:]}
    return [i for i in by_magnitude if i in chosen]
