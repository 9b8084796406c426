"""What a training step of the TopoEncoder costs, and what its geometry keeps in float32.

    python benchmarks/topoencoder.py [--row ID]

Operations are those that torch dispatches below autograd, forward and backward, optimiser and refresh
included. Times are CPU times of one thread, the baseline's steps between ours, so that both see the same
machine, in a process with the environment that the instrument's card asks for. Geometry is compared with the
same formulas in float64 at the same points.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from atlas_topoencoder import geometry
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.losses.terms import PHASE_1, SEED_WEIGHTS, SLOT, TERMS
from atlas_topoencoder.model import TopoEncoder
from atlas_topoencoder.outputs import ModelOutputs
from rows import RESULTS, result_row, write
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from atlas.catalog import discover
from atlas.objective import Objective
from atlas.randomness import RandomStreams

PACKAGES = ("atlas-topoencoder", "torch")
SMALL = Architecture([64], hidden=32, latent=2, charts=10, codes=32)
"""Size C1: 12 to 13 thousand parameters."""
PUBLIC_OPERATIONS = 16500
"""Of the public implementation at size C1, by torch's profiler (2026-04-07)."""
ELSEWHERE = {
    "orbit",
    "vicreg-invariance",
    "slowness",
    "enclosure",
    "equivariance-mixing",
    "equivariance-ratio",
}
"""Terms that read views, sequences, or a metric that this model has not."""


class Counted(TorchDispatchMode):
    """Counts dispatched operations by name while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def trainer(
    architecture: Architecture, terms: Iterable[str], batch: int, *, compiled: bool = False
) -> Callable[[], None]:
    """Return a training step on random data, its loss compiled as one graph or not."""
    model = TopoEncoder(architecture, RandomStreams(0))
    x = torch.from_numpy(np.random.default_rng(0).random((batch, *architecture.shape))).float()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    chosen = [TERMS[name] for name in terms]
    objective = Objective(chosen, {term.name: SEED_WEIGHTS[term.name] for term in chosen})

    def loss(x: torch.Tensor) -> torch.Tensor:
        encoding, decoding = model(x)
        outputs = ModelOutputs(x=x, encoding=encoding, decoding=decoding, model=model)
        return objective({SLOT: outputs}).total

    evaluate = torch.compile(loss, fullgraph=True) if compiled else loss

    def step() -> None:
        value = evaluate(x)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        model.refresh()

    return step


def operations(identifier: str, what: str, terms: Iterable[str]) -> dict[str, Any]:
    """Return the row of a step's operations at size C1."""
    step = trainer(SMALL, terms, 128)
    step()
    with Counted() as counted:
        step()
    syncs = counted.counts["aten._local_scalar_dense.default"]
    total = counted.counts.total()
    return result_row(
        identifier,
        f"aten operations of a training step, hidden 32, latent 2, 10 x 32 codes, batch 128, {what}; "
        f"{syncs} of them read a number back; baseline: the public implementation with about 20 terms",
        total,
        unit="operations",
        target=f"<= {PUBLIC_OPERATIONS // 10}",
        met=total <= PUBLIC_OPERATIONS / 10 and syncs == 0,
        baseline=PUBLIC_OPERATIONS,
        baseline_version="public implementation, 2026-04-07, counted by torch's profiler",
        packages=PACKAGES,
    )


class VectorQuantised(nn.Module):
    """A plain vector-quantised autoencoder: two hidden layers a side, one codebook, straight through."""

    def __init__(self, size: int, hidden: int, latent: int, codes: int) -> None:
        super().__init__()

        def network(first: int, last: int) -> nn.Module:
            return nn.Sequential(
                nn.Linear(first, hidden),
                nn.GELU(),
                nn.Linear(hidden, hidden),
                nn.GELU(),
                nn.Linear(hidden, last),
            )

        self.encoder, self.decoder = network(size, latent), network(latent, size)
        self.codes = nn.Parameter(torch.randn(codes, latent))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch."""
        z = self.encoder(x)
        q = functional.embedding(torch.cdist(z.detach(), self.codes.detach()).argmin(1), self.codes)
        pull = functional.mse_loss(q, z.detach()) + 0.25 * functional.mse_loss(z, q.detach())
        return functional.mse_loss(self.decoder(z + (q - z).detach()), x) + pull


def plain_trainer(architecture: Architecture, batch: int) -> Callable[[], None]:
    """Return a training step of the plain autoencoder with as many codes."""
    model = VectorQuantised(
        math.prod(architecture.shape),
        architecture.hidden,
        architecture.latent,
        architecture.charts * architecture.codes,
    )
    x = torch.from_numpy(np.random.default_rng(0).random((batch, *architecture.shape))).float()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)

    def step() -> None:
        loss = model(x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def step_time(identifier: str, what: str, terms: Iterable[str], *, compiled: bool = False) -> dict[str, Any]:
    """Return the row of a step's time over the plain autoencoder's at the default size."""
    architecture = Architecture([64])
    sides = trainer(architecture, terms, 256, compiled=compiled), plain_trainer(architecture, 256)
    times: tuple[list[float], list[float]] = ([], [])
    for repetition in range(45):
        for step, measured in zip(sides, times, strict=True):
            begun = time.process_time()
            step()
            if repetition >= 5:
                measured.append(1e3 * (time.process_time() - begun))
    ours, plain = (statistics.median(measured) for measured in times)
    ratios = [one / plain for one in times[0]]
    return result_row(
        identifier,
        f"CPU time of a training step over that of a plain VQ autoencoder of equal width, hidden 256, latent "
        f"16, 160 codes, batch 256, {what}; ours {ours:.1f} ms, median",
        ours / plain,
        sd=statistics.stdev(ratios),
        n=len(ratios),
        unit="x",
        target="<= 3",
        met=ours <= 3 * plain,
        baseline=plain,
        baseline_version="plain VQ autoencoder, torch, ms",
        packages=PACKAGES,
    )


def geometry_rows() -> list[dict[str, Any]]:
    """Return the rows of the largest relative errors of distance and gradient at hyperbolic radius 6."""
    generator = np.random.default_rng(0)
    errors: dict[str, list[float]] = {"distance": [], "gradient": []}
    count = 8192
    for spread in (1e-3, 1e-2, 1e-1, 1.0, 10.0):
        x = generator.standard_normal((count, 16))
        y = x / np.linalg.norm(x, axis=1, keepdims=True)
        y = y + spread * generator.standard_normal((count, 16)) / 4
        sides = [
            torch.from_numpy(math.tanh(3) * p / np.linalg.norm(p, axis=1, keepdims=True)) for p in (x, y)
        ]
        single = [side.float().requires_grad_() for side in sides]
        exact = [side.detach().double().requires_grad_() for side in single]
        found, wanted = geometry.distance(*single), geometry.distance(*exact)
        gradients = (
            torch.autograd.grad(found.sum(), single[0])[0],
            torch.autograd.grad(wanted.sum(), exact[0])[0],
        )
        errors["distance"].append(float(((found.detach().double() - wanted) / wanted).abs().max().detach()))
        gaps = (gradients[0].double() - gradients[1]).norm(dim=1) / gradients[1].norm(dim=1)
        errors["gradient"].append(float(gaps.max()))
    return [
        result_row(
            f"topoencoder.{name}_float32",
            f"largest relative error of the {name} in float32 at hyperbolic radius 6, 16 dimensions, pairs "
            "at angles of 1e-3 to 1, against float64 at the same points",
            max(found),
            n=5 * count,
            unit="1",
            target=f"<= {bound:g}",
            met=max(found) <= bound,
            packages=PACKAGES,
        )
        for (name, found), bound in zip(errors.items(), (1e-5, 1e-4), strict=True)
    ]


def whole() -> list[str]:
    """Return the seed's terms of positive weight that one unlabelled batch can give."""
    return [
        name
        for name, term in TERMS.items()
        if SEED_WEIGHTS[name] and name not in ELSEWHERE and term.group != "supervised"
    ]


ROWS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "geometry": geometry_rows,
    "aten_ops": lambda: [
        operations("topoencoder.aten_ops", "the thirteen terms of phase 1", PHASE_1),
        operations("topoencoder.aten_ops_whole", f"{len(whole())} terms of the seed", whole()),
    ],
    "train_step": lambda: [
        step_time("topoencoder.train_step", "the thirteen terms of phase 1", PHASE_1),
        step_time("topoencoder.train_step_two", "reconstruction and VQ", ("reconstruction", "vq")),
        step_time(
            "topoencoder.train_step_compiled",
            "the thirteen terms of phase 1, ours compiled (`compile: true`)",
            PHASE_1,
            compiled=True,
        ),
    ],
}


def main() -> int:
    """Measure the rows asked for and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", choices=sorted(ROWS), action="append")
    wanted = discover().find("instruments", "topoencoder").details["needs"]["environment"]
    if not wanted.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})
    torch.set_num_threads(1)
    for name in parser.parse_args().row or ROWS:
        rows = ROWS[name]()
        write(rows, RESULTS / "topoencoder.json")
        for one in rows:
            reached = "met" if one["met"] else "MISSED"
            print(f"{one['id']}: {one['value']:.3g} {one['unit']}, target {one['target']}: {reached}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
