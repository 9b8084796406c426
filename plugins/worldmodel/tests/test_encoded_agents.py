"""Agents in an encoder's ball: what they see, what they imagine, and what their file keeps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from agent_desk import SMALL, require_the_same_bits, silent
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.checkpoint import encode_checkpoint
from atlas_topoencoder.model import TopoEncoder
from atlas_worldmodel.agent import Agent
from atlas_worldmodel.agent_checkpoint import encode_actor, load_actor
from atlas_worldmodel.agent_instrument import objective_of
from atlas_worldmodel.collection import Law, collect, planned, play
from atlas_worldmodel.encoded_agents import seen_latents
from atlas_worldmodel.encoded_trajectories import ball_chart, open_encoder
from atlas_worldmodel.environments import open_environment
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.given_world import GivenWorld, given_world
from atlas_worldmodel.observation_chart import chart_facts
from atlas_worldmodel.trajectories import Trajectories
from atlas_worldmodel.trajectory_files import write_trajectories
from atlas_worldmodel.world_state import encode_world
from atlas_worldmodel.world_training import model_on
from attrs import evolve

from atlas.errors import BadInput
from atlas.randomness import RandomStreams

PLACES = ("pendulum/trajectories.npz", "atlas/checkpoint0.safetensors", "world/world.safetensors")


@pytest.fixture(scope="module")
def data() -> Trajectories:
    environment = open_environment("Pendulum-v1")
    return collect(environment, transitions=100, steps=20, law=Law("held", 5), random=RandomStreams(6))


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """The files of the steps before: trajectories, an encoder and a world, neither of them trained."""
    folder = tmp_path_factory.mktemp("steps")
    architecture = Architecture(shape=[3], hidden=16, latent=2, charts=3, codes=4, max_radius=3.0)
    model = TopoEncoder(architecture, RandomStreams(4))
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for place in PLACES:
        (folder / place).parent.mkdir()
    checkpoint = folder / PLACES[1]
    checkpoint.write_bytes(encode_checkpoint(tensors, architecture, {"trajectories": data.digest}))
    write_trajectories(data, folder / PLACES[0])
    encoder = open_encoder(checkpoint, data, where="here")
    latent = seen_latents(encoder, data)
    latent = evolve(latent, observations=latent.observations[..., :4])
    sizes, random = FieldSizes(16, 8), RandomStreams(1)
    world = model_on(ball_chart(latent), latent, sizes, bound_speed=False, stream=8, random=random)
    facts = {"coordinates": chart_facts(world.chart), "hidden": 16, "field": 8, "stream": 8}
    facts |= {"trajectories": data.digest, "encoder": encoder.digest}
    own = {f"model.{name}": value for name, value in world.state_dict().items()}
    (folder / PLACES[2]).write_bytes(encode_world(own, facts))
    return folder


def given(folder: Path, **changes: Path) -> GivenWorld:
    inputs = {place: folder / place for place in PLACES} | changes
    context = SimpleNamespace(step="agent", inputs=inputs, params={})
    return given_world(context, open_environment("Pendulum-v1"))


def test_an_agent_sees_while_it_plays_what_trajectories_hold(folder, data):
    """Played again from the same starts with the same actions; both go through the encoder in float32."""
    opened = given(folder)
    starts = RandomStreams(6).generator("starts", 0).integers(2**31, size=5)
    for number in range(2):
        act = planned(data.actions[number])
        episode = play(opened.environment, act, steps=20, seed=int(starts[number]))
        seen = opened.data.observations[number]
        np.testing.assert_allclose(episode.observations[1:], seen, rtol=1e-4, atol=1e-5)
    assert np.all(episode.observations[0, 2:] == 0), "the first frame has neither motion nor an action before"


@torch.no_grad()
def test_paths_in_imagination_are_the_open_loop_of_the_encoded_world(folder, data):
    opened = given(folder)
    first = torch.from_numpy(opened.data.observations[:, 0])
    path = opened.world.model(first[:, :4], torch.from_numpy(opened.data.actions))
    moment = opened.world.begin(first)
    for step, action in enumerate(torch.from_numpy(data.action_features()[:, 1:]).unbind(1)):
        after = opened.world.step(moment, action)
        moment = after.state
        torch.testing.assert_close(moment.state.z, path.states.z[:, step])
        torch.testing.assert_close(moment.observation[:, :4], path.observations[:, step])
        assert torch.equal(moment.observation[:, 4:], action)
        torch.testing.assert_close(after.reward, path.rewards[:, step])


def agent(folder: Path) -> Agent:
    opened, settings = given(folder), evolve(SMALL, members=1)
    objective = objective_of("imagination", {})
    return Agent(opened.environment, settings, objective, RandomStreams(5), Law("held", 5), opened)


def test_an_encoded_agent_resumes_bit_for_bit_and_its_file_acts_as_it_did(folder, tmp_path):
    require_the_same_bits(lambda: agent(folder))
    one = agent(folder)
    one.advance(silent)
    (tmp_path / "agent").write_bytes(encode_actor(one))
    inside = play(one.environment, one.act, steps=20, seed=3)
    outside = play(open_environment("Pendulum-v1"), load_actor(tmp_path / "agent"), steps=20, seed=3)
    np.testing.assert_array_equal(inside.actions, outside.actions)
    assert one.transitions == 100


def test_another_encoder_than_the_worlds_is_refused(folder, data, tmp_path):
    architecture = Architecture(shape=[3], hidden=16, latent=2, charts=3, codes=4)
    model = TopoEncoder(architecture, RandomStreams(9))
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    other = tmp_path / "checkpoint0.safetensors"
    other.write_bytes(encode_checkpoint(tensors, architecture, {"trajectories": data.digest}))
    with pytest.raises(BadInput, match="another encoder"):
        given(folder, **{PLACES[1]: other})


def test_a_world_of_encoded_frames_without_its_encoder_is_refused(folder):
    inputs = {place: folder / place for place in PLACES if place != PLACES[1]}
    context = SimpleNamespace(step="agent", inputs=inputs, params={})
    with pytest.raises(BadInput, match="checkpoints of a TopoEncoder, expected one"):
        given_world(context, open_environment("Pendulum-v1"))
