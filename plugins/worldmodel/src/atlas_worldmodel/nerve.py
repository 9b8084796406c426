"""The nerve of an atlas: which charts overlap, the holes that they leave, and the forms that see them.

Charts are vertices, overlaps edges, and three charts that overlap in one place a filled triangle. A class
of the first cohomology is a number per edge whose sum around every triangle is zero, up to differences of
numbers at the vertices; their dimension is the first Betti number, the count of holes. With a partition of
unity w by the charts, a class c becomes the one-form `sum_ij c_ij w_i dw_j`: closed, with the sum of c
around a chain of charts as its integral along it (Bott and Tu 1982, "Differential forms in algebraic
topology", section 8). Without a hole there is none, whatever is constant in each chart: a constant form is
the derivative of a linear function.
"""

from __future__ import annotations

from itertools import combinations, pairwise

import networkx
import torch
from attrs import frozen

__all__ = ["Nerve", "truncated"]


def truncated(weights: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return a partition of unity with small supports, `[..., N]`: the excess over a threshold, squared.

    Squared and renormalised, its slope is continuous, and so are the forms of a nerve.

    Args:
        weights: Of the charts, adding up to 1, `[..., N]`.
        threshold: Below `1 / N`, so that at every point one chart at least exceeds it.
    """
    kept = (weights - threshold).clamp_min(0.0).square()
    return kept / kept.sum(-1, keepdim=True)


@frozen(eq=False)
class Nerve:
    """A simplicial complex of charts.

    Attributes:
        size: Charts, N.
        edges: Pairs `i < j` that overlap.
        triangles: Triples `i < j < k` that overlap in one place.
    """

    size: int
    edges: tuple[tuple[int, int], ...]
    triangles: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, weights: torch.Tensor) -> Nerve:
        """Return the nerve of a partition of unity, seen at points `[B, N]` that must lie densely."""
        size = weights.shape[-1]
        sets = {tuple(row.nonzero().flatten().tolist()) for row in _rows(weights > 0)}
        edges = {pair for members in sets for pair in combinations(members, 2)}
        triangles = {triple for members in sets for triple in combinations(members, 3)}
        return cls(size, tuple(sorted(edges)), tuple(sorted(triangles)))

    @property
    def betti(self) -> int:
        """The first Betti number."""
        return len(self.cycles)

    @property
    def cycles(self) -> tuple[tuple[int, ...], ...]:
        """Closed chains of charts, one around each independent hole, `(i, j, ..., i)`."""
        classes = self._harmonic()
        chosen: list[tuple[int, ...]] = []
        rows: list[torch.Tensor] = []
        for cycle in self._loops():
            row = self._sums(classes, cycle)
            if torch.linalg.matrix_rank(torch.stack([*rows, row]), atol=1e-9) > len(rows):
                chosen.append(cycle)
                rows.append(row)
            if len(chosen) == len(classes):
                break
        return tuple(chosen)

    @property
    def classes(self) -> torch.Tensor:
        """Classes `[K, N, N]`, antisymmetric: class k sums to 1 around cycle k and to 0 around the others."""
        classes, cycles = self._harmonic(), self.cycles
        if not cycles:
            return torch.zeros(0, self.size, self.size, dtype=torch.float64)
        sums = torch.stack([self._sums(classes, cycle) for cycle in cycles], 1)  # [classes, cycles]
        dual = torch.linalg.solve(sums, classes)
        square = torch.zeros(len(dual), self.size, self.size, dtype=torch.float64)
        for number, (i, j) in enumerate(self.edges):
            square[:, i, j], square[:, j, i] = dual[:, number], -dual[:, number]
        return square

    def _harmonic(self) -> torch.Tensor:
        """Return an orthonormal basis `[K, E]` of the edge functions without sum or divergence."""
        count = len(self.edges)
        if not count:
            return torch.zeros(0, 0, dtype=torch.float64)
        place = {edge: number for number, edge in enumerate(self.edges)}
        rows = torch.zeros(self.size + len(self.triangles), count, dtype=torch.float64)
        for (i, j), number in place.items():
            rows[i, number], rows[j, number] = -1.0, 1.0
        for offset, (i, j, k) in enumerate(self.triangles, self.size):
            rows[offset, place[i, j]], rows[offset, place[j, k]], rows[offset, place[i, k]] = 1.0, 1.0, -1.0
        _, singular, right = torch.linalg.svd(rows, full_matrices=True)
        rank = int((singular > 1e-9).sum())
        basis: torch.Tensor = right[rank:]
        return basis

    def _sums(self, classes: torch.Tensor, cycle: tuple[int, ...]) -> torch.Tensor:
        place = {edge: number for number, edge in enumerate(self.edges)}
        total = torch.zeros(len(classes), dtype=torch.float64)
        for i, j in pairwise(cycle):
            total += classes[:, place[i, j]] if i < j else -classes[:, place[j, i]]
        return total

    def _loops(self) -> list[tuple[int, ...]]:
        """Return closed chains of charts that generate all others, the shortest."""
        graph = networkx.Graph(self.edges)
        loops = [tuple(loop) for loop in networkx.minimum_cycle_basis(graph)]
        return sorted(((*loop, loop[0]) for loop in loops), key=lambda loop: (len(loop), loop))


def _rows(present: torch.Tensor) -> torch.Tensor:
    """Return the different rows of a table `[B, N]`."""
    rows: torch.Tensor = torch.unique(present, dim=0)
    return rows
