"""Thick-restart Lanczos against exact spectra: values, residuals, pairs, clusters, scales, budgets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.wu2000thickrestart import EigenRequest, thick_restart_lanczos, wanted

from atlas.errors import BadInput


def solve(operator, probes, **request):
    sampler = probes(operator.size, dtype=operator.dtype)
    return thick_restart_lanczos(operator, lambda i: sampler.rademacher("start", i), EigenRequest(**request))


def extremes(values, top_k):
    """The largest magnitudes and both ends; unlike positions, they do not jump when values tie."""
    values = np.asarray(values, dtype=float)
    magnitudes = np.sort(np.abs(values))[::-1][:top_k]
    return [*magnitudes.tolist(), float(values.max()), float(values.min())]


def long_tail(size=300, seed=0):
    """A spectrum like a language model's: outliers of both signs over a bulk around zero."""
    bulk = np.random.default_rng(seed).standard_t(3, size) * 0.01
    return np.concatenate([[9.3, 7.3, 3.2, 2.7, -2.6, 1.9], bulk])


def test_wanted_holds_the_largest_magnitudes_and_both_ends():
    assert wanted([5.0, -4.0, 3.0, 0.1, -0.2], 2, 1) == [0, 1]
    assert wanted([5.0, 4.0, 3.0, 0.1, -0.2], 2, 1) == [0, 1, 4]
    assert wanted([1.0, -1.0], 5, 1) == [0, 1]
    assert wanted([5.0, 4.0, 3.0], 2, 0) == [0, 1]


@pytest.mark.parametrize("name", ["mlp", "gpt2", "llama", "gpt_neox"])
def test_eigenpairs_equal_the_exact_hessians(problem_and_hessian, probes, name):
    """Values to 1e-6 of ||H|| at both ends; residuals and eigenvectors as the certificate says."""
    problem, exact = problem_and_hessian(name)
    theta, vectors = torch.linalg.eigh(exact)
    norm = float(theta.abs().max())
    with prepared(problem.module) as parameters:
        operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=True)
        spectrum = solve(operator, probes, top_k=5, tolerance=1e-4)
    assert all(spectrum.converged)
    assert extremes(spectrum.values, 5) == pytest.approx(extremes(theta, 5), abs=1e-6 * norm)
    for position, value in enumerate(spectrum.ritz_values[: len(spectrum.values)]):
        vector = spectrum.basis.vector(position)
        residual = float(torch.linalg.norm(exact @ vector - value * vector))
        assert residual <= 1e-4 * norm
        assert residual == pytest.approx(spectrum.ritz_residuals[position], abs=1e-6 * norm)
        near = (theta - value).abs() <= 1e-2 * norm
        captured = float(torch.linalg.norm(vectors[:, near].T @ vector))
        assert captured >= 1 - 1e-2


@pytest.mark.parametrize("fresh_starts", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tail", ["long", "slow"])
def test_residuals_of_the_recurrence_are_those_of_products_that_were_not_paid(
    dense, probes, tail, dtype, fresh_starts
):
    """They lie above, by rounding only; locked pairs keep them while others are searched for."""
    flat = np.r_[1.0, 0.98, -0.97, 0.96, 0.95, np.linspace(-0.9, 0.9, 300)]
    operator = dense(long_tail() if tail == "long" else flat, dtype=dtype)
    spent: list[int] = []
    parts = (100, operator.size - 100)
    sampler = probes(operator.size, dtype=dtype)
    request = EigenRequest(top_k=5, basis_size=12, fresh_starts=fresh_starts, max_matvecs=2000)
    spectrum = thick_restart_lanczos(
        operator,
        lambda i: sampler.rademacher("start", i),
        request,
        segments=parts,
        report=lambda phase, products, residual: spent.append(products),
    )
    assert spectrum.settled
    assert spectrum.num_matvecs == operator.num_matvecs == spent[-1]
    exact, rounding = torch.linalg.eigvalsh(operator.matrix), 100 * torch.finfo(dtype).eps * spectrum.norm
    for position, image in enumerate(spectrum.images):
        value, bound = spectrum.ritz_values[position], spectrum.ritz_residuals[position]
        vector = spectrum.basis.vector(position)
        product = operator.matrix @ vector
        residual = float(torch.linalg.norm(product - value * vector))
        assert bound - 2 * rounding <= residual <= bound
        assert float((exact - value).abs().min()) <= bound
        for part, pieces in enumerate(zip(vector.split(parts), product.split(parts), strict=True)):
            forms, squares = float(pieces[0] @ pieces[1]), float(pieces[1] @ pieces[1])
            assert image.forms[part] == pytest.approx(forms, abs=2 * rounding)
            assert image.squares[part] == pytest.approx(squares, abs=2 * rounding * spectrum.norm)


def test_a_pair_found_by_a_fresh_start_unlocks_the_others_and_is_verified_by_products(dense, probes):
    operator = dense([1.0, 1.0, 0.5, *np.linspace(-0.1, 0.1, 100)])
    spent: list[int] = []
    sampler = probes(operator.size)
    spectrum = thick_restart_lanczos(
        operator,
        lambda i: sampler.rademacher("start", i),
        EigenRequest(top_k=2, ends=0, fresh_starts=1),
        report=lambda phase, products, residual: spent.append(products),
    )
    assert spectrum.values == pytest.approx([1.0, 1.0], abs=1e-3)
    assert spectrum.num_matvecs == spent[-1] + 2
    for position, bound in enumerate(spectrum.residual_norms):
        vector, value = spectrum.basis.vector(position), spectrum.ritz_values[position]
        residual = float(torch.linalg.norm(operator.matrix @ vector - value * vector))
        assert residual == pytest.approx(bound, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_scale_of_the_curvature_changes_nothing(dense, probes, scale, dtype):
    expected = extremes(long_tail(), 5)
    spectrum = solve(dense(long_tail() * scale, dtype=dtype), probes, top_k=5)
    assert all(spectrum.converged)
    observed = extremes([value / scale for value in spectrum.values], 5)
    assert observed == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(
    "spectrum",
    [
        [1.0, -1.0, *np.linspace(-0.3, 0.3, 60)],
        [1.0, 1.0, 1.0, 0.5, -0.5, *np.linspace(-0.3, 0.3, 60)],
        [1.0, 1.0 - 1e-7, 1.0 - 2e-7, 0.97, -0.96, 0.95, *np.linspace(-0.3, 0.3, 60)],
        [-5.0, -4.0, -3.0, *np.linspace(-1.0, -0.1, 60)],
        np.r_[np.ones(4), np.zeros(60)],
        -np.eye(40)[0] * 3.0,
    ],
    ids=["pair", "multiple", "cluster", "negative", "projector", "rank one"],
)
def test_pairs_clusters_and_multiplicities_are_found(dense, probes, spectrum):
    observed = solve(dense(spectrum), probes, top_k=5, tolerance=1e-6)
    assert all(observed.converged)
    assert extremes(observed.values, 5) == pytest.approx(extremes(spectrum, 5), abs=1e-6)


def test_one_start_vector_cannot_see_a_multiplicity_and_a_fresh_one_can(dense, probes):
    spectrum = [1.0, 1.0, 0.5, *np.linspace(-0.1, 0.1, 100)]
    alone = solve(dense(spectrum), probes, top_k=2, ends=0, tolerance=1e-6, fresh_starts=0)
    assert alone.values == pytest.approx([1.0, 0.5])
    assert alone.clean_starts == 0
    checked = solve(dense(spectrum), probes, top_k=2, ends=0, tolerance=1e-6, fresh_starts=1)
    assert checked.values == pytest.approx([1.0, 1.0])
    assert (checked.found_by_fresh_starts, checked.clean_starts) == (1, 1)


def test_a_zero_matrix_has_eigenvalues_zero(dense, probes):
    spectrum = solve(dense(np.zeros(20)), probes, top_k=3)
    assert set(spectrum.values) == {0.0}
    assert set(spectrum.residual_norms) == {0.0}
    assert all(spectrum.converged)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_more_eigenvalues_than_dimensions_gives_all_there_are(dense, probes, size):
    exact = [3.0, -2.0, 1.0, 1.0][:size]
    spectrum = solve(dense(exact), probes, top_k=9)
    assert spectrum.exhausted
    assert spectrum.values == pytest.approx(exact)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_start_vectors_that_repeat_in_few_dimensions_are_replaced(dense, probes, size):
    """Of two sign vectors in two dimensions, every second pair is parallel."""
    for seed in range(20):
        sampler = probes(size, seed=seed)
        observed = thick_restart_lanczos(
            dense(np.ones(size)), lambda i, draw=sampler: draw.rademacher("start", i), EigenRequest()
        )
        assert observed.values == pytest.approx([1.0] * size)


@pytest.mark.parametrize("top_k", [3, 5, 8])
def test_the_budget_holds_for_the_verification_too(dense, probes, top_k):
    least = 2 * (top_k + 2)
    for budget in (top_k + 4, least - 1):
        with pytest.raises(BadInput, match="too few for"):
            solve(dense(np.linspace(-1, 1, 60)), probes, top_k=top_k, max_matvecs=budget)
    for budget in range(least, least + 20):
        spectrum = solve(
            dense(np.linspace(-1, 1, 60)), probes, top_k=top_k, max_matvecs=budget, tolerance=1e-9
        )
        assert spectrum.num_matvecs <= budget
        assert len(spectrum.values) >= top_k


def test_a_spent_budget_is_said_and_the_residual_stays_true(dense, probes):
    operator = dense(np.linspace(-1, 1, 400))
    spectrum = solve(operator, probes, top_k=3, max_matvecs=12, tolerance=1e-6)
    assert spectrum.num_matvecs <= 12
    assert not any(spectrum.converged)
    exact = torch.linalg.eigvalsh(operator.matrix)
    for value, bound in zip(spectrum.values, spectrum.residual_norms, strict=True):
        assert 1e-6 < float((exact - value).abs().min()) <= bound


def test_a_float16_basis_meets_its_certificate(dense, probes):
    """Rounding perturbs stored vectors by 3e-4, which an explicit residual must show and still pass."""
    operator = dense(long_tail(1500), dtype=torch.float32)
    spectrum = solve(operator, probes, top_k=3, basis_size=8, storage=torch.float16)
    assert all(spectrum.converged)
    assert max(spectrum.residual_norms) >= 1e-4 * spectrum.norm
    assert extremes(spectrum.values, 3) == pytest.approx(extremes(long_tail(1500), 3), abs=1e-4)


def test_rounding_that_restarts_pile_up_is_repaired_from_the_explicit_residual(dense, probes):
    """Every restart rounds the basis again, unseen by the recurrence; verification sees it."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        heads = rng.uniform(0.85, 1, 6) * rng.choice([-1, 1], 6)
        spectrum = np.concatenate([heads, rng.uniform(-0.8, 0.8, 400)])
        operator = dense(spectrum, seed=seed, dtype=torch.float32)
        observed = solve(operator, probes, top_k=3, storage=torch.float16, max_matvecs=400)
        assert all(observed.converged), seed
        assert extremes(observed.values, 3) == pytest.approx(extremes(spectrum, 3), abs=1e-4)


def test_a_tolerance_below_the_rounding_of_the_basis_is_refused(dense, probes):
    operator = dense(long_tail(), dtype=torch.float32)
    with pytest.raises(BadInput, match="below what the stored basis can certify"):
        solve(operator, probes, tolerance=4e-4, storage=torch.float16)


def test_the_same_seed_gives_the_same_bits(dense, probes):
    first, second = (solve(dense(long_tail()), probes, top_k=4) for _ in range(2))
    assert first.values == second.values
    assert first.residual_norms == second.residual_norms


def test_a_known_first_product_is_not_paid_again(dense, probes):
    operator = dense(long_tail())
    sampler = probes(operator.size)
    start = sampler.rademacher("start", 0)
    product = operator.matrix @ (start / torch.linalg.norm(start))
    plain = solve(dense(long_tail()), probes, top_k=3)
    saved = thick_restart_lanczos(
        operator,
        lambda i: sampler.rademacher("start", i),
        EigenRequest(top_k=3),
        first_product=product,
    )
    assert saved.num_matvecs == plain.num_matvecs - 1
    assert saved.values == pytest.approx(plain.values, abs=1e-12)


@pytest.mark.slow
def test_nothing_is_missed_in_five_hundred_random_spectra(dense, probes):
    """Random spectra with +-pairs, exact multiplicities and clusters of relative width 1e-9 to 1e-4."""
    missed = []
    for seed in range(500):
        rng = np.random.default_rng(seed)
        heads = rng.standard_normal(rng.integers(3, 8)) * 10 ** rng.uniform(-1, 1)
        parts = [heads]
        parts.append(-heads[: rng.integers(0, 3)])
        parts.append(np.repeat(heads[0], rng.integers(0, 3)))
        width = 10 ** rng.uniform(-9, -4)
        parts.append(heads[1] * (1 + width * rng.standard_normal(rng.integers(0, 3))))
        parts.append(rng.standard_normal(60) * np.abs(heads).max() * rng.uniform(0.01, 0.3))
        spectrum = np.concatenate(parts)
        observed = solve(dense(spectrum, seed=seed), probes, top_k=5, max_matvecs=600, fresh_starts=2)
        gaps = np.subtract(extremes(observed.values, 5), extremes(spectrum, 5))
        gap = np.abs(gaps).max() / np.abs(spectrum).max()
        if gap > 2e-3 or not all(observed.converged):
            missed.append((seed, gap, observed.num_matvecs))
    assert missed == []
