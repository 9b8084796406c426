"""What quadrature leaves open about counts and magnitudes, against linear programmes and exact spectra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from atlas_pyhessian.condition import condition_report
from atlas_pyhessian.deflation import Deflation
from atlas_pyhessian.golub1973nodes import absolute_sum_bracket, bounds_below, rule_with_node
from atlas_pyhessian.ubaru2017slq import quadrature
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
    same = absolute_sum_bracket([found, found], [])
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
