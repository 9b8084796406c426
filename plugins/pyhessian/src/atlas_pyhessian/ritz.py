"""The basis of an iteration and its projected matrix: grown by one vector, cut down to Ritz vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from attrs import define, field

from atlas.errors import InstrumentFailed
from atlas_pyhessian import reductions
from atlas_pyhessian.basis import Basis
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.spectrum import Certified, wanted

__all__ = ["RitzState", "continue_from", "expand", "kept_at_restart"]

_ROTATION = 4
"""Roundings that a restart adds to what the recurrence leaves out."""


@define
class RitzState:
    """The basis, the projected matrix and the residual vector that continues the basis.

    The residual and `spare` take turns as the vector multiplied and its product: memory as long as the
    model is taken once, since an allocator that is asked for it at every step leaves gaps.

    Attributes:
        basis: Orthonormal vectors V, `[m]` of length n.
        projected: V^T H V in its leading rows and columns, as measured.
        residual: What continues the basis: H V = V T + residual e_m^T, but for `defect`.
        residual_norm: Its length.
        spare: Memory of another vector.
        norm: Largest magnitude of a Ritz value so far.
        since_fresh: Products since a random vector last joined the basis.
        defect: Upper bound of what the recurrence leaves out, relative to ||H||; infinite where the stored
            vectors are rounded coarsely or the residual was given up for another vector.
        locked: The first vectors of the basis, which are certified and stay as they are, while others
            are searched for beside them.
        theta: Ritz values, the locked ones first.
        rotation: Their vectors over the basis, by columns.
        bounds: Their residual norms by the recurrence.
    """

    basis: Basis
    projected: torch.Tensor
    residual: torch.Tensor
    residual_norm: float
    spare: torch.Tensor | None = None
    norm: float = 0.0
    since_fresh: int = 0
    defect: float = math.inf
    locked: Certified | None = None
    theta: list[float] = field(factory=list)
    rotation: torch.Tensor = field(factory=lambda: torch.zeros(0, 0))
    bounds: list[float] = field(factory=list)

    def diagonalise(self) -> None:
        """Solve the projected problem, beside what is locked.

        Residual bounds come from the last row (Paige 1971), and from the coupling to locked vectors.
        """
        count, locked = len(self.basis), self.locked or Certified((), ())
        held = len(locked.values)
        square = self.projected[:count, :count]
        theta, free = torch.linalg.eigh(square[held:, held:])
        coupling = square[:held, held:] @ free
        self.rotation = torch.eye(count, dtype=free.dtype)
        self.rotation[held:, held:] = free
        self.theta = [*locked.values, *theta.tolist()]
        bounds = torch.cat([self.residual_norm * free[-1:], coupling]).square().sum(0).sqrt()
        self.bounds = [*locked.residual_norms, *bounds.tolist()]
        self.norm = max(self.norm, *(abs(value) for value in self.theta))

    def restart(self, kept: Sequence[int]) -> None:
        """Replace the basis by the chosen Ritz vectors."""
        columns = self.rotation[:, list(kept)]
        count = len(self.basis)
        square = columns.T @ self.projected[:count, :count] @ columns
        self.basis.rotate(columns.T)
        self.projected.zero_()
        self.projected[: len(kept), : len(kept)] = square
        self.defect += _ROTATION * torch.finfo(self.residual.dtype).eps

    def unlock(self) -> None:
        """Let the locked vectors mix with the others again; the residual given up then is missing."""
        self.locked, self.defect = None, math.inf
        self.diagonalise()


def expand(state: RitzState, operator: SymmetricOperator, product: torch.Tensor | None = None) -> None:
    """Put the residual into the basis, multiply by it, and take the next residual."""
    vector = state.basis.append(state.residual, scale=1.0 / state.residual_norm)
    last = len(state.basis) - 1
    state.residual = operator.matvec(vector, out=state.spare) if product is None else product
    state.spare = vector
    coefficients = state.basis.orthogonalise(state.residual)
    state.projected[: last + 1, last] = coefficients
    state.projected[last, : last + 1] = coefficients
    state.residual_norm = reductions.norm(state.residual)
    if not math.isfinite(state.residual_norm):
        raise InstrumentFailed("a matrix-vector product is not finite")
    state.since_fresh += 1
    state.diagonalise()


def continue_from(state: RitzState, vector: torch.Tensor) -> None:
    """Continue with a vector of one's own, made orthogonal to the basis in place.

    In few dimensions a vector of signs may lie in the basis' span; a coordinate that does not takes its
    place, and while the basis does not span the space there is one.
    """
    length, coordinate = reductions.norm(vector), 0
    while True:
        for _ in range(2):
            state.basis.orthogonalise(vector)
        state.residual_norm = reductions.norm(vector)
        if state.residual_norm > 100 * torch.finfo(vector.dtype).eps * length:
            break
        vector.zero_()[coordinate] = 1.0
        length, coordinate = 1.0, coordinate + 1
    state.spare, state.residual = state.residual, vector
    state.since_fresh = 0


def kept_at_restart(theta: Sequence[float], top_k: int, ends: int, capacity: int) -> list[int]:
    """Return the Ritz vectors to keep at a restart: the wanted, and some next in line to speed them."""
    chosen = wanted(theta, top_k, ends)
    spare = max(0, (capacity - len(chosen)) // 2 - 1)
    rest = sorted((i for i in range(len(theta)) if i not in chosen), key=lambda i: -abs(theta[i]))
    return (chosen + rest[:spare])[: capacity - 1]
