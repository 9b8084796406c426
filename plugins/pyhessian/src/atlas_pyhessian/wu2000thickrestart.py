"""Extreme eigenpairs of a symmetric operator by thick-restart Lanczos, each with a verified residual.

Wu and Simon 2000, "Thick-restart Lanczos method for large symmetric eigenvalue problems", SIAM J. Matrix
Anal. Appl. 22(2). Every new vector is orthogonalised against the whole basis and the projected matrix is
built from the coefficients so measured, not from the three-term recurrence, because stored vectors may
be rounded to float16. What is reported is the residual `||H v - lambda v||`, which bounds the distance
to an eigenvalue: the recurrence's own where products and stored vectors are exact to a rounding that
the tolerance does not notice, and that of an extra product elsewhere. Where an extra product fails the
tolerance, since every restart has rounded a float16 basis once more, the iteration goes on from the
explicit residual itself: of 40 slow spectra all then converged, and 20 did from random vectors.

A Krylov space holds one vector of each eigenspace, so that a single start vector cannot see a repeated
eigenvalue, and sees a tight cluster as one. `fresh_starts` guards against that: after convergence a
fresh random vector joins the basis and the iteration goes on until the leading outsider is bounded away
from the wanted set or has entered it, as often in a row without finding as is asked for. Pairs that the
recurrence certified are locked meanwhile, and stay certified where nothing is found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from attrs import evolve

from atlas.errors import BadInput
from atlas_pyhessian import reductions
from atlas_pyhessian.basis import Basis
from atlas_pyhessian.certificate import clears, from_recurrence, unmatched, verify
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.restarts import MakeBasis, Restarts, Search
from atlas_pyhessian.ritz import RitzState, continue_from, expand, kept_at_restart
from atlas_pyhessian.spectrum import SHORT, EigenRequest, Spectrum, default_basis_size, wanted

__all__ = ["EigenRequest", "MakeBasis", "Spectrum", "default_basis_size", "thick_restart_lanczos", "wanted"]

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


def _checked(request: EigenRequest, basis: Basis, goal: int) -> None:
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


def thick_restart_lanczos(
    operator: SymmetricOperator,
    draw: Callable[[int], torch.Tensor],
    request: EigenRequest,
    *,
    certifier: SymmetricOperator | None = None,
    make_basis: MakeBasis | None = None,
    first_product: torch.Tensor | None = None,
    segments: Sequence[int] = (),
    restarts: Restarts | None = None,
    report: Callable[[str, int, float], None] | None = None,
) -> Spectrum:
    """Return the wanted eigenpairs with verified residuals.

    Args:
        operator: Any symmetric operator.
        draw: Returns random start vector number i, `[n]`, a new tensor each time.
        request: What is wanted, how exactly, and at what cost.
        certifier: The same matrix with more exact products, for residuals; None takes `operator`. Its
            products count like the operator's, and after a residual that fails it takes its place.
        make_basis: Makes the basis; None keeps it in memory on the operator's device.
        first_product: The product with `draw(0)` scaled to unit length, where it is known already.
        segments: Lengths of consecutive pieces of a vector by which the verifying products are summed too.
        restarts: Where the state is left from time to time; one that an interrupted attempt left there
            is gone on from, and its products are counted.
        report: Called with what is being done, products so far, and the worst wanted residual
            relative to ||H||.

    Returns:
        The pairs; `converged` is false where the budget ran out before the tolerance was met.

    Raises:
        BadInput: The tolerance is below what the stored basis can certify, or the budget is too small.
        InstrumentFailed: A product is not finite.
    """
    size, storage = operator.size, request.storage or operator.dtype
    exact = certifier if certifier is not None else operator
    matrices = [operator] if exact is operator else [operator, exact]
    started = sum(matrix.num_matvecs for matrix in matrices)

    def products() -> int:
        return sum(matrix.num_matvecs for matrix in matrices) - started

    top_k, ends, tolerance = min(request.top_k, size), request.ends, request.tolerance
    goal = min(size, top_k + 2 * ends)
    capacity = request.capacity(size)
    if make_basis is not None:
        basis = make_basis(capacity, size, storage)
    else:
        basis = Basis(capacity, size, storage=storage, dtype=operator.dtype, device=operator.device)
    _checked(request, basis, goal)
    fresh_steps = _FRESH_STEPS if size > SHORT else _SHORT_FRESH_STEPS
    resolution = 100 * torch.finfo(operator.dtype).eps
    resumed = restarts.running if restarts is not None else None
    if resumed is not None:
        state, search = resumed.restore(basis, operator.dtype)
        started -= resumed.spent
    else:
        square = torch.zeros(basis.capacity, basis.capacity, dtype=torch.float64)
        start = draw(0)
        state = RitzState(basis, square, start, reductions.norm(start))
        if exact is operator and basis.rounding <= _EXACT:
            state.defect = resolution
        search = Search(stop=_MARGIN * math.sqrt(tolerance**2 - basis.rounding**2))
    expanded = resumed is not None and resumed.expanded
    while True:
        if expanded:
            state.diagonalise()
        else:
            if restarts is not None:
                restarts.save(state, search, spent=products(), expanded=False)
            expand(state, exact if search.exact else operator, first_product)
        expanded, first_product = False, None
        undecided = evolve(search)
        chosen = wanted(state.theta, top_k, ends)
        if state.locked is not None and set(chosen) != set(range(len(state.locked.values))):
            state.unlock()
            chosen = wanted(state.theta, top_k, ends)
        spent = products()
        worst = max(state.bounds[i] for i in chosen)
        if report is not None:
            phase = "Lanczos" if search.known is None else "looking for missed eigenvalues"
            scale = max(state.norm, state.residual_norm)
            report(phase, spent, worst / scale if scale else 0.0)
        exhausted = len(basis) == size
        broken = state.residual_norm <= resolution * state.norm
        implied = state.locked is not None or state.defect <= (1.0 - _MARGIN) * tolerance
        reserve = 0 if implied else min(goal, len(basis) + 1)
        last_chance = request.max_matvecs - spent <= reserve
        stop = search.stop
        if implied:
            stop = tolerance - (state.defect if state.locked is None else 0.0)
        settled = len(state.theta) >= goal and worst <= stop * state.norm
        if search.known is not None:
            slack = tolerance * state.norm
            settled = settled and (state.since_fresh >= fresh_steps or broken)
            settled = settled and clears(state, chosen, top_k, ends, slack)
            if settled or exhausted:
                news = unmatched(search.known, [state.theta[i] for i in chosen], slack)
                search.found, search.clean = search.found + news, 0 if news else search.clean + 1
        if settled and not (exhausted or last_chance) and search.clean < request.fresh_starts:
            search.known = [state.theta[i] for i in chosen]
            locked = state.locked
            if locked is None and implied:
                locked = from_recurrence(state, chosen, state.defect * state.norm, segments)
            if locked is None:
                state.defect = math.inf
            state.restart(chosen)
            state.locked = locked
            continue_from(state, draw(search.draws))
            search.draws += 1
            continue
        if settled or exhausted or last_chance:
            if restarts is not None:
                restarts.save(state, undecided, spent=spent, expanded=True)
            failed = None
            if state.locked is not None:
                verified = state.locked
            elif implied:
                verified = from_recurrence(state, chosen, state.defect * state.norm, segments)
            else:
                verified, failed = verify(state, exact, chosen, tolerance, segments)
            norm = max(state.norm, *(abs(value) for value in verified.values))
            spent = products()
            if failed is None or exhausted or request.max_matvecs - spent <= reserve:
                break
            search.stop *= 0.5
            search.exact = True
            if len(basis) == basis.capacity:
                state.restart(kept_at_restart(state.theta, top_k, ends, basis.capacity))
            continue_from(state, failed)
            state.defect = math.inf
            continue
        if len(basis) == basis.capacity:
            state.restart(kept_at_restart(state.theta, top_k, ends, basis.capacity))
        if broken:
            continue_from(state, draw(search.draws))
            search.draws += 1
            state.defect += resolution
    order = chosen + [i for i in range(len(state.theta)) if i not in chosen]
    basis.rotate(state.rotation[:, order].T)
    outside = order[len(chosen) :]
    ranking = sorted(range(len(chosen)), key=lambda i: -abs(verified.values[i]))
    return Spectrum(
        values=tuple(verified.values[i] for i in ranking),
        residual_norms=tuple(verified.residual_norms[i] for i in ranking),
        converged=tuple(verified.residual_norms[i] <= tolerance * norm for i in ranking),
        norm=norm,
        exhausted=exhausted,
        found_by_fresh_starts=search.found,
        clean_starts=search.clean,
        searched=exhausted or search.clean >= request.fresh_starts,
        num_matvecs=products(),
        ritz_values=(*verified.values, *(state.theta[i] for i in outside)),
        ritz_residuals=(*verified.residual_norms, *(state.bounds[i] for i in outside)),
        basis=basis,
        images=verified.images,
    )
