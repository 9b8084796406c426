"""Trace intervals, deflation and quadrature against spectra that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from atlas_pyhessian.deflation import Deflation
from atlas_pyhessian.density import density
from atlas_pyhessian.golub1973nodes import Known
from atlas_pyhessian.hutchinson1989trace import mean_estimate, trace
from atlas_pyhessian.ubaru2017slq import absolute_sum, count_between, quadrature
from atlas_pyhessian.wu2000thickrestart import EigenRequest, thick_restart_lanczos

OUTLIERS = [9.0, -4.0, 3.0, 2.0]
SPECTRUM = np.concatenate([OUTLIERS, np.random.default_rng(1).standard_normal(120) * 0.05])


def rademacher(size, seed):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2, size) * 2.0 - 1.0)


def extreme(operator, probes, **options):
    sampler = probes(operator.size, dtype=operator.dtype)
    return thick_restart_lanczos(
        operator, lambda i: sampler.rademacher("start", i), EigenRequest(top_k=4, **options)
    )


def test_the_t_interval_is_the_textbook_one():
    estimate = mean_estimate([1.0, 2.0, 3.0, 6.0], offset=10.0)
    assert estimate.value == 13.0
    assert estimate.standard_error == pytest.approx(np.std([1, 2, 3, 6], ddof=1) / 2)
    assert estimate.high - estimate.value == pytest.approx(3.182446 * estimate.standard_error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rel_se", "max_probes", "deflated"),
    [(None, 4, True), (None, 24, True), (0.01, 100, True), (None, 24, False)],
)
def test_the_interval_covers_the_trace_in_93_to_97_of_100(dense, probes, rel_se, max_probes, deflated):
    """2,000 seeds; the binomial standard error of the coverage is 0.5%."""
    operator = dense(SPECTRUM)
    spectrum = extreme(operator, probes, tolerance=1e-6) if deflated else None
    exact = float(SPECTRUM.sum())
    hits = 0
    for seed in range(2000):
        estimate = trace(
            operator,
            lambda i, seed=seed: rademacher(operator.size, (seed, i)),
            rel_se=rel_se,
            max_probes=max_probes,
            deflation=Deflation.of_eigenvectors(spectrum),
        )
        hits += estimate.trace.low <= exact <= estimate.trace.high
    assert 0.93 <= hits / 2000 <= 0.97


def test_deflation_removes_the_outliers_from_the_scatter(dense, probes):
    operator = dense(SPECTRUM)
    spectrum = extreme(operator, probes)
    plain, deflated = (
        trace(
            operator,
            lambda i: rademacher(operator.size, i),
            rel_se=None,
            max_probes=24,
            deflation=Deflation.of_eigenvectors(s),
        )
        for s in (None, spectrum)
    )
    assert deflated.trace.standard_error < 0.1 * plain.trace.standard_error
    frobenius = float((SPECTRUM**2).sum())
    assert deflated.frobenius_squared.value == pytest.approx(frobenius, rel=0.01)
    assert plain.frobenius_squared.value == pytest.approx(frobenius, rel=0.5)


def test_a_float16_basis_does_not_bias_the_deflated_trace(dense, probes):
    """The Ritz values of the rounded basis must hold what the projection takes out.

    Rounding each entry by 2e-4 changes a squared length by about 4e-4 / sqrt(n); three times that.
    """
    bulk = np.random.default_rng(2).standard_normal(1500) * 0.05
    operator = dense(np.concatenate([OUTLIERS, bulk]), dtype=torch.float32)
    spectrum = extreme(operator, probes, storage=torch.float16)
    stack = torch.stack([spectrum.basis.vector(i) for i in range(len(spectrum.basis))]).double()
    exact = float(torch.einsum("in,nm,im->", stack, operator.matrix.double(), stack))
    assert sum(spectrum.ritz_values) == pytest.approx(exact, abs=3 * 4e-4 / 1504**0.5 * 18.0)


def test_the_trace_stops_at_the_error_asked_for_and_says_when_it_could_not(dense):
    operator = dense(np.abs(SPECTRUM))
    draw = lambda i: rademacher(operator.size, i)  # noqa: E731 - two calls below share it
    reached = trace(operator, draw, rel_se=0.05, max_probes=400)
    assert reached.converged
    assert reached.trace.standard_error <= 0.05 * reached.trace.value
    assert operator.num_matvecs == reached.trace.num_samples < 400
    short = trace(operator, draw, rel_se=0.001, max_probes=12)
    assert not short.converged
    assert short.trace.num_samples == 12


def test_samples_that_are_paid_for_are_not_drawn_again(dense):
    operator = dense(SPECTRUM)
    draw = lambda i: rademacher(operator.size, i)  # noqa: E731
    whole = trace(operator, draw, rel_se=None, max_probes=10)
    given = [quadrature(operator, draw(i), i, 5)[1] for i in range(4)]
    before = operator.num_matvecs
    resumed = trace(operator, draw, rel_se=None, max_probes=10, given=given)
    assert operator.num_matvecs - before == 6
    assert resumed.trace.value == pytest.approx(whole.trace.value)
    assert resumed.frobenius_squared.value == pytest.approx(whole.frobenius_squared.value)


def test_a_basis_that_spans_the_space_leaves_nothing_uncertain(dense, probes):
    operator = dense([4.0, -1.0, 0.5])
    spectrum = extreme(operator, probes)
    estimate = trace(
        operator,
        lambda i: rademacher(3, i),
        rel_se=0.01,
        max_probes=4,
        deflation=Deflation.of_eigenvectors(spectrum),
    )
    assert estimate.trace.value == pytest.approx(3.5)
    assert estimate.trace.standard_error <= 1e-12
    rule, sample = quadrature(operator, rademacher(3, 0), 0, 5, Deflation.of_eigenvectors(spectrum))
    assert sum(rule.counts) == 0
    assert sample.quadratic_form == 0


def test_a_rule_integrates_polynomials_exactly(dense):
    """k Lanczos steps give z^T H^j z for j < 2k."""
    operator = dense(SPECTRUM)
    probe = rademacher(operator.size, 3)
    expected, vector = [], probe.clone()
    for _ in range(6):
        expected.append(float(probe @ vector))
        vector = operator.matrix @ vector
    rule, sample = quadrature(operator, probe.clone(), 0, 3)
    moments = [sum(c * x**j for x, c in zip(rule.nodes, rule.counts, strict=True)) for j in range(6)]
    assert moments == pytest.approx(expected, rel=1e-9)
    assert sample.quadratic_form == pytest.approx(expected[1])
    assert sample.squared_length == pytest.approx(expected[2])


def test_counts_and_nuclear_norm_lie_within_their_errors(dense, probes):
    operator = dense(SPECTRUM)
    spectrum = extreme(operator, probes)
    rules = [
        quadrature(operator, rademacher(operator.size, i), i, 30, Deflation.of_eigenvectors(spectrum))[0]
        for i in range(20)
    ]
    negative = count_between(rules, spectrum.eigenvalues, -np.inf, 0.0)
    assert abs(negative.value - (SPECTRUM < 0).sum()) <= 4 * negative.standard_error
    nuclear = absolute_sum(rules, spectrum.eigenvalues)
    assert abs(nuclear.value - np.abs(SPECTRUM).sum()) <= 4 * nuclear.standard_error
    points = density(rules, Known.of(spectrum), 40)
    assert sum(point.count for point in points) == pytest.approx(operator.size, rel=0.02)
    assert points[-1].high >= 9.0 - 1e-6
    assert points[0].low <= -4.0 + 1e-6
    assert points[-1].count == pytest.approx(1.0)
