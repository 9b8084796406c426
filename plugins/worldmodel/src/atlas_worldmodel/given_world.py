"""The learned world that a step of agents is given, with where paths begin and where the agent acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from atlas.contracts import StepContext
from atlas.errors import BadInput
from atlas_worldmodel.encoded_agents import (
    EncodedEnvironment,
    EncodedMechanicalWorld,
    EncodedSight,
    seen_latents,
)
from atlas_worldmodel.encoded_trajectories import seen_encoder
from atlas_worldmodel.environments import Environment
from atlas_worldmodel.mechanical_world import MechanicalWorld
from atlas_worldmodel.model import WorldModel
from atlas_worldmodel.phase_state import seen_trajectories
from atlas_worldmodel.trajectories import Trajectories
from atlas_worldmodel.world_state import WORLD_FILE, read_world, world_of

__all__ = ["GivenWorld", "given_world"]


@frozen(eq=False)
class GivenWorld:
    """A world that was learned before an agent begins.

    Attributes:
        world: Constant.
        data: The trajectories that it was learned and judged by, as the agent sees them; paths begin at
            their observations.
        environment: Where the agent acts, as it sees it.
        transitions: Steps of the environment that the world was learned and judged by.
    """

    world: MechanicalWorld
    data: Trajectories
    environment: Environment
    transitions: int


def given_world(context: StepContext, environment: Environment) -> GivenWorld:
    """Open the world and the trajectories that a step sees, and the encoder of a world that has one.

    Raises:
        BadInput: It does not see one of each, or they, the world and the environment do not belong together.
    """
    where = f"steps.{context.step}.sees"
    found = [copy for path, copy in context.inputs.items() if path.endswith(f"/{WORLD_FILE}")]
    if len(found) != 1:
        raise BadInput(
            f"the step sees {len(found)} learned worlds, expected one",
            where=where,
            fix="add `{from: STEP.raw}` with a step that uses `worldmodel`, or set `world: ensemble`",
        )
    data = seen_trajectories(context)
    tensors, facts = read_world(found[0])
    model = world_of(tensors, facts, where=where)
    if facts["trajectories"] != data.digest:
        raise BadInput(
            "the world was learned from other trajectories than the step sees",
            where=where,
            fix="let `worldmodel` and `agent` see the same step's trajectories",
        )
    if not data.environment.endswith(f", {environment.name}"):
        raise BadInput(
            f"the world was learned from {data.environment}, and the agent acts in {environment.name}",
            where=f"steps.{context.step}.params.environment",
            fix="collect in the agent's environment, with the same `action_repeat`",
        )
    if data.terminated.any():
        raise BadInput(
            f"{int(data.terminated.sum())} trajectories ended in a state from which nothing follows, and "
            "a mechanical world knows no ends",
            where=where,
            fix="set `world: ensemble`, which learns them",
        )
    if "encoder" in facts:
        return _encoded(context, model, facts, data, environment)
    world = MechanicalWorld(model, facts)
    world.normalise(data)
    return GivenWorld(world, data, environment, data.transitions)


def _encoded(
    context: StepContext,
    model: WorldModel,
    facts: Mapping[str, Any],
    data: Trajectories,
    environment: Environment,
) -> GivenWorld:
    """Return a world in an encoder's ball, with the environment seen through that encoder."""
    encoder = seen_encoder(context, data)
    if encoder.digest != facts["encoder"]:
        raise BadInput(
            "the world was learned in the ball of another encoder than the step sees",
            where=f"steps.{context.step}.sees",
            fix="let `worldmodel` and `agent` see the same encoder's step",
        )
    space = environment.action_space
    world, latent = EncodedMechanicalWorld(model, facts, space.features), seen_latents(encoder, data)
    world.normalise(latent)
    sight = EncodedSight(encoder.model, encoder.mean, encoder.scale, space)
    return GivenWorld(world, latent, EncodedEnvironment(environment, sight), data.transitions)
