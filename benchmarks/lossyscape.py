"""The floor by the Newton decrement against the exact one, and how often intervals hold what was planted.

    python benchmarks/lossyscape.py

Quadratics `g.x + x^T H x / 2` with prescribed eigenvalues in random coordinates; the exact floor is that of a
dense solve in float64. One row takes certified pairs of the whole space, the other a Krylov space of a
quarter of the dimensions, all of its positive pairs. The matched correlation is planted in tokens whose loss
and curvature also share causes that rarity and position explain.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import torch
from atlas_lossyscape.correlation import matched_spearman
from atlas_lossyscape.krylov import krylov_space
from atlas_lossyscape.matching import match_controls
from atlas_lossyscape.newton_decrement import newton_decrement, verified_drop
from attrs import define
from rows import RESULTS, result_row, write

SEEDS = 20
REPETITIONS = 4000
TOLERANCE = 0.01


@define
class Dense:
    """A symmetric matrix behind the operator interface."""

    matrix: torch.Tensor
    num_matvecs: int = 0
    dtype = torch.float64
    device = torch.device("cpu")

    @property
    def size(self) -> int:
        """Dimension."""
        return len(self.matrix)

    def matvec(self, vector: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the product."""
        self.num_matvecs += 1
        return torch.mv(self.matrix, vector, out=out)


def errors(size: int, decades: float, krylov: int, *, certified: bool) -> list[float]:
    """Return the relative error of the floor for each seed, eigenvalues spread evenly over decades."""
    found = []
    for seed in range(SEEDS):
        rng = torch.Generator().manual_seed(seed)
        values = torch.logspace(-decades / 2, decades / 2, size, dtype=torch.float64)
        vectors = torch.linalg.qr(torch.randn(size, size, generator=rng, dtype=torch.float64))[0]
        matrix = (vectors * values) @ vectors.T
        matrix = (matrix + matrix.T) / 2
        gradient = torch.randn(size, generator=rng, dtype=torch.float64)

        def draw(i: int, rng: torch.Generator = rng) -> torch.Tensor:
            return torch.randn(size, generator=rng, dtype=torch.float64)

        space = krylov_space(Dense(matrix), gradient, krylov, draw)
        if certified:
            floor = newton_decrement(space, TOLERANCE).certified
        else:
            floor = verified_drop(Dense(matrix), space, gradient).value
        exact = float(gradient @ torch.linalg.solve(matrix, gradient)) / 2
        found.append(abs(floor / exact - 1))
    return found


def coverage(tokens: int, correlation: float) -> float:
    """Return the part of 95% intervals that hold a planted correlation of matched tokens."""
    rng = np.random.default_rng(0)
    true = 6 / math.pi * math.asin(correlation / 2)
    held = 0
    for _ in range(REPETITIONS):
        x, other = rng.normal(size=(2, tokens))
        y = correlation * x + math.sqrt(1 - correlation**2) * other
        rarity, position = rng.permutation(tokens) / tokens, rng.integers(1, 16, size=tokens) / 16
        loss, curvature = 2 * rarity + position + x / 2, np.exp(2 * rarity) + position + y / 2
        found = matched_spearman(loss, curvature, match_controls(rarity, position))
        held += found is not None and found.low <= true <= found.high
    return held / REPETITIONS


def floor_row(identifier: str, what: str, found: list[float]) -> dict[str, Any]:
    """Return the row of a setting: its largest error in per cent."""
    spread = torch.tensor(found, dtype=torch.float64) * 100
    return result_row(
        identifier,
        what,
        float(spread.max()),
        sd=float(spread.std()),
        n=len(found),
        unit="%",
        baseline=0.0,
        baseline_version="dense solve in float64",
        target="<= 1",
        met=bool(spread.max() <= 1),
        packages=("atlas-lossyscape", "atlas-pyhessian", "torch"),
    )


def coverage_row(correlation: float) -> dict[str, Any]:
    """Return the row of a planted correlation of 48 tokens."""
    found = coverage(48, correlation)
    return result_row(
        f"lossyscape.matched_coverage_{correlation:g}",
        f"95% intervals of 24 matched pairs that hold a planted correlation of {correlation:g}",
        100 * found,
        sd=100 * math.sqrt(found * (1 - found) / REPETITIONS),
        n=REPETITIONS,
        unit="%",
        target="93 to 97",
        met=0.93 <= found <= 0.97,
        packages=("atlas-lossyscape", "numpy", "scipy"),
    )


def main() -> int:
    """Measure all rows and write them."""
    torch.set_num_threads(1)
    certified = "largest error of the Newton-decrement floor, 60 dimensions, condition 1e4, certified pairs"
    krylov = "the same, 400 dimensions, condition 1e3, Krylov space of 100, positive pairs"
    rows = [
        floor_row("lossyscape.newton_floor", certified, errors(60, 4, 60, certified=True)),
        floor_row("lossyscape.newton_floor_krylov", krylov, errors(400, 3, 100, certified=False)),
        coverage_row(0.0),
        coverage_row(0.6),
    ]
    write(rows, RESULTS / "lossyscape.json")
    for one in rows:
        reached = "met" if one["met"] else "MISSED"
        print(f"{one['id']}: {one['value']:.3g} %, target {one['target']}: {reached}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
