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

from collections.abc import Callable, Sequence

import torch
from attrs import evolve

from atlas_pyhessian.iteration import Iteration
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.restarts import MakeBasis, Restarts
from atlas_pyhessian.ritz import expand
from atlas_pyhessian.spectrum import (
    EigenRequest,
    Spectrum,
    default_basis_size,
    wanted,
)

__all__ = [
    "EigenRequest",
    "MakeBasis",
    "Spectrum",
    "default_basis_size",
    "thick_restart_lanczos",
    "wanted",
]


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
    exact = certifier if certifier is not None else operator
    resumed = restarts.running if restarts is not None else None
    run = Iteration.begin(
        operator, exact, draw, request, make_basis=make_basis, segments=segments, resumed=resumed
    )
    state, search = run.state, run.search
    expanded = resumed is not None and resumed.expanded
    while True:
        if expanded:
            state.diagonalise()
        else:
            if restarts is not None:
                restarts.save(state, search, spent=run.spent, expanded=False)
            expand(state, run.matrix, first_product)
        expanded, first_product = False, None
        undecided = evolve(search)
        verdict = run.judge()
        if report is not None:
            phase = "Lanczos" if undecided.known is None else "looking for missed eigenvalues"
            scale = max(state.norm, state.residual_norm)
            report(phase, verdict.spent, verdict.worst / scale if scale else 0.0)
        over = verdict.exhausted or run.is_last_chance(verdict)
        if verdict.settled and not over and search.clean < request.fresh_starts:
            run.start_afresh(verdict)
        elif verdict.settled or over:
            if restarts is not None:
                restarts.save(state, undecided, spent=verdict.spent, expanded=True)
            verified, failed = run.certify(verdict)
            if failed is None or verdict.exhausted or run.is_last_chance(verdict):
                return run.spectrum(verdict, verified)
            run.go_on_from(failed)
        else:
            run.go_on(verdict)
