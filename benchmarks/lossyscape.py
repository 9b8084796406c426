"""The floor by the Newton decrement against the exact one, on quadratics.

    python benchmarks/lossyscape.py

Quadratics `g.x + x^T H x / 2` with prescribed eigenvalues in random coordinates; the exact floor is that of a
dense solve in float64. One row takes certified pairs of the whole space, the other a Krylov space of a
quarter of the dimensions, all of its positive pairs.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from atlas_lossyscape.krylov import krylov_space
from atlas_lossyscape.newton_decrement import newton_decrement
from attrs import define
from curvature import write

RESULTS = Path(__file__).resolve().parent / "results" / "lossyscape.json"
SEEDS = 20
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
        floor = newton_decrement(space, TOLERANCE)
        exact = float(gradient @ torch.linalg.solve(matrix, gradient)) / 2
        found.append(abs((floor.certified if certified else floor.krylov) / exact - 1))
    return found


def row(identifier: str, what: str, found: list[float]) -> dict[str, Any]:
    """Return the row of a setting: its largest error in per cent."""
    spread = torch.tensor(found, dtype=torch.float64) * 100
    return {
        "id": identifier,
        "what": what,
        "value": float(spread.max()),
        "sd": float(spread.std()),
        "n": len(found),
        "unit": "%",
        "baseline": 0.0,
        "baseline_version": "dense solve in float64",
        "target": "<= 1",
        "met": bool(spread.max() <= 1),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {platform.system()}",
        "versions": {
            n: importlib.metadata.version(n) for n in ("atlas-lossyscape", "atlas-pyhessian", "torch")
        },
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def main() -> int:
    """Measure both rows and write them."""
    certified = "largest error of the Newton-decrement floor, 60 dimensions, condition 1e4, certified pairs"
    krylov = "the same, 400 dimensions, condition 1e3, Krylov space of 100, positive pairs"
    rows = [
        row("lossyscape.newton_floor", certified, errors(60, 4, 60, certified=True)),
        row("lossyscape.newton_floor_krylov", krylov, errors(400, 3, 100, certified=False)),
    ]
    write(rows, RESULTS)
    for one in rows:
        print(
            f"{one['id']}: {one['value']:.3g} %, target {one['target']}: {'met' if one['met'] else 'MISSED'}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
