"""What quadrature leaves open about counts and magnitudes, against linear programmes and exact spectra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from atlas_pyhessian.condition import condition_report
from atlas_pyhessian.deflation import Deflation
from atlas_pyhessian.density import density
from atlas_pyhessian.golub1973nodes import (
    Known,
    absolute_sum_bracket,
    below,
    bounds_below,
    negative_share_bracket,
    rule_with_node,
)
from atlas_pyhessian.ubaru2017slq import Quadrature, quadrature
from atlas_pyhessian.wu2000thickrestart import EigenRequest, thick_restart_lanczos
from scipy.optimize import linprog

SPECTRUM = np.concatenate([[2.0, -1.0], np.random.default_rng(0).standard_normal(80) * 0.3])


def rule(dense, steps):
    operator = dense(SPECTRUM)
    signs = np.random.default_rng(1).integers(0, 2, operator.size) * 2.0 - 1.0
    return quadrature(operator, torch.from_numpy(signs), 0, steps)[0]


def extremes(found, function):
    """Least and largest integral over measures on a grid with the same moments, by linear programme."""
    grid = np.unique(np.concatenate([np.linspace(-4, 4, 1601), found.nodes]))
    degree = 2 * len(found.nodes) - 2
    moments = np.polynomial.chebyshev.chebvander(grid / 4, degree)
    at_nodes = np.polynomial.chebyshev.chebvander(np.array(found.nodes) / 4, degree)
    target = np.array(found.counts) @ at_nodes
    values = function(grid)
    ends = [linprog(sign * values, A_eq=moments.T, b_eq=target, method="highs") for sign in (1, -1)]
    assert [end.status for end in ends] == [0, 0]
    return ends[0].fun, -ends[1].fun


@pytest.mark.parametrize("node", [-3.0, -0.2, 0.0, 0.05, 1.7])
def test_a_rule_with_a_prescribed_node_keeps_the_moments(dense, node):
    found = rule(dense, 5)
    nodes, counts, position = rule_with_node(found, node)
    assert nodes[position] == pytest.approx(node, abs=1e-9)
    for power in range(9):
        expected = sum(c * x**power for x, c in zip(found.nodes, found.counts, strict=True))
        observed = sum(c * x**power for x, c in zip(nodes, counts, strict=True))
        assert observed == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("edge", [-0.5, 0.0, 0.25, 1.5])
def test_mass_below_an_edge_has_the_bounds_of_the_linear_programme(dense, edge):
    """0.5 of 82 is what the programme's grid of 0.005 allows."""
    found = rule(dense, 4)
    low, high = bounds_below(found, edge)
    assert low == pytest.approx(extremes(found, lambda x: (x < edge - 1e-9) * 1.0)[0], abs=0.5)
    assert high == pytest.approx(extremes(found, lambda x: (x <= edge + 1e-9) * 1.0)[1], abs=0.5)


def test_the_sum_of_magnitudes_has_the_bounds_of_the_linear_programme(dense):
    found = rule(dense, 4)
    same = absolute_sum_bracket([found, found], Known())
    assert (same.low, same.high) == pytest.approx(extremes(found, np.abs), rel=2e-3)


def test_a_rule_that_ended_by_itself_leaves_nothing_open(dense):
    operator = dense([3.0] * 10 + [-1.0] * 10)
    found = quadrature(operator, torch.ones(20, dtype=torch.float64), 0, 8)[0]
    assert found.complete
    low, high = bounds_below(found, 0.0)
    assert low == high


@pytest.mark.parametrize("bulk", ["gauss", "zeros"])
def test_counts_by_few_steps_cover_the_exact_counts(dense, probes, bulk):
    """20 seeds at the card's 4 probes and 16 steps: at 95%, four misses or more have odds of 1.6%."""
    noise = np.random.default_rng(3).standard_normal(300) * 10
    tail = noise if bulk == "gauss" else np.r_[np.zeros(200), noise[:100]]
    spectrum = np.concatenate([[930.0, 726, 320, 270, -256], tail])
    operator = dense(spectrum)
    edge = 1e-3 * 930
    exact = {
        "negative_mass": -spectrum[spectrum < 0].sum() / np.abs(spectrum).sum(),
        "count_below_eps": (np.abs(spectrum) < edge).sum(),
        "count_negative": (spectrum < -edge).sum(),
        "nuclear_rank": np.abs(spectrum).sum() / 930,
    }
    hits = dict.fromkeys(exact, 0)
    for seed in range(20):
        sampler = probes(operator.size, seed=seed)
        found = thick_restart_lanczos(
            operator, lambda i, s=sampler: s.rademacher("start", i), EigenRequest(fresh_starts=0)
        )
        rules = [
            quadrature(operator, sampler.rademacher("probe", i), i, 16, Deflation.of_eigenvectors(found))[0]
            for i in range(4)
        ]
        for quantity in condition_report(found, top_k=5, eps=1e-3, rules=rules):
            if quantity.quantity in exact:
                assert quantity.low <= quantity.value <= quantity.high
                hits[quantity.quantity] += quantity.low <= exact[quantity.quantity] <= quantity.high
    assert min(hits.values()) >= 17


def test_counts_by_interval_cover_the_exact_counts_with_eigenvectors_of_large_residual(dense, probes):
    """20 seeds, 40 intervals: at 95% each, fewer than 90% covered has odds far below 1e-3."""
    noise = np.random.default_rng(5).standard_normal(120) * 10
    spectrum = np.concatenate([[930.0, 726, 320, 270, -256, 120, -90], noise])
    operator = dense(spectrum)
    hits = []
    for seed in range(20):
        sampler = probes(operator.size, seed=seed)
        found = thick_restart_lanczos(
            operator, lambda i, s=sampler: s.rademacher("start", i), EigenRequest(tolerance=0.05)
        )
        deflation = Deflation.of_eigenvectors(found)
        rules = [quadrature(operator, sampler.rademacher("probe", i), i, 16, deflation)[0] for i in range(4)]
        for point in density(rules, Known.of(found), 40):
            exact = ((spectrum >= point.low) & (spectrum < point.high)).sum()
            assert point.count_low <= point.count <= point.count_high
            hits.append(point.count_low <= exact <= point.count_high)
    assert np.mean(hits) >= 0.9


@pytest.mark.parametrize("edge", [-5.0, 0.5, 1.5, 7.9, 8.1, 9.5])
def test_residuals_of_what_was_taken_out_widen_a_count_enough(edge):
    """Exact remainder, known vectors turned by up to 20 degrees: the count below any edge is bracketed."""
    generator = np.random.default_rng(6)
    for _ in range(200):
        matrix = np.diag([8.0, -6.0, 1.0, 0.6, 0.2, -0.3, 0.4, -0.1])
        turn = np.linalg.qr(np.eye(8) + 0.1 * generator.standard_normal((8, 8)))[0]
        rotated = np.linalg.eigh(turn[:, :2].T @ matrix @ turn[:, :2])
        taken = turn[:, :2] @ rotated[1]
        residual = np.linalg.norm(matrix @ taken - taken * rotated[0])
        rest = turn[:, 2:].T @ matrix @ turn[:, 2:]
        nodes, ones = np.linalg.eigvalsh(rest), np.ones(6)
        low, high = below(Quadrature(tuple(nodes), tuple(ones)), Known(tuple(rotated[0]), residual), edge)
        assert low <= (np.diag(matrix) < edge).sum() <= high


def test_the_negative_share_covers_the_exact_one(dense):
    """60 seeds, 8 probes of 12 steps; at 95%, eight misses or more have odds of 1%."""
    spectrum = np.random.default_rng(7).standard_normal(300) * 0.2 + 0.1
    operator = dense(spectrum)
    exact = -spectrum[spectrum < 0].sum() / np.abs(spectrum).sum()
    hits = 0
    for seed in range(60):
        signs = np.random.default_rng(seed).integers(0, 2, (8, operator.size)) * 2.0 - 1.0
        rules = [quadrature(operator, torch.from_numpy(z), 0, 12)[0] for z in signs]
        share = negative_share_bracket(rules, Known())
        assert share.low <= share.value <= share.high
        assert share.high - share.low < 0.3
        hits += share.low <= exact <= share.high
    assert hits >= 53
