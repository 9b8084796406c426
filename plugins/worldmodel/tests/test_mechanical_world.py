"""Agents that imagine through a learned mechanical world: its steps, its gradients, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from agent_desk import SMALL, require_the_same_bits, silent
from atlas_worldmodel.agent import Agent
from atlas_worldmodel.agent_checkpoint import load_actor
from atlas_worldmodel.agent_instrument import agent_of, objective_of
from atlas_worldmodel.collection import Law, collect, play
from atlas_worldmodel.environments import open_environment
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.given_world import GivenWorld, given_world
from atlas_worldmodel.imagination import draw_paths, imagine
from atlas_worldmodel.mechanical_world import MechanicalWorld
from atlas_worldmodel.observation_chart import chart_facts, coordinates_of
from atlas_worldmodel.policy import Policy
from atlas_worldmodel.spaces import Box
from atlas_worldmodel.trajectories import Episode, Trajectories
from atlas_worldmodel.trajectory_files import write_trajectories
from atlas_worldmodel.world_state import encode_world
from atlas_worldmodel.world_training import fitted_model
from attrs import asdict, evolve

from atlas.errors import BadInput
from atlas.randomness import RandomStreams
from atlas.testing import Atlas

PENDULUM = [{"cosine": 0, "sine": 1, "velocity": 2}]
PLANE = [{"position": 0, "velocity": 2}, {"position": 1, "velocity": 3}]


def plane() -> Trajectories:
    draws = np.random.default_rng(0)
    episodes = [
        Episode(draws.standard_normal((21, 4)), draws.uniform(-1, 1, (20, 2)), draws.standard_normal(20))
        for _ in range(8)
    ]
    return Trajectories.of(
        episodes, action_space=Box([-1, -1], [1, 1]), environment="by hand", generator="none", seed=0
    )


def pendulum(**changes) -> Trajectories:
    given = {"transitions": 100, "steps": 20, "law": Law("held", 5), "random": RandomStreams(6)}
    return collect(open_environment("Pendulum-v1"), **{**given, **changes})


def world_of_data(data: Trajectories, coordinates=PENDULUM, field: int = 0) -> MechanicalWorld:
    """Return a world that is not trained, with forces of some size."""
    named = coordinates_of(coordinates, data.observation_size)
    model = fitted_model(named, data, FieldSizes(16, field), bound_speed=True, random=RandomStreams(3))
    with torch.no_grad():
        model.fields.value.last.mul_(5)
        model.lag.fill_(0.3)
    facts = {"coordinates": chart_facts(model.chart), "hidden": 16, "field": field}
    world = MechanicalWorld(model, {**facts, "trajectories": data.digest})
    world.normalise(data)
    return world


@pytest.mark.parametrize(
    ("data", "coordinates", "field"), [(pendulum(), PENDULUM, 0), (plane(), PLANE, 8)], ids=["angle", "plane"]
)
@torch.no_grad()
def test_steps_of_imagination_are_the_open_loop_of_the_world_model(data, coordinates, field):
    """States bit for bit; observations and rewards, which a path computes all at once, to rounding."""
    world = world_of_data(data, coordinates, field)
    first = torch.from_numpy(data.observations[:, 0])
    actions = torch.from_numpy(data.action_features())
    path = world.model(first, actions)
    moment = world.begin(first)
    for step, action in enumerate(actions.unbind(1)):
        after = world.step(moment, action)
        moment = after.state
        assert torch.equal(moment.state.z, path.states.z[:, step])
        assert torch.equal(moment.state.w, path.states.w[:, step])
        torch.testing.assert_close(moment.observation, path.observations[:, step])
        torch.testing.assert_close(after.reward, path.rewards[:, step])
        assert torch.equal(after.goes_on, torch.ones(len(first)))


def test_gradients_of_imagined_rewards_reach_the_policy_and_not_the_world():
    data = pendulum()
    world = world_of_data(data)
    policy = Policy(3, data.action_space, hidden=8, random=RandomStreams(1))
    begin = world.begin(torch.from_numpy(data.observations[:, 0]))
    path = imagine(world, policy, begin, draw_paths(4, len(data), 3, torch.Generator().manual_seed(0)))
    path.rewards[3].sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in policy.motor.parameters())
    assert all(p.grad is None for p in world.parameters())


SETTINGS = evolve(
    SMALL,
    round_transitions=1,
    world_hidden=1,
    fit_steps=10,
    fit_batch=1,
    fit_rate=1.0,
    improve_steps=4,
    improve_batch=9,
)


def agent(data: Trajectories) -> Agent:
    given = GivenWorld(world_of_data(data), data, open_environment("Pendulum-v1"), data.transitions)
    objective = objective_of("imagination", {})
    environment = open_environment("Pendulum-v1")
    return Agent(environment, SETTINGS, objective, RandomStreams(5), Law("held", 5), given)


def test_an_agent_with_a_given_world_learns_without_playing_and_leaves_the_world_as_it_is():
    data = pendulum()
    one = agent(data)
    before = {name: value.clone() for name, value in one.world.state_dict().items()}
    motor = one.policy.motor.weight.detach().clone()
    figures = one.advance(silent)
    assert set(figures) == set(one.objective.active)
    assert one.transitions == 100 and not one.episodes
    assert not torch.equal(motor, one.policy.motor.weight)
    assert all(torch.equal(value, one.world.state_dict()[name]) for name, value in before.items())


def test_an_agent_with_a_given_world_goes_on_from_a_kept_state_to_the_same_bits():
    data = pendulum()
    require_the_same_bits(lambda: agent(data))


def seen(folder: Path, data: Trajectories, world: MechanicalWorld) -> SimpleNamespace:
    """Return what `given_world` reads of a step's context."""
    write_trajectories(data, folder / "trajectories.npz")
    tensors = {f"model.{name}": value for name, value in world.model.state_dict().items()}
    (folder / "world.safetensors").write_bytes(encode_world(tensors, world.facts))
    inputs = {f"raw/x/{path.name}": path for path in folder.iterdir()}
    return SimpleNamespace(step="agent", inputs=inputs)


def test_a_world_of_other_trajectories_is_refused(tmp_path):
    context = seen(tmp_path, pendulum(random=RandomStreams(7)), world_of_data(pendulum()))
    with pytest.raises(BadInput, match="learned from other trajectories than the step sees"):
        given_world(context, open_environment("Pendulum-v1"))


def test_a_world_of_another_environment_is_refused(tmp_path):
    context = seen(tmp_path, pendulum(), world_of_data(pendulum()))
    with pytest.raises(BadInput, match="the agent acts in Pendulum-v1, each action for 2 steps"):
        given_world(context, open_environment("Pendulum-v1", 2))


def test_trajectories_that_ended_are_refused_because_the_world_knows_no_ends(tmp_path):
    data = pendulum()
    data = evolve(data, terminated=np.ones(len(data), bool), truncated=np.zeros(len(data), bool))
    context = seen(tmp_path, data, world_of_data(data))
    with pytest.raises(BadInput, match="5 trajectories ended in a state from which nothing follows"):
        given_world(context, open_environment("Pendulum-v1"))


def test_a_step_that_sees_no_world_is_refused():
    context = SimpleNamespace(step="agent", inputs={})
    with pytest.raises(BadInput, match="sees 0 learned worlds, expected one"):
        given_world(context, open_environment("Pendulum-v1"))


def test_reinforce_with_a_given_world_is_refused():
    data = pendulum()
    given = GivenWorld(world_of_data(data), data, open_environment("Pendulum-v1"), data.transitions)
    learning = {name: value for name, value in asdict(SETTINGS).items() if name != "improvement"}
    params = {"improvement": "reinforce", "learning": learning}
    with pytest.raises(BadInput, match="with a given world nothing is played"):
        agent_of(params, open_environment("Pendulum-v1"), RandomStreams(1), given)


MANIFEST = """atlas: 1
name: mechanical
lineage: AGM
seed: 3
governance: none
steps:
  - {id: data, use: collect, params: {environment: Pendulum-v1, transitions: 200, steps: 50}}
  - id: world
    use: worldmodel
    sees: [{from: data.raw}]
    params:
      coordinates: [{cosine: 0, sine: 1, velocity: 2}]
      model: {hidden: 8}
      schedule: {steps: 20, batch_size: 32}
      horizons: [1, 5]
      free_steps: 5
  - id: agent
    use: agent
    sees: [{from: data.raw}, {from: world.raw}]
    params:
      environment: Pendulum-v1
      world: mechanical
      rounds: 2
      evaluation: {starts: 2}
      learning: {policy_hidden: 8, improve_steps: 3, improve_batch: 4, horizon: 3}
"""


@pytest.mark.slow
def test_a_manifest_learns_a_world_and_an_agent_in_it_and_counts_the_worlds_steps(tmp_path):
    atlas = Atlas(tmp_path, {})
    atlas.write("m.yaml", MANIFEST)
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err
    run = atlas.runs()[0]
    returns = atlas.view(run.name).tables("agent")["returns"]
    assert {row["environment_steps"] for row in returns} == {200}
    assert "rounds of imagination" in (run / "report.html").read_text("utf-8")
    actor = load_actor(run / "raw" / "agent" / "agent0.safetensors")
    facts = json.loads((run / "raw" / "agent" / "facts.json").read_text("utf-8"))
    start = int(facts["start.seeds"].split()[1])
    again = play(open_environment("Pendulum-v1"), actor, steps=200, seed=start)
    last = next(row for row in returns if (row["round"], row["start"]) == (2, 1))
    assert float(again.rewards.sum(dtype=np.float64)) == last["return"]
