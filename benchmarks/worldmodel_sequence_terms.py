"""The atlas's sequence terms on and off: slowness and causal enclosure, on the pendulum.

Phase 1 is trained with neither, with each at the seed's weight, and with slowness at thirty times that; on
held-out trajectories are measured how often the symbol changes from one frame to the next, how well the next
chart is foretold from symbol and action alone, and what the terms cost in reconstruction.

    python benchmarks/worldmodel_sequence_terms.py [--quick] [--lines FILE]

takes three processor-minutes; with `--lines` an interrupted run goes on where it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import rows
import torch
from atlas_topoencoder.losses.terms import TERMS
from atlas_topoencoder.outputs import Encoding
from atlas_worldmodel.collection import Law, collect
from atlas_worldmodel.environments import open_environment
from atlas_worldmodel.phase_metrics import measure_atlas
from atlas_worldmodel.phase_state import parts_of
from atlas_worldmodel.phases import Frames, atlas_training

from atlas.objective import Objective
from atlas.randomness import RandomStreams

SEEDS = (0, 1, 2)
KINDS = {
    "neither": {},
    "slowness": {"slowness": 0.1},
    "enclosure": {"enclosure": 0.5},
    "strong slowness": {"slowness": 3.0},
}
PARAMS = {
    "model": {"hidden": 64, "latent": 4, "charts": 6, "codes": 16, "lipschitz": 6.0, "max_radius": 3.0},
    "schedule": {
        "batch_size": 128,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "clip": 1.0,
        "warmup": 300,
        "placing": "k-means",
        "revive_every": 100,
    },
}


def trained(kind: str, seed: int, steps: int) -> dict[str, float | str | int]:
    """Train one atlas and return what it is worth on held-out trajectories."""
    torch.set_num_threads(1)
    random = RandomStreams(seed)
    data = collect(open_environment("Pendulum-v1"), transitions=20_000, law=Law(), random=RandomStreams(100))
    parts = parts_of(data)
    weights = {name: term.default_weight for name, term in TERMS.items()} | KINDS[kind]
    objective = Objective(TERMS.values(), weights)
    params = {**PARAMS, "schedule": {**PARAMS["schedule"], "steps": steps}}
    training = atlas_training(params, parts.train, random, objective)
    while training.step < steps:
        training.advance()
    measures = {m.name: m.value for m in measure_atlas(training.model.eval(), parts.test)}
    known, held = (training.model.encode(part.x.flatten(0, 1)) for part in (parts.train, parts.test))
    return {
        "kind": kind,
        "seed": seed,
        "symbols": measures["churn of symbols"],
        "charts": measures["churn of charts"],
        "reconstruction": measures["reconstruction"],
        "foretold": foretold(known, parts.train, held, parts.test),
        "perplexity": measures["symbol perplexity"],
    }


def foretold(known: Encoding, train: Frames, held: Encoding, test: Frames) -> float:
    """Return how often the next chart is the commonest after the same symbol and third of the actions."""

    def cells(encoding: Encoding, frames: Frames) -> tuple[np.ndarray, np.ndarray]:
        count, length = frames.x.shape[:2]
        symbol, chart = (part.view(count, length).numpy() for part in (encoding.symbol, encoding.chart))
        action = np.digitize(frames.actions[..., 0].numpy(), [-1 / 3, 1 / 3])
        return (symbol[:, :-1] * 3 + action).ravel(), chart[:, 1:].ravel()

    (here, later), (there, then) = cells(known, train), cells(held, test)
    table = np.zeros((1 + max(here.max(), there.max()), 1 + max(later.max(), then.max())))
    np.add.at(table, (here, later), 1)
    return float((table.argmax(1)[there] == then).mean())


MEASURES = {
    "symbols": ("share of frames whose symbol is not that of the frame before", "1"),
    "foretold": ("share of frames whose chart is the commonest after the symbol and action before", "1"),
    "reconstruction": ("squared error of the reconstruction over the variance", "1"),
}


def table(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a benchmark row for each kind and measure."""
    return rows.ablation_rows(
        found,
        MEASURES,
        plain="neither",
        identifier="worldmodel.sequence",
        about="Pendulum, atlas trained with",
        without="the same without",
        packages=("torch", "atlas-worldmodel", "atlas-topoencoder", "gymnasium"),
    )


if __name__ == "__main__":
    rows.ablate(
        trained,
        KINDS,
        SEEDS,
        (800, 400),
        table,
        description=__doc__,
        out=rows.RESULTS / "worldmodel_sequence_terms.json",
    )
