"""XTrace and Hutch++ against their definitions, exact traces, and the coverage of their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from atlas_pyhessian.epperly2024xtrace import leave_one_out, xtrace
from atlas_pyhessian.meyer2021hutchplusplus import hutch_plus_plus
from atlas_pyhessian.wu2000thickrestart import EigenRequest, thick_restart_lanczos

from atlas.errors import BadInput

RNG = np.random.default_rng(11)
BULK = 60 * np.arange(1, 121) ** -0.7 * np.where(RNG.random(120) < 0.35, -1, 1)
INDEFINITE = np.concatenate([[930.0, 726, 320, 270, -256, 100, -80], BULK, np.zeros(113)])
METHODS = {"xtrace": xtrace, "hutch++": hutch_plus_plus}


def signs(size, *key):
    return torch.from_numpy(np.random.default_rng(key).integers(0, 2, size) * 2.0 - 1.0)


def estimate(method, operator, seed=0, **options):
    options = {"rel_se": None, "max_products": 32} | options
    return METHODS[method](operator, lambda i: signs(operator.size, seed, i), **options)


def ritz(operator, **options):
    request = EigenRequest(**{"top_k": 4, "fresh_starts": 0} | options)
    return thick_restart_lanczos(operator, lambda i: signs(operator.size, 99, i), request)


def test_leave_one_out_is_its_definition():
    """Each t_i with a projection computed from the other columns alone; a product that repeats included."""
    matrix = RNG.standard_normal((30, 30))
    matrix = matrix + matrix.T
    probes = RNG.standard_normal((30, 6))
    probes[:, 4] = probes[:, 1] - 2 * probes[:, 2]
    products = matrix @ probes
    kept = [0, 1, 2, 3, 5]
    basis = np.linalg.qr(products[:, kept])[0]
    expected = []
    for i in range(6):
        left, values, _ = np.linalg.svd(np.delete(products, i, axis=1), full_matrices=False)
        left = left[:, values > 1e-10 * values[0]]
        rest = probes[:, i] - left @ (left.T @ probes[:, i])
        expected.append(np.trace(left.T @ matrix @ left) + rest @ matrix @ rest)
    small = [torch.from_numpy(x) for x in (basis.T @ products, basis.T @ probes, basis.T @ matrix @ basis)]
    observed = leave_one_out(*small, kept, 1e-10)
    assert observed.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_sketch_holds_what_it_says_and_spends_what_it_may(dense, method):
    operator = dense(INDEFINITE)
    held = []

    def make_basis(capacity, size, dtype):
        from atlas_pyhessian.basis import Basis

        held.append(capacity)
        return Basis(capacity, size, storage=dtype, dtype=dtype, device=operator.device)

    estimate(method, operator, max_products=40, make_basis=make_basis)
    assert operator.num_matvecs == 40
    assert held == [{"xtrace": 20, "hutch++": 13}[method]]


@pytest.mark.parametrize("method", METHODS)
def test_a_matrix_of_low_rank_has_an_exact_trace(dense, method):
    spectrum = [5.0, -3.0, 2.0, 1.0, -0.5, *np.zeros(60)]
    operator = dense(spectrum)
    found = estimate(method, operator, rel_se=1e-6, max_products=60)
    assert found.converged
    assert found.trace.value == pytest.approx(4.5, rel=1e-9)
    assert operator.num_matvecs < 30
    if method == "hutch++":
        assert found.frobenius_squared.value == pytest.approx(39.25)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("deflated", [False, True])
def test_it_stops_at_the_error_asked_for_and_says_when_it_could_not(dense, method, deflated):
    operator = dense(np.abs(INDEFINITE))
    spectrum = ritz(operator) if deflated else None
    exact = np.abs(INDEFINITE).sum()
    reached = estimate(method, operator, rel_se=0.01, max_products=200, spectrum=spectrum)
    assert reached.converged
    assert reached.trace.standard_error <= 0.01 * exact * 1.01
    assert abs(reached.trace.value - exact) <= 5 * reached.trace.standard_error
    short = estimate(method, operator, rel_se=1e-5, max_products=24, spectrum=spectrum)
    assert not short.converged


@pytest.mark.parametrize("method", METHODS)
def test_too_few_products_for_an_error_are_refused(dense, method):
    with pytest.raises(BadInput, match="allow at least"):
        estimate(method, dense(INDEFINITE), max_products=12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("deflated", [False, True])
def test_both_estimates_are_unbiased_with_a_basis_that_has_not_converged(dense, method, deflated):
    """300 seeds; the mean lies within four of its own standard errors."""
    operator = dense(INDEFINITE)
    spectrum = ritz(operator, tolerance=0.5) if deflated else None
    exact = {"trace": INDEFINITE.sum(), "frobenius_squared": (INDEFINITE**2).sum()}
    found = [estimate(method, operator, seed, max_products=24, spectrum=spectrum) for seed in range(300)]
    for name, value in exact.items():
        errors = np.array([getattr(one, name).value for one in found]) - value
        assert abs(errors.mean()) <= 4 * errors.std() / 300**0.5


CASES = [("lm", None, 48), ("lm", 0.02, 96), ("rest", None, 24)]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("kind", "rel_se", "max_products"), CASES)
def test_intervals_cover_in_93_to_97_of_100(dense, method, kind, rel_se, max_products):
    """600 seeds, within two binomial standard errors of 0.9%; `benchmarks/trace.py` takes 2,000."""
    spectrum = INDEFINITE if kind == "lm" else INDEFINITE[7:]
    operator = dense(spectrum)
    hits = []
    for seed in range(600):
        found = estimate(method, operator, seed, rel_se=rel_se, max_products=max_products)
        hits.append(found.trace.low <= spectrum.sum() <= found.trace.high)
    assert 0.93 - 0.018 <= np.mean(hits) <= 0.97 + 0.018
