"""Agents in files: their tensors with what rebuilds them, in one safetensors file without code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.model import TopoEncoder
from atlas_topoencoder.tensor_files import encode_tensors, read_tensors
from attrs import asdict, frozen

from atlas.errors import BadInput
from atlas.randomness import RandomStreams
from atlas_worldmodel.descent import under
from atlas_worldmodel.encoded_agents import EncodedEnvironment, EncodedMechanicalWorld, EncodedSight
from atlas_worldmodel.ensemble import Ensemble
from atlas_worldmodel.mechanical_world import MechanicalWorld
from atlas_worldmodel.policy import Policy
from atlas_worldmodel.spaces import ActionSpace, decode_space, encode_space
from atlas_worldmodel.world_state import world_of

if TYPE_CHECKING:
    from atlas_worldmodel.agent import Agent

__all__ = ["Actor", "encode_actor", "encode_agent", "load_actor", "read_agent"]

_FORMAT = "atlas-agent-1"


@frozen(eq=False)
class Actor:
    """A trained agent that no longer learns.

    Attributes:
        policy: Its policy.
        world: What it imagined through, which also says where an observation lies in the ball.
        facts: What the file says of its making.
        eyes: What it sees of frames, of an agent in the ball of an encoder; None for observations themselves.
    """

    policy: Policy
    world: Ensemble | MechanicalWorld
    facts: Mapping[str, Any]
    eyes: EncodedSight | None = None

    def __call__(self, observation: np.ndarray, step: int = 0) -> np.ndarray:
        """Return the action of the mean force at an observation `[O]`, `[A]`, in the environment's units.

        An agent with eyes remembers the frame before: its episodes begin with the step 0.
        """
        if self.eyes is not None:
            observation = self.eyes.see(observation, first=step == 0)
        with torch.no_grad():
            seen = torch.from_numpy(np.asarray(observation, np.float32))[None]
            z = self.world.sight(seen)
            action = self.policy.space.decode(self.policy.mean_action(z)[0].numpy())
        if self.eyes is not None:
            self.eyes.did(action)
        return action


def encode_agent(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file of an agent's tensors and plain values; equal contents give equal bytes."""
    return encode_tensors(tensors, facts, form=_FORMAT)


def read_agent(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and plain values of an agent's file.

    Raises:
        BadInput: The file is missing, damaged, or none of ours.
    """
    return read_tensors(path, form=_FORMAT, what="agent")


def encode_actor(agent: Agent) -> bytes:
    """Return the file of a trained agent: policy and world, without what only training needs."""
    modules = {"world": agent.world, "policy": agent.policy}
    tensors = {
        f"{n}.{key}": t.detach().cpu() for n, m in modules.items() for key, t in m.state_dict().items()
    }
    facts = {
        "environment": agent.environment.name,
        "action_space": encode_space(agent.environment.action_space),
        "observation_size": agent.environment.observation_size,
        "transitions": agent.transitions,
        "policy_hidden": agent.settings.policy_hidden,
        "seed": agent.random.seed,
    }
    if isinstance(agent.environment, EncodedEnvironment):
        sight = agent.environment.sight
        tensors |= {f"sight.{name}": t for name, t in sight.encoder.state_dict().items()}
        facts["sight"] = {
            "architecture": asdict(sight.encoder.architecture),
            "mean": sight.mean.tolist(),
            "scale": sight.scale.tolist(),
        }
    if agent.given is not None:
        facts["mechanical"] = agent.given.world.facts
    else:
        facts |= {"members": agent.settings.members, "world_hidden": agent.settings.world_hidden}
    return encode_agent(tensors, facts)


def load_actor(path: Path) -> Actor:
    """Open the file of a trained agent.

    Raises:
        BadInput: See `read_agent`; or it is the state of an unfinished agent.
    """
    tensors, facts = read_agent(path)
    if "action_space" not in facts:
        raise BadInput(
            "the file holds the state of an agent in training",
            where=str(path),
            fix="open `agent0.safetensors` of the run's raw folder",
        )
    space, streams = decode_space(facts["action_space"], str(path)), RandomStreams(0)
    size = facts["observation_size"]
    world: Ensemble | MechanicalWorld
    eyes = None
    if "mechanical" in facts:
        own = facts["mechanical"]
        model = world_of(tensors, own, where=str(path), prefix="world.model.")
        if "sight" in facts:
            eyes = _eyes(tensors, facts["sight"], space)
            world = EncodedMechanicalWorld(model, own, space.features)
        else:
            world = MechanicalWorld(model, own)
    else:
        world = Ensemble(
            size, space.features, members=facts["members"], hidden=facts["world_hidden"], random=streams
        )
    policy = Policy(size, space, hidden=facts["policy_hidden"], random=streams)
    for prefix, module in (("world.", world), ("policy.", policy)):
        module.load_state_dict(under(tensors, prefix))
    return Actor(policy.eval(), world.eval(), facts, eyes)


def _eyes(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], space: ActionSpace) -> EncodedSight:
    encoder = TopoEncoder(Architecture(**facts["architecture"]), RandomStreams(0)).requires_grad_(False)
    encoder.load_state_dict(under(tensors, "sight."))
    mean, scale = (np.array(facts[name], np.float32) for name in ("mean", "scale"))
    return EncodedSight(encoder.eval(), mean, scale, space)
