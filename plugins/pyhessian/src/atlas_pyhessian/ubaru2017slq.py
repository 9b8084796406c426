"""Spectral density by stochastic Lanczos quadrature, with the scatter between probes as its error.

Ubaru, Chen and Saad 2017, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature"; without
reorthogonalisation as analysed by Chen 2024, "The Lanczos algorithm for matrix functions": the ghost
Ritz values that then appear share the weight of the value they repeat, so that counts stay right and
three vectors are all that is held. Verified eigenvectors are projected out of every vector and enter
the density as themselves, one each; quadrature weights could not resolve single eigenvalues among 1e8.
Ritz vectors without a verified residual are left in: they are no eigenvectors, and taking them out would
move the eigenvalues that are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from attrs import frozen

from atlas_pyhessian import reductions
from atlas_pyhessian.deflation import Deflation, TraceSample
from atlas_pyhessian.hutchinson1989trace import Estimate, mean_estimate
from atlas_pyhessian.operators import SymmetricOperator

__all__ = ["Quadrature", "absolute_sum", "count_between", "quadrature"]


@frozen
class Quadrature:
    """One probe's rule: the remainder's spectrum as weighted points.

    Attributes:
        nodes: Ritz values, ascending.
        counts: Eigenvalues that each node stands for; they sum to `|P z|^2`, near n - m.
        diagonal: Of the tridiagonal matrix whose eigenvalues the nodes are.
        coupling: Beside its diagonal.
        complete: No further step was possible, so that the rule is exact for the probe.
    """

    nodes: tuple[float, ...]
    counts: tuple[float, ...]
    diagonal: tuple[float, ...] = ()
    coupling: tuple[float, ...] = ()
    complete: bool = True


def quadrature(
    operator: SymmetricOperator,
    probe: torch.Tensor,
    index: int,
    steps: int,
    deflation: Deflation | None = None,
) -> tuple[Quadrature, TraceSample]:
    """Run Lanczos from one Rademacher probe `[n]`, which is overwritten.

    Args:
        operator: Any symmetric operator.
        probe: The probe.
        index: Its number.
        steps: Products to spend at most.
        deflation: What to take out before each product; None for nothing.

    Returns:
        The rule, and the trace sample that its first product gives.
    """
    known = deflation or Deflation.whole(None)
    coefficients, current = known.clear(probe), probe
    mass = reductions.dot(current, current)
    resolution = 100 * torch.finfo(operator.dtype).eps
    if mass <= operator.size * resolution**2:
        mass = 0.0
    diagonal: list[float] = []
    coupling: list[float] = []
    sample = TraceSample(index, 0.0, 0.0)
    spare: torch.Tensor | None = None
    previous: torch.Tensor | None = None
    scale, complete = 0.0, True
    length = math.sqrt(mass)
    if mass > 0:
        current /= length
    while mass > 0 and len(diagonal) < steps:
        product = operator.matvec(current, out=spare)
        alpha = reductions.dot(current, product)
        if not diagonal:
            sample = known.sample(index, current, product, coefficients, length)
        diagonal.append(alpha)
        product.sub_(current, alpha=alpha)
        if previous is not None:
            product.sub_(previous, alpha=coupling[-1])
        known.clear_again(product)
        beta = reductions.norm(product)
        scale = max(scale, abs(alpha), beta)
        complete = beta <= resolution * scale
        if len(diagonal) == steps or complete:
            break
        coupling.append(beta)
        spare, previous, current = previous, current, product.div_(beta)
    size = len(diagonal)
    if size == 0:
        return Quadrature((), ()), sample
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    for row, beta in enumerate(coupling):
        matrix[row, row + 1] = matrix[row + 1, row] = beta
    nodes, vectors = torch.linalg.eigh(matrix)
    counts = vectors[0].square() * mass
    rule = Quadrature(
        tuple(nodes.tolist()), tuple(counts.tolist()), tuple(diagonal), tuple(coupling), complete
    )
    return rule, sample


def _per_probe(rules: Sequence[Quadrature], known: Sequence[float], of: Callable[[float], float]) -> Estimate:
    sums = [math.fsum(c * of(x) for x, c in zip(rule.nodes, rule.counts, strict=True)) for rule in rules]
    return mean_estimate(sums, math.fsum(of(x) for x in known))


def count_between(rules: Sequence[Quadrature], known: Sequence[float], low: float, high: float) -> Estimate:
    """Estimate how many eigenvalues lie in `[low, high)`.

    Args:
        rules: One per probe, at least two.
        known: Eigenvalues that were projected out, counted as themselves.
        low: Lower edge.
        high: Upper edge.
    """
    return _per_probe(rules, known, lambda x: float(low <= x < high))


def absolute_sum(rules: Sequence[Quadrature], known: Sequence[float]) -> Estimate:
    """Estimate the sum of the eigenvalues' magnitudes, the nuclear norm."""
    return _per_probe(rules, known, abs)
