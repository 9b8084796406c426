"""What a few Lanczos steps leave open about a spectrum: sharp bounds on counts and magnitudes.

k steps from a probe fix the moments 0 to 2k - 2 of the spectrum as the probe weighs it, and many spectra
share these. Golub 1973, "Some modified matrix eigenvalue problems", changes the last diagonal entry of
the tridiagonal matrix so that its rule keeps these moments and has a node at a given x. By the
Chebyshev-Markov-Stieltjes inequalities (Golub and Meurant 2010, "Matrices, Moments and Quadrature") the
mass of such a rule below x, without and with the node at x, bounds the mass of every spectrum with these
moments. The sum of magnitudes has its extremes on the same family of rules: the least at x = 0, where a
polynomial touches |x| from below, and the largest within the one gap of nodes that x is moved through.

Scatter between probes cannot show this: with many parameters all probes give the same nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from attrs import frozen

from atlas_pyhessian.hutchinson1989trace import mean_estimate
from atlas_pyhessian.ubaru2017slq import Quadrature, absolute_sum, count_between

__all__ = ["Bracket", "absolute_sum_bracket", "bounds_below", "count_bracket", "rule_with_node"]

_POSITIONS = 64
"""Places of the moved node at which the sum of magnitudes is evaluated."""


@frozen
class Bracket:
    """A value with an interval that holds both what the moments leave open and the probes' scatter."""

    value: float
    low: float
    high: float
    num_samples: int


def rule_with_node(rule: Quadrature, node: float) -> tuple[list[float], list[float], int]:
    """Return nodes and counts of the rule that has a node at `node`, and that node's position."""
    diagonal, coupling = list(rule.diagonal), rule.coupling
    if len(diagonal) == 1:
        return [node], [math.fsum(rule.counts)], 0
    smallest = torch.finfo(torch.float64).tiny ** 0.5
    pivot = node - diagonal[0]
    for row in range(1, len(diagonal)):
        square = coupling[row - 1] ** 2 / (pivot if abs(pivot) > smallest else smallest)
        if row == len(diagonal) - 1:
            diagonal[row] = node - square
        else:
            pivot = node - diagonal[row] - square
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    matrix += torch.diag(torch.tensor(coupling, dtype=torch.float64), 1)
    matrix += torch.diag(torch.tensor(coupling, dtype=torch.float64), -1)
    nodes, vectors = torch.linalg.eigh(matrix)
    counts = vectors[0].square() * math.fsum(rule.counts)
    return nodes.tolist(), counts.tolist(), int((nodes - node).abs().argmin())


def bounds_below(rule: Quadrature, edge: float) -> tuple[float, float]:
    """Return the least and the largest mass below `edge` of any spectrum with the rule's moments."""
    if rule.complete or math.isinf(edge):
        mass = math.fsum(count for node, count in zip(rule.nodes, rule.counts, strict=True) if node < edge)
        return mass, mass
    _, counts, position = rule_with_node(rule, edge)
    return math.fsum(counts[:position]), math.fsum(counts[: position + 1])


def _bracket(value: float, lows: Sequence[float], highs: Sequence[float], known: float) -> Bracket:
    low, high = mean_estimate(lows, known).low, mean_estimate(highs, known).high
    return Bracket(value, min(value, max(low, known)), max(value, high), len(lows))


def count_bracket(rules: Sequence[Quadrature], known: Sequence[float], low: float, high: float) -> Bracket:
    """Estimate how many eigenvalues lie in `[low, high)`, at 95% and with what the moments leave open.

    Args:
        rules: One per probe, at least two.
        known: Eigenvalues that were projected out, counted as themselves.
        low: Lower edge.
        high: Upper edge.
    """
    lows, highs = [], []
    for rule in rules:
        below, above = bounds_below(rule, low), bounds_below(rule, high)
        lows.append(max(0.0, above[0] - below[1]))
        highs.append(above[1] - below[0])
    certain = math.fsum(float(low <= x < high) for x in known)
    return _bracket(count_between(rules, known, low, high).value, lows, highs, certain)


def _magnitudes(rule: Quadrature) -> tuple[float, float]:
    """Return the least and the largest sum of magnitudes of any spectrum with the rule's moments."""
    if rule.complete:
        total = math.fsum(abs(x) * c for x, c in zip(rule.nodes, rule.counts, strict=True))
        return total, total
    gap = min(range(len(rule.nodes) - 1), key=lambda i: abs(rule.nodes[i] + rule.nodes[i + 1]))
    left, width = rule.nodes[gap], rule.nodes[gap + 1] - rule.nodes[gap]
    sums = []
    for node in [0.0, *(left + width * (i + 0.5) / _POSITIONS for i in range(_POSITIONS))]:
        nodes, counts, _ = rule_with_node(rule, node)
        sums.append(math.fsum(abs(x) * c for x, c in zip(nodes, counts, strict=True)))
    return sums[0], max(sums)


def absolute_sum_bracket(rules: Sequence[Quadrature], known: Sequence[float]) -> Bracket:
    """Estimate the sum of magnitudes, at 95% and with what the moments leave open."""
    lows, highs = zip(*(_magnitudes(rule) for rule in rules), strict=True)
    return _bracket(absolute_sum(rules, known).value, lows, highs, math.fsum(abs(x) for x in known))
