"""Covariant attention: isometries carry its outputs along, and what it must hold it holds exactly."""

from __future__ import annotations

import math

import pytest
import torch
from atlas_topoencoder.geometry import christoffel, conformal_factor, distance, gyration, mobius_add, project
from atlas_worldmodel.attention import (
    CovariantAttention,
    GeodesicQuery,
    Sizes,
    Tokens,
    conformal_factor_about,
    origin_vector,
    see,
)
from atlas_worldmodel.attention_world import ForcesWorld, HeadsWorld, dynamics_of
from atlas_worldmodel.integrator import simulate
from atlas_worldmodel.rollouts import Memory, Opening, arrival, opening, remember, rollout
from atlas_worldmodel.splitting import State, drift
from torch import nn

from atlas.randomness import RandomStreams

FLOAT = torch.float64
SIZES = Sizes(latent=4, site_vectors=1, site_scalars=2, token_vectors=3, token_scalars=5)
CHARTS, MEMORY, BATCH = 3, 2, 6


def drawn(*shape: int, seed: int = 0, scale: float = 0.3) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT)


def in_ball(*shape: int, seed: int) -> torch.Tensor:
    x = drawn(*shape, seed=seed, scale=1.0)
    return 0.7 * torch.tanh(x.norm(dim=-1, keepdim=True)) * x / x.norm(dim=-1, keepdim=True)


def world_of(kind: type[nn.Module]) -> nn.Module:
    """Return a world whose heads have left zero."""
    world = kind(CHARTS, SIZES, memory=MEMORY, random=RandomStreams(3)).double()
    with torch.no_grad():
        for number, parameter in enumerate(world.parameters()):
            parameter.add_(drawn(*parameter.shape, seed=number, scale=0.06))
    return world


def scene() -> tuple[State, torch.Tensor, Memory, torch.Tensor]:
    state = State(in_ball(BATCH, 4, seed=1), drawn(BATCH, 4, seed=2, scale=1.0))
    memory = Memory(
        in_ball(BATCH, MEMORY, 4, seed=3), drawn(BATCH, MEMORY, 4, seed=4), drawn(BATCH, MEMORY, 2, seed=5)
    )
    return state, drawn(BATCH, 2, seed=6, scale=1.0), memory, in_ball(CHARTS, 4, seed=7)


class Isometry:
    """`z -> a + R z` in the Möbius sense, with its turn of orthonormal frames, `gyr[a, R z] R`."""

    def __init__(self, a: torch.Tensor, rotation: torch.Tensor) -> None:
        self.a, self.rotation = a, rotation

    def point(self, z: torch.Tensor) -> torch.Tensor:
        return mobius_add(self.a, z @ self.rotation.mT)

    def vector(self, z: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return gyration(self.a.expand_as(w), (z @ self.rotation.mT).expand_as(w), w @ self.rotation.mT)


def isometry(length: float = 0.6) -> Isometry:
    a = drawn(4, seed=8)
    return Isometry(length * a / a.norm(), torch.linalg.qr(drawn(4, 4, seed=9, scale=1.0))[0])


def moved_world(world: nn.Module, g: Isometry, centers: torch.Tensor) -> nn.Module:
    """Return the same world with the learned vectors at chart centres carried along."""
    with torch.no_grad():
        frames = world.tokens.frames
        frames.copy_(g.vector(centers.unsqueeze(1), frames))
    return world


def test_the_frame_of_an_isometry_is_its_derivative() -> None:
    """Oracle: autograd's Jacobian of the map, `lambda(g z) J / lambda(z)`."""
    g, z, w = isometry(), in_ball(4, seed=1), drawn(4, seed=2)
    jacobian = torch.autograd.functional.jacobian(g.point, z)
    expected = conformal_factor(g.point(z)) / conformal_factor(z) * (jacobian @ w)
    assert torch.allclose(g.vector(z, w), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", [ForcesWorld, HeadsWorld])
def test_isometries_of_the_ball_carry_a_step_along(kind: type[nn.Module]) -> None:
    """Translations and rotations; the origin is moved with the rest. Tolerance: some roundings of float64."""
    g = isometry()
    state, action, memory, centers = scene()
    origin = torch.zeros(4, dtype=FLOAT)
    world = world_of(kind)
    after = world(state, action, memory, centers, origin)
    assert distance(after.z, drift(state, 1.0).z).min() > 0.1  # what is learned acts
    moved = moved_world(world, g, centers)(
        State(g.point(state.z), g.vector(state.z, state.w)),
        action,
        Memory(g.point(memory.points), g.vector(memory.points, memory.velocities), memory.actions),
        g.point(centers),
        g.point(origin),
    )
    assert torch.allclose(moved.z, g.point(after.z), rtol=0, atol=1e-10)
    assert torch.allclose(moved.w, g.vector(after.z, after.w), rtol=0, atol=1e-10)


def test_an_origin_that_stays_behind_breaks_translations_and_no_rotation() -> None:
    state, action, memory, centers = scene()
    origin = torch.zeros(4, dtype=FLOAT)
    missed = {}
    for name, length in (("rotation", 0.0), ("translation", 0.6)):
        g, world = isometry(length), world_of(ForcesWorld)
        after = world(state, action, memory, centers, origin)
        moved = moved_world(world, g, centers)(
            State(g.point(state.z), g.vector(state.z, state.w)),
            action,
            Memory(g.point(memory.points), g.vector(memory.points, memory.velocities), memory.actions),
            g.point(centers),
            origin,
        )
        missed[name] = float((moved.z - g.point(after.z)).detach().abs().max())
    assert missed["rotation"] < 1e-10
    assert missed["translation"] > 1e-2


def test_the_query_holds_the_christoffel_term_at_rank_two() -> None:
    """Oracle: `Gamma(v, v)` of the geometry, over the conformal factor."""
    query = GeodesicQuery(vectors=2, outputs=1, rank=2).double()
    with torch.no_grad():
        query.linear.zero_()
        query.first.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))  # z, v
        query.second.copy_(torch.tensor([[0.0, 1.0], [0.0, 1.0]]))  # v, v
        query.third.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))  # v, z
        query.products.copy_(torch.tensor([[2.0, -1.0]]))
    z, v = in_ball(BATCH, 4, seed=1), drawn(BATCH, 4, seed=2)
    expected = christoffel(z, v) / conformal_factor(z)
    at = origin_vector(torch.zeros(4, dtype=FLOAT), z)
    observed = query(torch.stack((at, v), 1))[:, 0]
    assert torch.allclose(observed, expected, rtol=0, atol=1e-13)


def test_the_temperature_is_the_root_of_the_keys_size_over_the_conformal_factor() -> None:
    """Oracle: the softmax by hand of known scores; d_k counts the numbers of a key, 1 vector and 1 scalar."""
    sizes = SIZES._replace(heads=1, channels=1, site_scalars=1, token_scalars=1)
    attention = CovariantAttention(sizes).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.zero_()
        for one in (attention.scalar_query, attention.scalar_key, attention.scalar_value):
            one.fill_(1.0)
        attention.slope.fill_(-50.0)  # softplus 0: the distance does not count
    z = in_ball(BATCH, 4, seed=1)
    tokens = Tokens(in_ball(BATCH, 3, 4, seed=2), drawn(BATCH, 3, 3, 4, seed=3), drawn(BATCH, 3, 1, seed=4))
    factor = conformal_factor_about(torch.zeros(4, dtype=FLOAT), z)
    asked = drawn(BATCH, 1, seed=5)
    site = drawn(BATCH, 2, 4, seed=6)
    _, heard = attention(factor, site, asked, see(z, tokens), tokens.scalars)
    scores = asked * tokens.scalars[..., 0] / (math.sqrt(5) / conformal_factor(z))
    expected = (scores.softmax(-1) * tokens.scalars[..., 0]).sum(-1, keepdim=True)
    assert torch.allclose(heard, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [ForcesWorld, HeadsWorld])
def test_an_untrained_world_flies_freely_but_for_its_friction(kind: type[nn.Module]) -> None:
    state, action, memory, centers = scene()
    world = kind(CHARTS, SIZES, memory=MEMORY, random=RandomStreams(3)).double()
    observed = world(state, action, memory, centers, torch.zeros(4, dtype=FLOAT))
    kept = math.exp(-math.log1p(math.exp(-2.0)))
    half = drift(state, 0.5)
    expected = drift(State(half.z, kept * half.w), 0.5)
    assert torch.allclose(torch.cat(observed), torch.cat(expected), rtol=0, atol=1e-12)


def test_the_velocity_on_arrival_flies_on_along_the_same_geodesic() -> None:
    before, w = in_ball(BATCH, 4, seed=1), drawn(BATCH, 4, seed=2)
    now = drift(State(before, w), 1.0)
    state = arrival(before, now.z)
    assert torch.allclose(state.w, now.w, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [ForcesWorld, HeadsWorld])
def test_an_untrained_world_goes_on_along_what_it_was_given(kind: type[nn.Module]) -> None:
    """Oracle: points that its own friction leaves of a flight, `(1 + k) / 2 k^n` of the speed in step n."""
    start, kept = State(in_ball(BATCH, 4, seed=1), drawn(BATCH, 4, seed=2)), 1 / (1 + math.exp(-2.0))
    lengths = [0.0, *(sum((1 + kept) / 2 * kept**n for n in range(m)) for m in range(1, 8))]
    points = torch.stack([drift(start, length).z for length in lengths], 1)
    world = kind(CHARTS, SIZES, memory=MEMORY, random=RandomStreams(3)).double()
    predicted = rollout(world, opening(points, torch.zeros(BATCH, 7, 2).double(), MEMORY), scene()[3])
    assert torch.allclose(predicted, points[:, MEMORY + 2 :], rtol=0, atol=1e-11)


def test_a_rollout_remembers_what_it_passed() -> None:
    state, before, memory, centers = scene()
    world = world_of(HeadsWorld)
    actions, origin = drawn(BATCH, 3, 2, seed=6), torch.zeros(4, dtype=FLOAT)
    path = rollout(world, Opening(state, before, memory, actions), centers)
    state = world.begin(state, before, memory, centers, origin)
    for t in range(3):
        after = world(state, actions[:, t], memory, centers, origin)
        memory, state = remember(memory, state, actions[:, t]), State(project(after.z, 6.0), after.w)
        assert torch.allclose(path[:, t], state.z, rtol=0, atol=1e-14)
    forgetful = world(state, actions[:, 2], scene()[2], centers, origin)
    assert not torch.allclose(world(state, actions[:, 2], memory, centers, origin).z, forgetful.z, atol=1e-4)


@pytest.mark.parametrize("kind", [ForcesWorld, HeadsWorld])
def test_exploding_heads_leave_float32_paths_finite(kind: type[nn.Module]) -> None:
    world = kind(CHARTS, SIZES, memory=MEMORY, random=RandomStreams(3))
    with torch.no_grad():
        for number, parameter in enumerate(world.parameters()):
            parameter.add_(drawn(*parameter.shape, seed=number, scale=3.0).float())
    state, before, memory, centers = scene()
    begin = Opening(
        State(*(part.float() for part in state)),
        before.float(),
        Memory(*(part.float() for part in memory)),
        drawn(BATCH, 30, 2, seed=6).float(),
    )
    path = rollout(world, begin, centers.float())
    assert path.isfinite().all()
    assert path.square().sum(-1).max() < 1


def test_attention_is_a_source_of_forces_for_the_simulator() -> None:
    """Oracle: the world's own step with its friction taken out."""
    state, action, memory, centers = scene()
    origin, world = torch.zeros(4, dtype=FLOAT), world_of(ForcesWorld)
    with torch.no_grad():
        world.forces.head.network[-1].bias[-1] = -100.0
        world.forces.head.network[-1].weight[-1] = 0.0
        tokens = world.tokens(centers, memory)
        dynamics = dynamics_of(world.forces, origin, action, tokens)
        _, moment = simulate(dynamics, state, time=1.0, steps=1)
        expected = world(state, action, memory, centers, origin)
    assert torch.allclose(torch.cat(moment.state), torch.cat(expected), rtol=0, atol=1e-12)
