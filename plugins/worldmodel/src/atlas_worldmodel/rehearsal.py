"""The firewall's audit on freshly drawn models, which needs no data and no training."""

from __future__ import annotations

import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.companions import Companions
from atlas_topoencoder.losses.terms import SEED_WEIGHTS, TERMS
from atlas_topoencoder.model import TopoEncoder

from atlas.objective import Objective
from atlas.randomness import RandomStreams
from atlas_worldmodel.attention import Sizes
from atlas_worldmodel.attention_dynamics import AttentionDynamics
from atlas_worldmodel.critic import CriticSettings
from atlas_worldmodel.firewall import Cell, audit, parameter_groups
from atlas_worldmodel.joint import AtlasTerms, LatentSequence, joint_losses
from atlas_worldmodel.phase_terms import PHASE_SLOT, PHASE_TERMS, PhaseOutputs

__all__ = ["rehearse"]

_BATCH, _FRAMES, _FEATURES, _ACTIONS, _MEMORY = 8, 6, 12, 2, 1


def rehearse(seed: int) -> list[Cell]:
    """Return the audit of a TopoEncoder with its unsupervised terms, and of a world model with all of its.

    Args:
        seed: Of weights and frames.
    """
    random = RandomStreams(seed)
    architecture = Architecture(
        shape=[_FEATURES], hidden=16, latent=4, charts=3, codes=5, soft_equivariant=True
    )
    model = TopoEncoder(architecture, random)
    sizes = Sizes(latent=4, site_vectors=1, site_scalars=_ACTIONS, token_vectors=3, token_scalars=4)
    world = AttentionDynamics(
        architecture.charts,
        sizes,
        memory=_MEMORY,
        max_radius=architecture.max_radius,
        random=random,
        critic=CriticSettings(hidden=16, drift=True, force=True, one_form=True),
    )
    objective = Objective(PHASE_TERMS.values(), dict.fromkeys(PHASE_TERMS, 1.0))
    companions = Companions(charts=3, latent=4, classes=0, actions=_ACTIONS, streams=random)
    left_out = {"orbit", "vicreg-invariance"} | {n for n, t in TERMS.items() if t.group == "supervised"}
    weights = {name: 0.0 if name in left_out else weight for name, weight in SEED_WEIGHTS.items()}

    def dynamics(sequence: LatentSequence) -> torch.Tensor:
        sequence = sequence._replace(rewards=drawn("rewards", _BATCH, _FRAMES - 1))
        return objective({PHASE_SLOT: PhaseOutputs(world, sequence, world(sequence, None))}).total

    def drawn(purpose: str, *shape: int) -> torch.Tensor:
        return torch.tensor(random.generator(purpose).random(shape), dtype=torch.float32)

    losses = joint_losses(
        model,
        AtlasTerms.of(Objective(TERMS.values(), weights)),
        dynamics,
        drawn("frames", _BATCH, _FRAMES, _FEATURES),
        drawn("actions", _BATCH, _FRAMES - 1, _ACTIONS),
        companions=companions,
    )
    return audit(losses, parameter_groups(model, world))
