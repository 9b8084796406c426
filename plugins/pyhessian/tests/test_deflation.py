"""What one product says of trace, Frobenius norm and tensors: unbiased whatever the Ritz basis is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from atlas_pyhessian.condition import condition_report
from atlas_pyhessian.deflation import Deflation
from atlas_pyhessian.hutchinson1989trace import trace
from atlas_pyhessian.segments import by_segment
from atlas_pyhessian.ubaru2017slq import quadrature
from atlas_pyhessian.wu2000thickrestart import EigenRequest, thick_restart_lanczos

SPECTRUM = np.concatenate([[9.0, -4, 3, 2, 1.5, -1.4], np.random.default_rng(1).standard_normal(54) * 0.3])
SEGMENTS = (7, 1, 30, 22)


def signs(size, *key):
    return torch.from_numpy(np.random.default_rng(key).integers(0, 2, size) * 2.0 - 1.0)


def ritz(operator, segments=SEGMENTS, **options):
    """Return a basis far from convergence: its Ritz vectors are no eigenvectors."""
    given = {"top_k": 2, "ends": 0, "basis_size": 8, "tolerance": 0.3, "fresh_starts": 0, "max_matvecs": 11}
    request = EigenRequest(**given | options)
    return thick_restart_lanczos(operator, lambda i: signs(operator.size, 7, i), request, segments=segments)


def mean_error(samples, exact):
    """Return how many of its own standard errors the mean of samples `[N, ...]` is from the exact value."""
    samples = np.array(samples)
    return np.abs(samples.mean(0) - exact) / (samples.std(0) / len(samples) ** 0.5)


def blocks(matrix):
    edges = np.cumsum([0, *SEGMENTS])
    pairs = list(pairwise(edges))
    traces = [float(matrix[a:b, a:b].trace()) for a, b in pairs]
    return np.array(traces), np.array([float(matrix[a:b].square().sum()) for a, b in pairs])


@pytest.mark.parametrize("taken_out", ["none", "verified before, others after", "all before"])
def test_trace_frobenius_norm_and_tensors_are_unbiased_where_no_ritz_vector_converged(dense, taken_out):
    """4,000 probes; each mean lies within 4.5 of its standard errors of the exact matrix's value."""
    operator = dense(SPECTRUM)
    spectrum = None if taken_out == "none" else ritz(operator)
    segments = () if taken_out == "all before" else SEGMENTS
    deflation = Deflation.of_eigenvectors(spectrum, segments)
    if taken_out == "all before":
        deflation = Deflation.whole(spectrum)
    if spectrum is not None:
        assert max(spectrum.ritz_residuals[spectrum.num_verified :]) > 0.1
        assert spectrum.num_verified < len(spectrum.basis)
    samples = []
    for index in range(4000):
        probe = signs(operator.size, index)
        coefficients = deflation.clear(probe)
        samples.append(deflation.sample(index, probe, operator.matvec(probe), coefficients))
    known = np.array(deflation.ritz_values)
    traces = [known.sum() + s.quadratic_form for s in samples]
    squares = [(known**2).sum() + s.squared_length for s in samples]
    assert mean_error(traces, SPECTRUM.sum()) <= 4.5
    assert mean_error(squares, (SPECTRUM**2).sum()) <= 4.5
    if segments:
        exact_traces, exact_squares = blocks(operator.matrix)
        forms = np.array([s.segment_forms for s in samples]) + deflation.known.forms
        lengths = np.array([s.segment_squares for s in samples]) + deflation.known.squares
        assert mean_error(forms, exact_traces).max() <= 4.5
        assert mean_error(lengths, exact_squares).max() <= 4.5


def test_taking_vectors_out_after_the_product_is_as_good_as_before_it(dense):
    """The scatter of the trace and of the Frobenius norm where some of ten vectors are taken out before."""
    operator = dense(SPECTRUM)
    spectrum = ritz(operator, top_k=3, ends=1, basis_size=None, tolerance=1e-6, max_matvecs=60)
    ways = (Deflation.of_eigenvectors(spectrum), Deflation.whole(spectrum))
    estimates = [
        trace(operator, lambda i: signs(operator.size, i), rel_se=None, max_probes=400, deflation=way)
        for way in ways
    ]
    for name in ("trace", "frobenius_squared"):
        after, before = (getattr(one, name).standard_error for one in estimates)
        assert after <= 1.1 * before


def test_a_densitys_first_product_is_the_probe_itself(dense):
    operator = dense(SPECTRUM)
    deflation = Deflation.of_eigenvectors(ritz(operator), SEGMENTS)
    probe = signs(operator.size, 3)
    sample = quadrature(operator, probe.clone(), 0, 4, deflation)[1]
    coefficients = deflation.clear(probe)
    alone = deflation.sample(0, probe, operator.matvec(probe), coefficients)
    assert sample.quadratic_form == pytest.approx(alone.quadratic_form)
    assert sample.squared_length == pytest.approx(alone.squared_length)
    assert sample.segment_forms == pytest.approx(alone.segment_forms)
    assert sample.segment_squares == pytest.approx(alone.segment_squares)


def test_tensors_of_an_exact_hessian_lie_in_their_intervals(problem_and_hessian, dense):
    """150 seeds of 16 probes: of all tensors' intervals 95% cover to 1%, of no tensor's fewer than 88%."""
    problem, hessian = problem_and_hessian("gpt2")
    operator = dense([0.0])
    operator.matrix = hessian
    sizes = tuple(p.numel() for p in problem.module.parameters())
    request = EigenRequest(top_k=3, ends=1, fresh_starts=0)
    spectrum = thick_restart_lanczos(operator, lambda i: signs(operator.size, 9, i), request, segments=sizes)
    deflation = Deflation.of_eigenvectors(spectrum, sizes)
    exact = np.array([float(part.sum()) for part in hessian.diagonal().split(sizes)])
    covered = []
    for seed in range(150):
        estimate = trace(
            operator,
            lambda i, s=seed: signs(operator.size, s, i),
            rel_se=None,
            max_probes=16,
            deflation=deflation,
        )
        found = by_segment(estimate, deflation)
        tolerance = 1e-9 * spectrum.norm
        covered.append(
            [
                one.trace.low - tolerance <= x <= one.trace.high + tolerance
                for one, x in zip(found, exact, strict=True)
            ]
        )
    assert sum(one.share for one in found) == pytest.approx(1.0)
    assert 0.93 <= np.mean(covered) <= 0.98
    assert np.mean(covered, axis=0).min() >= 0.88


def test_the_effective_ranks_error_is_its_scatter_before_convergence(dense):
    """300 estimates about a basis that has not converged; spread against the mean of their own errors."""
    operator = dense(SPECTRUM)
    spectrum = ritz(operator)
    deflation = Deflation.of_eigenvectors(spectrum)
    ranks = []
    for seed in range(300):
        estimate = trace(
            operator, lambda i, s=seed: signs(60, s, i), rel_se=None, max_probes=16, deflation=deflation
        )
        report = condition_report(spectrum, top_k=3, eps=1e-3, trace=estimate)
        ranks.append(next(q for q in report if q.quantity == "effective_rank"))
    spread = np.std([rank.value for rank in ranks])
    assert np.mean([rank.uncertainty for rank in ranks]) == pytest.approx(spread, rel=0.15)


def test_a_search_that_ran_out_of_budget_has_not_converged(dense):
    """The first start vector's pairs are certified; the fresh start is then cut off."""
    operator = dense(np.concatenate([[9.0, -4, 3, 2], np.random.default_rng(2).standard_normal(80) * 0.2]))
    whole = ritz(operator, (), tolerance=1e-3, fresh_starts=1, max_matvecs=200)
    assert whole.searched
    assert whole.settled
    cut = ritz(operator, (), tolerance=1e-3, fresh_starts=9, max_matvecs=whole.num_matvecs)
    assert all(cut.converged)
    assert not cut.searched
    assert not cut.settled
    ratio = {q.quantity: q for q in condition_report(cut, top_k=3, eps=1e-3)}["negativity_ratio"]
    assert not ratio.converged
