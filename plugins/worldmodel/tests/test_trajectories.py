"""Trajectories: real environments, files that give back what was written, and data that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from atlas_worldmodel.collection import Law, collect, draw_actions, play
from atlas_worldmodel.environments import Outcome, open_environment
from atlas_worldmodel.spaces import Box, Discrete
from atlas_worldmodel.trajectories import Episode, Trajectories
from atlas_worldmodel.trajectory_files import read_trajectories, write_trajectories
from attrs import evolve

from atlas.errors import BadInput, InstrumentFailed
from atlas.randomness import RandomStreams


def collected(name: str = "Pendulum-v1", transitions: int = 60, **options) -> Trajectories:
    law = options.pop("law", Law())
    return collect(
        open_environment(name), transitions=transitions, law=law, random=RandomStreams(7), **options
    )


def test_the_pendulum_obeys_its_equations():
    """Gymnasium's documented update with g = 10, m = l = 1, dt = 0.05; observations are float32."""
    data = collected(steps=30)
    angle = np.arctan2(data.observations[..., 1], data.observations[..., 0]).astype(np.float64)
    speed = data.observations[..., 2].astype(np.float64)
    torque = data.actions[..., 0].astype(np.float64)
    expected = np.clip(speed[:, :-1] + (15 * np.sin(angle[:, :-1]) + 3 * torque) * 0.05, -8, 8)
    np.testing.assert_allclose(speed[:, 1:], expected, atol=3e-6)
    cost = angle[:, :-1] ** 2 + 0.1 * speed[:, :-1] ** 2 + 0.001 * torque**2
    np.testing.assert_allclose(data.rewards, -cost, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]
)
def test_equal_seeds_give_equal_data_and_others_others(name):
    first, second = collected(name), collected(name)
    assert first.digest == second.digest
    other = collect(open_environment(name), transitions=60, law=Law(), random=RandomStreams(8))
    assert other.digest != first.digest


def test_an_environment_of_the_suite_repeats_itself_and_rewards_within_its_bounds():
    pytest.importorskip("dm_control")
    name = "dm_control/cartpole-swingup"
    first = collected(name, 100, steps=50)
    assert first.digest == collected(name, 100, steps=50).digest
    assert first.observation_size == 5
    assert 0 <= first.rewards.min() <= first.rewards.max() <= 1


def test_a_repeated_action_adds_up_the_rewards_of_its_steps():
    once, thrice = open_environment("Pendulum-v1"), open_environment("Pendulum-v1", action_repeat=3)
    once.reset(3)
    thrice.reset(3)
    action = np.array([1.5])
    single = [once.step(action) for _ in range(3)]
    together = thrice.step(action)
    np.testing.assert_array_equal(together.observation, single[-1].observation)
    assert together.reward == pytest.approx(sum(o.reward for o in single), rel=1e-12)


def test_an_environment_begins_in_the_state_that_it_is_given():
    observation = open_environment("Pendulum-v1").reset(0, [0.5, -0.25])
    np.testing.assert_allclose(observation, [np.cos(0.5), np.sin(0.5), -0.25], rtol=1e-6)


@pytest.mark.parametrize("ending", ["npz", "parquet"])
@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_a_file_gives_back_what_was_written(tmp_path: Path, ending, name):
    data = collected(name, 90)
    path = tmp_path / f"data.{ending}"
    write_trajectories(data, path)
    read = read_trajectories(path)
    assert read.digest == data.digest
    assert read.facts() == data.facts()


def test_both_kinds_of_file_have_the_same_digest_and_equal_bytes_each_time(tmp_path: Path):
    data = collected("CartPole-v1", 50)
    for name in ("a.npz", "b.npz", "a.parquet"):
        write_trajectories(data, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert read_trajectories(tmp_path / "a.npz").digest == read_trajectories(tmp_path / "a.parquet").digest


def test_a_changed_file_is_refused(tmp_path: Path):
    path = tmp_path / "data.npz"
    write_trajectories(collected(), path)
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["rewards"][0, 0] -= 1
    np.savez(path, **arrays)
    with pytest.raises(BadInput, match="not those that were written"):
        read_trajectories(path)


def test_an_npz_of_another_format_is_refused(tmp_path: Path):
    np.savez(tmp_path / "data.npz", x=np.zeros(3))
    with pytest.raises(BadInput, match="no header"):
        read_trajectories(tmp_path / "data.npz")


def test_a_value_that_is_not_finite_is_named_with_its_place():
    data = collected(steps=20)
    observations = data.observations.copy()
    observations[1, 7, 2] = np.nan
    with pytest.raises(BadInput) as caught:
        evolve(data, observations=observations)
    assert "trajectory 1, step 7, number 2: observation nan is not finite" in str(caught.value)


def test_an_action_out_of_range_is_named_with_its_place():
    data = collected(steps=20)
    actions = data.actions.copy()
    actions[2, 3, 0] = 2.5
    with pytest.raises(BadInput, match=r"action 2\.5 is not in Box"):
        evolve(data, actions=actions)
    choices = collected("CartPole-v1", 40)
    with pytest.raises(BadInput, match="action 2 is not in Discrete"):
        evolve(choices, actions=np.full_like(choices.actions, 2))


def test_observations_actions_and_rewards_of_unequal_length_are_refused():
    short = Episode(np.zeros((5, 2)), np.zeros((5, 1)), np.zeros(5))
    with pytest.raises(BadInput, match="5 observations, 5 actions and 5 rewards make no trajectory"):
        Trajectories.of([short], action_space=Box([-1], [1]), environment="made", generator="none", seed=0)


def test_trajectories_of_unequal_length_are_filled_up_and_no_window_reaches_beyond_their_end():
    data = collected("CartPole-v1", 80)
    assert data.lengths.min() < data.lengths.max()
    for row, start in data.windows(5):
        assert start + 5 <= data.lengths[row]
    assert len(data.windows(5)) == np.maximum(data.lengths - 4, 0).sum()


def test_a_horizon_longer_than_the_data_is_refused():
    with pytest.raises(BadInput, match="horizon of 31 steps does not fit trajectories of at most 30"):
        collected(steps=30).windows(31)


class _Breaking:
    """A pendulum whose simulator fails at its third step."""

    def __init__(self):
        self._inner = open_environment("Pendulum-v1")
        self._count = 0

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def step(self, action) -> Outcome:
        self._count += 1
        if self._count == 3:
            action = np.array([np.nan])
        return self._inner.step(action)


def test_an_environment_that_breaks_is_named_with_the_step():
    with pytest.raises(InstrumentFailed) as caught:
        play(_Breaking(), lambda o, t: np.array([0.0]), steps=10, seed=0)
    assert "Pendulum-v1, step 3" in str(caught.value)


def test_an_environment_that_raises_is_named_with_its_error():
    environment = open_environment("CartPole-v1")
    environment.reset(0)
    with pytest.raises(InstrumentFailed, match="environment raised AssertionError"):
        environment.step(np.array([5]))


def test_an_unknown_environment_is_refused():
    for name in ("Pendulo-v1", "dm_control/cartpole-swing"):
        with pytest.raises(BadInput):
            open_environment(name)


def test_held_actions_are_kept_and_smooth_ones_are_correlated_as_declared():
    """An AR(1) process has the correlation exp(-lag / tau); three standard errors over 2000 draws."""
    generator = np.random.default_rng(0)
    held = draw_actions(Law("held", 4), Discrete(3), 50, 40, generator)
    assert (held.reshape(50, 10, 4, 1) == held.reshape(50, 10, 4, 1)[:, :, :1]).all()
    smooth = draw_actions(Law("smooth", 5), Box([-2], [2]), 2000, 60, generator)[..., 0]
    found = np.corrcoef(smooth[:, 30], smooth[:, 35])[0, 1]
    assert found == pytest.approx(np.exp(-1), abs=3 / np.sqrt(2000))
    assert np.abs(smooth).max() <= 2


def test_models_read_actions_between_minus_one_and_one():
    box = collected(transitions=200)
    features = box.action_features()
    np.testing.assert_allclose(features, box.actions / 2, atol=1e-6)
    choices = collected("CartPole-v1", 40)
    assert (choices.action_features().sum(-1) == choices.mask).all()
