"""Terms of phase 2 on and off: the force balance, the critic's potential, and energy.

One atlas of the pendulum a seed; on its frozen points a world model is trained with the default terms, and
with each of these besides, and measured open loop on held-out trajectories.

    python benchmarks/worldmodel_phase_terms.py [--quick] [--lines FILE]

takes nine processor-minutes; with `--lines` an interrupted run goes on where it was.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import rows
import torch
from atlas_topoencoder.losses.terms import TERMS
from atlas_topoencoder.views import Views
from atlas_worldmodel.attention import Sizes
from atlas_worldmodel.attention_dynamics import AttentionDynamics
from atlas_worldmodel.collection import Law, collect
from atlas_worldmodel.critic import CriticSettings
from atlas_worldmodel.environments import open_environment
from atlas_worldmodel.joint import AtlasTerms
from atlas_worldmodel.phase_metrics import measure_world
from atlas_worldmodel.phase_state import Parts, parts_of
from atlas_worldmodel.phase_terms import PHASE_TERMS
from atlas_worldmodel.phases import PairTraining, WorldSchedule, WorldTraining, atlas_training
from worldmodel_sequence_terms import PARAMS

from atlas.objective import Objective
from atlas.randomness import RandomStreams

SEEDS = (0, 1, 2)
KINDS: dict[str, tuple[bool, dict[str, float]]] = {
    "default": (False, {}),
    "force balance": (False, {"dynamics-hodge": 0.1}),
    "potential": (True, {}),
    "potential and energy": (True, {"dynamics-energy": 0.1}),
}


@functools.cache
def atlas_of(seed: int, steps: int) -> tuple[PairTraining, Parts]:
    """Return a trained atlas, and the trajectories that it and the world models are trained on."""
    data = collect(open_environment("Pendulum-v1"), transitions=20_000, law=Law(), random=RandomStreams(100))
    parts = parts_of(data)
    params = {**PARAMS, "schedule": {**PARAMS["schedule"], "steps": steps}}
    training = atlas_training(params, parts.train, RandomStreams(seed), Objective(TERMS.values()))
    while training.step < steps:
        training.advance()
    training.model.eval()
    return training, parts


def trained(kind: str, seed: int, steps: int) -> dict[str, Any]:
    """Train one world model and return its open loop on held-out trajectories."""
    torch.set_num_threads(1)
    atlas, parts = atlas_of(seed, 2 * steps)
    force, weights = KINDS[kind]
    random = RandomStreams(seed)
    width = parts.train.actions.shape[-1]
    sizes = Sizes(latent=4, site_vectors=1, site_scalars=width, token_vectors=3, token_scalars=4, hidden=64)
    critic = CriticSettings(force=force) if force else None
    dynamics = AttentionDynamics(6, sizes, memory=2, max_radius=3.0, random=random, critic=critic)
    training = WorldTraining(
        model=atlas.model,
        companions=atlas.companions,
        dynamics=dynamics,
        terms=AtlasTerms(None, None),
        frames=parts.train,
        schedule=WorldSchedule(
            steps, batch_size=64, horizon=8, learning_rate=1e-3, encoder_rate=0.0, jumps=False, clip=1.0
        ),
        views=Views(),
        random=random,
        objective=Objective(PHASE_TERMS.values(), weights),
    )
    begun = time.process_time()
    while training.step < steps:
        training.advance()
    spent = (time.process_time() - begun) / steps
    measures = {m.name: m.value for m in measure_world(atlas.model, dynamics, parts.test, jumps=False)}
    return {
        "kind": kind,
        "seed": seed,
        "seconds a step": spent,
        **{f"distance {k}": measures[f"distance, {k} ahead"] for k in (1, 10)},
        "decoded 10": measures["decoded error, 10 ahead"],
        "floor": measures["decoded error, 0 ahead"],
    }


MEASURES = {
    "distance 1": ("hyperbolic distance one step ahead", "1"),
    "distance 10": ("hyperbolic distance ten steps ahead", "1"),
    "decoded 10": ("decoded error ten steps ahead, in standard deviations", "1"),
    "seconds a step": ("processor-seconds of a training step", "s"),
}


def table(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a benchmark row for each kind and measure."""
    return rows.ablation_rows(
        found,
        MEASURES,
        plain="default",
        identifier="worldmodel.phase_terms",
        about="Pendulum, phase 2 with",
        without="the default terms",
        packages=("torch", "atlas-worldmodel", "atlas-topoencoder", "gymnasium"),
    )


if __name__ == "__main__":
    rows.ablate(
        trained,
        KINDS,
        SEEDS,
        (300, 20),
        table,
        description=__doc__,
        out=rows.RESULTS / "worldmodel_phase_terms.json",
    )
