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
from atlas_pyhessian.spectrum import wanted

__all__ = ["RitzState", "continue_from", "expand", "kept_at_restart"]


@define
class RitzState:
    """The basis, the projected matrix and the residual vector that continues the basis.

    The residual and `spare` take turns as the vector multiplied and its product: memory as long as the
    model is taken once, since an allocator that is asked for it at every step leaves gaps.
    """

    basis: Basis
    projected: torch.Tensor
    residual: torch.Tensor
    residual_norm: float
    spare: torch.Tensor | None = None
    norm: float = 0.0
    since_fresh: int = 0
    theta: list[float] = field(factory=list)
    rotation: torch.Tensor = field(factory=lambda: torch.zeros(0, 0))
    bounds: list[float] = field(factory=list)

    def diagonalise(self) -> None:
        """Solve the projected problem; residual bounds come from the last row (Paige 1971)."""
        count = len(self.basis)
        theta, self.rotation = torch.linalg.eigh(self.projected[:count, :count])
        self.theta = theta.tolist()
        self.bounds = (self.residual_norm * self.rotation[-1].abs()).tolist()
        self.norm = max(self.norm, *(abs(value) for value in self.theta))

    def restart(self, kept: Sequence[int]) -> None:
        """Replace the basis by the chosen Ritz vectors."""
        self.basis.rotate(self.rotation[:, list(kept)].T)
        self.projected.zero_()
        for position, index in enumerate(kept):
            self.projected[position, position] = self.theta[index]


def expand(state: RitzState, operator: SymmetricOperator, product: torch.Tensor | None = None) -> None:
    """Put the residual into the basis, multiply by it, and take the next residual."""
    state.basis.append(state.residual, scale=1.0 / state.residual_norm)
    last = len(state.basis) - 1
    vector = state.basis.vector(last, out=state.residual)
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
