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
from itertools import pairwise

import torch
from attrs import frozen

from atlas_pyhessian.hutchinson1989trace import mean_estimate
from atlas_pyhessian.spectrum import Spectrum
from atlas_pyhessian.ubaru2017slq import Quadrature, absolute_sum, count_between

__all__ = [
    "Bracket",
    "Known",
    "absolute_sum_bracket",
    "below",
    "bounds_below",
    "count_bracket",
    "count_brackets",
    "negative_share_bracket",
    "rule_with_node",
]

_POSITIONS = 64
"""Places of the moved node at which the sum of magnitudes is evaluated."""


@frozen
class Known:
    """Eigenvalues that were taken out of the probes, counted as themselves.

    Attributes:
        values: Rayleigh quotients.
        residual: Frobenius norm of all their residuals together.
    """

    values: tuple[float, ...] = ()
    residual: float = 0.0

    @classmethod
    def of(cls, spectrum: Spectrum) -> Known:
        """Take what `Deflation.of_eigenvectors` takes out."""
        residuals = spectrum.ritz_residuals[: spectrum.num_eigenvectors]
        return cls(spectrum.eigenvalues, math.sqrt(math.fsum(r * r for r in residuals)))

    @property
    def absolute_sum(self) -> float:
        """Sum of their magnitudes."""
        return math.fsum(abs(value) for value in self.values)

    @property
    def slack(self) -> float:
        """By how much the residuals can change a sum of magnitudes: twice the sum of their norms at most."""
        return 2 * math.sqrt(len(self.values)) * self.residual


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


def below(rule: Quadrature, known: Known, edge: float) -> tuple[float, float]:
    """Return the least and the largest number of eigenvalues below `edge`, those taken out included.

    What was taken out has residuals R, so that the matrix is not split exactly. By the inertia of its
    Schur complement (Haynsworth 1968) the count at an edge is that of the known values and of the
    remainder shifted by at most |R|^2 / gap, gap being the edge's distance from the known values less |R|;
    close to one of them both parts shift by at most sqrt(2) |R| (Weyl).
    """
    everywhere = known.residual * math.sqrt(2.0)
    gap = min((abs(value - edge) for value in known.values), default=math.inf) - known.residual
    if known.residual <= gap * math.sqrt(2.0):
        shift, moved = (known.residual**2 / gap if gap else 0.0), 0.0
    else:
        shift = moved = everywhere
    least = sum(value < edge - moved for value in known.values)
    largest = sum(value < edge + moved for value in known.values)
    return least + bounds_below(rule, edge - shift)[0], largest + bounds_below(rule, edge + shift)[1]


def _bracket(value: float, lows: Sequence[float], highs: Sequence[float], certain: float) -> Bracket:
    low, high = max(certain, mean_estimate(lows).low), mean_estimate(highs).high
    return Bracket(value, min(value, low), max(value, high), len(lows))


def count_brackets(rules: Sequence[Quadrature], known: Known, edges: Sequence[float]) -> tuple[Bracket, ...]:
    """Estimate how many eigenvalues lie between each edge and the next, the next not included.

    The interval holds, at 95%, the scatter between probes and what the moments leave open.

    Args:
        rules: One per probe, at least two.
        known: What was taken out of the probes.
        edges: Ascending.
    """
    bounds = [[below(rule, known, edge) for edge in edges] for rule in rules]
    brackets = []
    for i, (low, high) in enumerate(pairwise(edges)):
        lows = [max(0.0, at[i + 1][0] - at[i][1]) for at in bounds]
        highs = [at[i + 1][1] - at[i][0] for at in bounds]
        certain = sum(low + known.residual <= value < high - known.residual for value in known.values)
        brackets.append(_bracket(count_between(rules, known.values, low, high).value, lows, highs, certain))
    return tuple(brackets)


def count_bracket(rules: Sequence[Quadrature], known: Known, low: float, high: float) -> Bracket:
    """Estimate how many eigenvalues lie in `[low, high)`; see `count_brackets`."""
    return count_brackets(rules, known, (low, high))[0]


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


def absolute_sum_bracket(rules: Sequence[Quadrature], known: Known) -> Bracket:
    """Estimate the sum of magnitudes, at 95% and with what the moments leave open."""
    ends = [_magnitudes(rule) for rule in rules]
    certain, slack = known.absolute_sum, known.slack
    value = absolute_sum(rules, known.values).value
    lows = [certain - slack + least for least, _ in ends]
    highs = [certain + slack + largest for _, largest in ends]
    return _bracket(value, lows, highs, max(0.0, certain - slack))


def negative_share_bracket(rules: Sequence[Quadrature], known: Known) -> Bracket:
    """Estimate the negative eigenvalues' part of the sum of magnitudes, at 95% and with what is left open.

    With the trace T and the sum of magnitudes S it is (1 - T / S) / 2. A rule gives its probe's part of T
    exactly and brackets S; the ratio's interval is that of its linearised scatter between probes, at the
    ends of S that make it smallest and largest.

    Args:
        rules: One per probe, at least two.
        known: What was taken out of the probes; not all of the spectrum may be zero.
    """
    offset = math.fsum(known.values)
    traces = [offset + math.fsum(x * c for x, c in zip(r.nodes, r.counts, strict=True)) for r in rules]
    ends = [_magnitudes(rule) for rule in rules]
    shares = []
    for end, slack in ((0, -known.slack), (1, known.slack)):
        sums = [
            max(known.absolute_sum + slack + pair[end], abs(t)) for pair, t in zip(ends, traces, strict=True)
        ]
        mean = math.fsum(sums) / len(sums)
        ratio = math.fsum(traces) / len(traces) / mean
        scatter = mean_estimate([t - ratio * s for t, s in zip(traces, sums, strict=True)])
        half = (scatter.high - scatter.value) / mean
        shares += [(1 - ratio - half) / 2, (1 - ratio + half) / 2]
    value = (1 - math.fsum(traces) / len(traces) / absolute_sum(rules, known.values).value) / 2
    low, high = max(0.0, min(shares)), min(1.0, max(shares))
    return Bracket(value, min(value, low), max(value, high), len(rules))
