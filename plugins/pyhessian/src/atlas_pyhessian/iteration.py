"""One thick-restart solve between its products: what its Ritz values say, and what is done next."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from attrs import define, frozen

from atlas.errors import BadInput
from atlas_pyhessian import reductions
from atlas_pyhessian.basis import Basis
from atlas_pyhessian.certificate import clears, from_recurrence, unmatched, verify
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.restarts import MakeBasis, RunningState, Search
from atlas_pyhessian.ritz import RitzState, continue_from, kept_at_restart
from atlas_pyhessian.spectrum import SHORT, Certified, EigenRequest, Spectrum, wanted

__all__ = ["Iteration", "Verdict"]

_MARGIN = 0.85
"""Fraction of the tolerance at which the recurrence stops, so that the explicit residual passes."""

_EXACT = 1e-6
"""Rounding of a stored vector up to which the recurrence holds, and Ritz vectors need no product."""

_FRESH_STEPS, _SHORT_FRESH_STEPS = 8, 16
"""Products after a fresh start before its Ritz values may clear the wanted set, and where vectors are short.

Measured on random spectra with pairs, multiplicities and clusters, 3,000 of about 70 eigenvalues and 1,000
of about 610: one was missed in 1,413 of the 3,000 without a fresh start; after one of 8 products in 5 and 6,
after two of 8 in none, after one of 16 with a basis of 32 vectors in none; with other start vectors in 1.
"""


@frozen
class Verdict:
    """What one look at the Ritz values says.

    Attributes:
        chosen: Positions of the wanted values.
        spent: Products so far.
        worst: Largest residual bound of the wanted.
        exhausted: The basis spans the whole space.
        broken: The residual is zero to rounding: the Krylov space ends here.
        implied: The recurrence certifies the pairs, so that no product is kept in reserve for them.
        reserve: Products that certifying them takes.
        settled: The wanted have converged, and what a fresh start found is bounded away from them.
    """

    chosen: list[int]
    spent: int
    worst: float
    exhausted: bool
    broken: bool
    implied: bool
    reserve: int
    settled: bool


@define
class Iteration:
    """One solve: what is asked for, the matrix, and how far it is."""

    request: EigenRequest
    operator: SymmetricOperator
    exact: SymmetricOperator
    state: RitzState
    search: Search
    draw: Callable[[int], torch.Tensor]
    segments: Sequence[int]
    started: int
    top_k: int
    goal: int

    @classmethod
    def begin(
        cls,
        operator: SymmetricOperator,
        exact: SymmetricOperator,
        draw: Callable[[int], torch.Tensor],
        request: EigenRequest,
        *,
        make_basis: MakeBasis | None,
        segments: Sequence[int],
        resumed: RunningState | None,
    ) -> Iteration:
        """Begin with a random vector, or where an interrupted attempt was.

        Arguments and errors are those of `thick_restart_lanczos`.
        """
        size, storage = operator.size, request.storage or operator.dtype
        top_k = min(request.top_k, size)
        goal = min(size, top_k + 2 * request.ends)
        capacity = request.capacity(size)
        if make_basis is not None:
            basis = make_basis(capacity, size, storage)
        else:
            basis = Basis(capacity, size, storage=storage, dtype=operator.dtype, device=operator.device)
        _check(request, basis, goal)
        started = _products(operator, exact)
        if resumed is not None:
            state, search = resumed.restore(basis, operator.dtype)
            started -= resumed.spent
        else:
            square = torch.zeros(basis.capacity, basis.capacity, dtype=torch.float64)
            start = draw(0)
            state = RitzState(basis, square, start, reductions.norm(start))
            search = Search(stop=_MARGIN * math.sqrt(request.tolerance**2 - basis.rounding**2))
        iteration = cls(request, operator, exact, state, search, draw, segments, started, top_k, goal)
        if resumed is None and exact is operator and basis.rounding <= _EXACT:
            state.defect = iteration.resolution
        return iteration

    @property
    def resolution(self) -> float:
        """Relative length below which a vector is rounding."""
        return 100 * torch.finfo(self.operator.dtype).eps

    @property
    def spent(self) -> int:
        """Products so far, those of an interrupted attempt included."""
        return _products(self.operator, self.exact) - self.started

    @property
    def matrix(self) -> SymmetricOperator:
        """Whose products the iteration takes."""
        return self.exact if self.search.exact else self.operator

    def judge(self) -> Verdict:
        """Choose the wanted values and see how far they are; count what a fresh start found."""
        state, search, request = self.state, self.search, self.request
        chosen = wanted(state.theta, self.top_k, request.ends)
        if state.locked is not None and set(chosen) != set(range(len(state.locked.values))):
            state.unlock()
            chosen = wanted(state.theta, self.top_k, request.ends)
        worst = max(state.bounds[i] for i in chosen)
        exhausted = len(state.basis) == self.operator.size
        broken = state.residual_norm <= self.resolution * state.norm
        implied = state.locked is not None or state.defect <= (1.0 - _MARGIN) * request.tolerance
        stop = search.stop
        if implied:
            stop = request.tolerance - (state.defect if state.locked is None else 0.0)
        settled = len(state.theta) >= self.goal and worst <= stop * state.norm
        if search.known is not None:
            slack = request.tolerance * state.norm
            fresh_steps = _FRESH_STEPS if self.operator.size > SHORT else _SHORT_FRESH_STEPS
            settled = settled and (state.since_fresh >= fresh_steps or broken)
            settled = settled and clears(state, chosen, self.top_k, request.ends, slack)
            if settled or exhausted:
                news = unmatched(search.known, [state.theta[i] for i in chosen], slack)
                search.found, search.clean = (
                    search.found + news,
                    0 if news else search.clean + 1,
                )
        reserve = 0 if implied else min(self.goal, len(state.basis) + 1)
        return Verdict(chosen, self.spent, worst, exhausted, broken, implied, reserve, settled)

    def is_last_chance(self, verdict: Verdict) -> bool:
        """Say whether the budget has come down to what certifying the pairs takes."""
        return self.request.max_matvecs - self.spent <= verdict.reserve

    def locked(self, verdict: Verdict) -> Certified | None:
        """Return the wanted pairs as the recurrence certifies them; None where it cannot."""
        if self.state.locked is not None or not verdict.implied:
            return self.state.locked
        return from_recurrence(
            self.state,
            verdict.chosen,
            self.state.defect * self.state.norm,
            self.segments,
        )

    def start_afresh(self, verdict: Verdict) -> None:
        """Keep the wanted pairs alone and look beside them from a fresh random vector."""
        state = self.state
        self.search.known = [state.theta[i] for i in verdict.chosen]
        locked = self.locked(verdict)
        if locked is None:
            state.defect = math.inf
        state.restart(verdict.chosen)
        state.locked = locked
        self._join_random()

    def certify(self, verdict: Verdict) -> tuple[Certified, torch.Tensor | None]:
        """Return the wanted pairs with residuals, and the vector of one that fails the tolerance."""
        locked = self.locked(verdict)
        if locked is not None:
            return locked, None
        return verify(
            self.state,
            self.exact,
            verdict.chosen,
            self.request.tolerance,
            self.segments,
        )

    def go_on_from(self, failed: torch.Tensor) -> None:
        """Go on, by exact products, from an explicit residual that failed."""
        self.search.stop *= 0.5
        self.search.exact = True
        self._make_room()
        continue_from(self.state, failed)
        self.state.defect = math.inf

    def go_on(self, verdict: Verdict) -> None:
        """Make room for the next vector, which is random where the Krylov space ended."""
        self._make_room()
        if verdict.broken:
            self._join_random()
            self.state.defect += self.resolution

    def spectrum(self, verdict: Verdict, verified: Certified) -> Spectrum:
        """Return what was found; the basis is turned to the Ritz vectors, the wanted first."""
        state, chosen = self.state, verdict.chosen
        norm = max(state.norm, *(abs(value) for value in verified.values))
        outside = [i for i in range(len(state.theta)) if i not in chosen]
        state.basis.rotate(state.rotation[:, chosen + outside].T)
        ranking = sorted(range(len(chosen)), key=lambda i: -abs(verified.values[i]))
        limit = self.request.tolerance * norm
        return Spectrum(
            values=tuple(verified.values[i] for i in ranking),
            residual_norms=tuple(verified.residual_norms[i] for i in ranking),
            converged=tuple(verified.residual_norms[i] <= limit for i in ranking),
            norm=norm,
            exhausted=verdict.exhausted,
            found_by_fresh_starts=self.search.found,
            clean_starts=self.search.clean,
            searched=verdict.exhausted or self.search.clean >= self.request.fresh_starts,
            num_matvecs=self.spent,
            ritz_values=(*verified.values, *(state.theta[i] for i in outside)),
            ritz_residuals=(
                *verified.residual_norms,
                *(state.bounds[i] for i in outside),
            ),
            basis=state.basis,
            images=verified.images,
        )

    def _make_room(self) -> None:
        state, request = self.state, self.request
        if len(state.basis) == state.basis.capacity:
            state.restart(kept_at_restart(state.theta, self.top_k, request.ends, state.basis.capacity))

    def _join_random(self) -> None:
        continue_from(self.state, self.draw(self.search.draws))
        self.search.draws += 1


def _products(operator: SymmetricOperator, exact: SymmetricOperator) -> int:
    return operator.num_matvecs + (0 if exact is operator else exact.num_matvecs)


def _check(request: EigenRequest, basis: Basis, goal: int) -> None:
    if request.max_matvecs < 2 * goal:
        raise BadInput(
            f"max_matvecs is {request.max_matvecs}: too few for {goal} eigenvalues and their residuals",
            fix=f"allow at least {2 * goal}; five times as many is usual",
        )
    if request.tolerance <= 1.5 * basis.rounding:
        raise BadInput(
            f"a tolerance of {request.tolerance:.0e} is below what the stored basis can certify",
            fix="store the basis in a wider dtype, or ask for a larger tolerance",
        )
