"""The condition report against matrices whose conditioning is known."""

from __future__ import annotations

import numpy as np
import pytest
from atlas_pyhessian.condition import condition_report
from atlas_pyhessian.deflation import Deflation
from atlas_pyhessian.hutchinson1989trace import trace
from atlas_pyhessian.ubaru2017slq import quadrature
from atlas_pyhessian.wu2000thickrestart import EigenRequest, thick_restart_lanczos
from attrs import evolve

from atlas.quantities import UncertaintyKind


def report(operator, probes, *, top_k=4, eps=1e-3, density=False):
    sampler = probes(operator.size)
    spectrum = thick_restart_lanczos(
        operator, lambda i: sampler.rademacher("start", i), EigenRequest(top_k=top_k, tolerance=1e-6)
    )
    draw = lambda i: sampler.rademacher("probe", i)  # noqa: E731 - two calls share it
    deflation = Deflation.of_eigenvectors(spectrum)
    rules = [quadrature(operator, draw(i), i, 30, deflation)[0] for i in range(8)] if density else []
    estimate = trace(operator, draw, rel_se=None, max_probes=20, deflation=deflation)
    quantities = condition_report(spectrum, top_k=top_k, eps=eps, trace=estimate, rules=rules)
    return {quantity.quantity: quantity for quantity in quantities}


BULK = np.linspace(-0.5, 1.0, 100)


def test_an_indefinite_hessian_has_no_condition_number(dense, probes):
    observed = report(dense([9.0, 7.0, 3.0, -2.5, *BULK]), probes)
    literal = observed["condition_number"]
    assert literal.value is None
    assert literal.uncertainty_kind is UncertaintyKind.UNDEFINED
    assert "lambda_min = -2.5" in literal.note
    assert "is negative" in literal.note
    assert observed["negativity_ratio"].value == pytest.approx(2.5 / 9)
    assert observed["outlier_ratio"].value == pytest.approx(9 / 2.5)


def test_a_singular_hessian_has_no_condition_number(dense, probes):
    literal = report(dense([3.0, 2.0, 1.0, 0.0]), probes)["condition_number"]
    assert literal.value is None
    assert "not resolved from zero" in literal.note


def test_a_smallest_eigenvalue_within_its_residual_of_zero_gives_none(dense, probes):
    sampler = probes(3)
    spectrum = thick_restart_lanczos(
        dense([3.0, 2.0, 1e-4]), lambda i: sampler.rademacher("start", i), EigenRequest()
    )
    blurred = evolve(spectrum, residual_norms=(0.0, 0.0, 1e-3))
    literal = next(condition_report(blurred, top_k=5, eps=1e-3))
    assert literal.value is None
    assert "not resolved from zero" in literal.note


def test_a_negative_definite_hessian_has_no_negativity_ratio(dense, probes):
    ratio = report(dense(-np.linspace(0.1, 5, 60)), probes)["negativity_ratio"]
    assert ratio.value is None
    assert "not resolved from zero" in ratio.note


def test_the_outlier_ratio_ends_at_top_k_and_not_at_an_algebraic_end(dense, probes):
    ratio = report(dense([9.0, 7.0, 3.0, *np.linspace(0.001, 1, 60)]), probes, top_k=3)["outlier_ratio"]
    assert ratio.value == pytest.approx(3.0)
    assert ratio.note == "largest magnitude over number 3 by magnitude"


def test_a_positive_definite_hessian_has_one_with_its_bound(dense, probes):
    observed = report(dense([8.0, 4.0, 2.0, *np.linspace(0.5, 1, 80)]), probes)
    assert observed["condition_number"].value == pytest.approx(16.0, rel=1e-5)
    assert observed["condition_number"].uncertainty >= abs(observed["condition_number"].value - 16)
    assert observed["negativity_ratio"].value == 0.0


def test_kappa_is_a_bracket_that_closes_when_the_spectrum_is_whole(dense, probes):
    spectrum = [8.0, 4.0, 1.0, -0.1, 1e-9, 0.0]
    whole = report(dense(spectrum), probes, top_k=6)["kappa_eps"]
    assert whole.value == pytest.approx(80.0)
    assert whole.uncertainty <= 1e-3
    few = report(dense([8.0, 4.0, 1.0, -0.5, 0.1, 0.02, 0.0]), probes, top_k=3)["kappa_eps"]
    assert few.value == pytest.approx(400.0), "pairs beyond the wanted count too"
    partial = report(dense([*spectrum, *BULK * 0.01]), probes, top_k=3)["kappa_eps"]
    assert partial.low == pytest.approx(80.0, rel=1e-3)
    assert partial.high == pytest.approx(1000.0)


def test_effective_rank_and_counts_lie_within_their_errors(dense, probes):
    spectrum = np.array([9.0, 7.0, 3.0, -2.5, *BULK, *np.zeros(50)])
    observed = report(dense(spectrum), probes, density=True, eps=1e-2)
    rank = observed["effective_rank"]
    exact = spectrum.sum() ** 2 / (spectrum**2).sum()
    assert abs(rank.value - exact) <= 4 * rank.uncertainty
    below = observed["count_below_eps"]
    assert abs(below.value - (np.abs(spectrum) < 0.09).sum()) <= 4 * below.uncertainty + 5
    negative = observed["count_negative"]
    assert abs(negative.value - (spectrum < -0.09).sum()) <= 4 * negative.uncertainty + 5
    nuclear = observed["nuclear_rank"]
    assert abs(nuclear.value - np.abs(spectrum).sum() / 9) <= 4 * nuclear.uncertainty


def test_the_effective_ranks_error_is_its_scatter(dense, probes):
    """300 estimates; their spread against the mean of their own standard errors."""
    operator = dense([9.0, 7.0, 3.0, -2.5, *BULK])
    values, errors = [], []
    for seed in range(300):
        sampler = probes(operator.size, seed=seed)
        spectrum = thick_restart_lanczos(
            operator, lambda i, s=sampler: s.rademacher("start", i), EigenRequest(top_k=2)
        )
        estimate = trace(
            operator,
            lambda i, s=sampler: s.rademacher("probe", i),
            rel_se=None,
            max_probes=16,
            deflation=Deflation.of_eigenvectors(spectrum),
        )
        report = {q.quantity: q for q in condition_report(spectrum, top_k=2, eps=1e-3, trace=estimate)}
        values.append(report["effective_rank"].value)
        errors.append(report["effective_rank"].uncertainty)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


def test_a_zero_hessian_is_reported_without_a_number(dense, probes):
    observed = report(dense(np.zeros(12)), probes)
    assert {name for name, q in observed.items() if q.value is not None} == set()
