"""Terms of the phases: each against a solved case, and each trains what its row says and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.geometry import logmap0_difference
from atlas_topoencoder.model import TopoEncoder
from atlas_worldmodel.attention import Sizes
from atlas_worldmodel.attention_dynamics import AttentionDynamics
from atlas_worldmodel.attention_world import dynamics_of
from atlas_worldmodel.critic import Critic, CriticSettings, require_meaning
from atlas_worldmodel.firewall import DYNAMICS, audit, divide, parameter_groups
from atlas_worldmodel.force_balance import unexplained
from atlas_worldmodel.hodge import sq_length
from atlas_worldmodel.integrator import begin, step
from atlas_worldmodel.joint import LatentSequence, latent_sequence
from atlas_worldmodel.phase_terms import (
    PHASE_SLOT,
    PHASE_TERMS,
    TRAINED,
    PhaseOutputs,
    energy,
    hodge,
    one_form,
    poisson,
    smoothness,
    td,
)
from atlas_worldmodel.poisson import laplacian
from atlas_worldmodel.potentials import gradient, radius
from atlas_worldmodel.rollouts import opening
from attrs import evolve

from atlas.errors import BadInput
from atlas.objective import Objective
from atlas.randomness import RandomStreams

SIZES = Sizes(latent=3, site_vectors=1, site_scalars=2, token_vectors=2, token_scalars=2, hidden=8)


def dynamics(settings: CriticSettings | None) -> AttentionDynamics:
    return AttentionDynamics(
        3, SIZES, memory=1, max_radius=6.0, random=RandomStreams(3), critic=settings
    ).double()


def sequence(points: torch.Tensor, rewards: torch.Tensor) -> LatentSequence:
    """Return points `[B, T, 3]` as a sequence, with actions."""
    count, length = points.shape[:2]
    draw = np.random.default_rng(4)
    charts = torch.zeros(count, length, dtype=torch.int64)
    weights = torch.full((count, length, 3), 1 / 3, dtype=points.dtype)
    centers = torch.tensor(draw.uniform(-0.4, 0.4, (3, 3)))
    actions = torch.tensor(draw.uniform(-1, 1, (count, length - 1, 2)))
    return LatentSequence(points, points, weights, charts, centers, actions, rewards)


def wavy(z: torch.Tensor) -> torch.Tensor:
    """Return a value without symmetry."""
    return torch.sin(2 * z[..., 0] + z[..., 1]) + z[..., 2].square() * z[..., 0]


def points(count: int = 6, length: int = 7) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(0).uniform(-0.4, 0.4, (count, length, 3)))


class Known(Critic):
    """A critic whose value is `offset + z_0`."""

    offset = 0.0

    def value(self, z: torch.Tensor) -> torch.Tensor:
        """Return V."""
        return self.offset + z[..., 0]


def known(settings: CriticSettings, offset: float = 0.0) -> AttentionDynamics:
    made = dynamics(settings)
    assert made.critic is not None
    made.critic.__class__ = Known
    made.critic.offset = offset  # type: ignore[assignment]
    return made


def outputs(model: AttentionDynamics, cut: LatentSequence) -> PhaseOutputs:
    return PhaseOutputs(model, cut, model(cut, None))


def test_temporal_difference_vanishes_at_the_value_and_is_that_of_an_offset_beside_it() -> None:
    """Oracle: rewards made of V, `r = V(z) - gamma V(z')`; an offset c leaves `(c (1 - gamma))^2`."""
    z = points()
    rewards = z[:, :-1, 0] - 0.9 * z[:, 1:, 0]
    for offset in (0.0, 2.0):
        found = td(outputs(known(CriticSettings(discount=0.9), offset), sequence(z, rewards)))
        assert float(found) == pytest.approx((offset * 0.1) ** 2, abs=1e-12)


def test_what_follows_is_a_constant_in_the_temporal_difference() -> None:
    """Oracle: the gradient of `(V(z) - y)^2` with y by hand, which the full residual's is not."""
    model = dynamics(CriticSettings(discount=0.9, hidden=8))
    assert model.critic is not None
    z = points()
    made = outputs(model, sequence(z, torch.ones(6, 6).double()))
    weight = model.critic.value_head.last
    value = model.critic.value(z)
    y = (1 + 0.9 * value[:, 1:]).detach()
    (expected,) = torch.autograd.grad((value[:, :-1] - y).square().mean(), weight)
    (observed,) = torch.autograd.grad(td(made), weight)
    assert torch.allclose(observed, expected, rtol=1e-12)


@pytest.mark.parametrize("drift", [False, True])
def test_the_residual_vanishes_on_the_solution_to_second_order_in_the_stencil(drift: bool) -> None:
    """Oracle: rewards made of V by exact second derivatives; the residual left is truncation."""
    z = points()
    now, velocity = z[:, :-1].flatten(0, 1), 2 * logmap0_difference(z[:, :-1], z[:, 1:]).flatten(0, 1)
    slope = gradient(wavy, now) * (1 - now.square().sum(-1, keepdim=True)) / 2
    rewards = -math.log(0.9) * wavy(now) - 0.2 * laplacian(wavy, now)
    if drift:
        rewards = rewards - (velocity * slope).sum(-1)
    found = []
    for width in (0.1, 0.05):
        model = dynamics(CriticSettings(discount=0.9, diffusion=0.2, stencil=width, drift=drift))
        assert model.critic is not None
        model.critic.value = wavy  # type: ignore[method-assign, assignment]
        found.append(math.sqrt(float(poisson(outputs(model, sequence(z, rewards.view(6, 6)))))))
    assert found[0] < 0.01 * float(rewards.std())
    assert found[0] / found[1] == pytest.approx(4, rel=0.05)


def test_temporal_difference_and_the_generator_agree_and_the_driftless_equation_does_not() -> None:
    """Oracle: points that flow outward, `dr = s`, with rewards made so that `V = r` is the value.

    The reward `r - gamma (r + s)` and the generator's `-ln(gamma) r - s` differ by
    `(1 - gamma + ln gamma) r + (1 - gamma) s`, second order in the frame; the drift term is s.
    """
    discount, s = 0.999, 0.05
    ray = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    r = 0.5 + s * torch.arange(7, dtype=torch.float64)
    z = (torch.tanh(r / 2).unsqueeze(-1) * ray).expand(2, 7, 3)
    rewards = (radius(z)[:, :-1] - discount * radius(z)[:, 1:]).detach()
    left = {}
    for drift in (False, True):
        model = dynamics(CriticSettings(discount=discount, diffusion=1e-9, stencil=0.01, drift=drift))
        assert model.critic is not None
        model.critic.value = radius  # type: ignore[method-assign, assignment]
        made = outputs(model, sequence(z, rewards))
        assert float(td(made)) < 1e-24
        left[drift] = math.sqrt(float(poisson(made)))
    assert left[True] < 0.01 * s
    assert left[False] == pytest.approx(s, rel=0.01)


def test_smoothness_is_the_length_in_the_metric() -> None:
    """Oracle: the distance from the centre has a gradient of length one everywhere."""
    model = dynamics(CriticSettings())
    assert model.critic is not None
    model.critic.value = radius  # type: ignore[method-assign, assignment]
    z = points()
    found = smoothness(outputs(model, sequence(z, z[:, 1:, 0]))).detach()
    assert float(found) == pytest.approx(1, rel=1e-10)


def test_a_step_taken_backwards_has_the_same_rate_and_the_opposite_one_form() -> None:
    model = dynamics(CriticSettings(one_form=True, hidden=8))
    assert model.critic is not None
    z, then = points()[:, 0], points()[:, 1]
    there, back = model.critic.reward_parts(z, then), model.critic.reward_parts(then, z)
    assert there.odd.abs().min() > 0
    assert torch.allclose(there.even, back.even, rtol=1e-12)
    assert torch.allclose(there.odd, -back.odd, rtol=1e-10)


def test_the_one_form_of_a_potential_explains_what_is_gained_along_a_ray() -> None:
    """Oracle: the gain of the distance from the centre along a ray, of which the middle's slope is exact.

    What it explains is no reward for the value: the temporal difference is that of a rewardless world.
    """
    model = known(CriticSettings(one_form=True, hidden=8))
    assert model.critic is not None and model.critic.rate_head is not None
    model.critic.one_form = lambda z: gradient(radius, z)  # type: ignore[method-assign]
    model.critic.rate_head.last.data.zero_()
    z = torch.linspace(0.2, 0.7, 7).double().unsqueeze(-1) * torch.tensor([0.6, 0.0, 0.8]).double()
    z = z.expand(2, 7, 3)
    rewards = (radius(z)[:, 1:] - radius(z)[:, :-1]).detach()
    made = outputs(model, sequence(z, rewards))
    assert float(one_form(made).detach()) < 1e-12
    assert float(one_form(outputs(model, sequence(z, rewards + 0.5))).detach()) == pytest.approx(0.25)
    expected = (z[:, :-1, 0] - 0.98 * z[:, 1:, 0]).square().mean()
    assert float(td(made)) == pytest.approx(float(expected))


def along_a_ray(count: int = 4) -> torch.Tensor:
    """Return points `[count, 7, 3]` that move outward, each at its own speed."""
    speed = torch.linspace(0.05, 0.2, count).double().unsqueeze(-1)
    r = 0.8 + speed * torch.arange(7).double()
    return torch.tanh(r / 2).unsqueeze(-1) * torch.tensor([0.6, 0.0, 0.8]).double()


def moved(model: AttentionDynamics, size: float = 0.1) -> AttentionDynamics:
    """Return the model with weights off their start, where the last layers of heads are zero."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            draw = torch.Generator().manual_seed(number)
            parameter.add_(size * torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype))
    return model


def test_work_and_heat_explain_the_energy_of_a_uniform_force_with_friction() -> None:
    """Oracle: kick, flight and friction in one dimension, whose energy a uniform force keeps exactly."""
    model = dynamics(CriticSettings(force=True))
    model.world.potential = lambda z: 0.1 * radius(z)
    made = outputs(model, sequence(along_a_ray(), torch.zeros(4, 6).double()))
    path = made.path
    assert (path.energies[:, -1] - path.energies[:, 0]).abs().min() > 1e-4
    assert float(energy(made).detach()) < 1e-24


def test_the_energy_that_is_left_is_the_integrator_s_error() -> None:
    """Oracle: kick, flight, kick in a harmonic well along a ray, by hand, without friction."""
    model = dynamics(CriticSettings(force=True))
    model.world.potential = lambda z: 0.15 * radius(z).square()
    model.world.forces.head.network[-1].bias.data[-1] = -60.0
    z = along_a_ray()
    made = outputs(model, sequence(z, torch.zeros(4, 6).double()))
    r, w = radius(z)[:, 2], radius(z)[:, 2] - radius(z)[:, 1]
    w = w - 0.15 * r
    begun, squares = w.square() / 2 + 0.15 * r.square(), []
    for _ in range(made.path.points.shape[1]):
        w = w - 0.15 * r
        r = r + w
        w = w - 0.15 * r
        squares.append((w.square() / 2 + 0.15 * r.square() - begun).square())
    expected = float(torch.stack(squares).mean())
    assert expected > 1e-6
    assert float(energy(made).detach()) == pytest.approx(expected, rel=1e-8)


def test_work_is_booked_as_the_integrator_books_it() -> None:
    """Oracle: a step of `integrator` with attention's push and field, and the critic's potential."""
    model = moved(dynamics(CriticSettings(force=True, hidden=8)))
    assert model.critic is not None
    model.world.forces.head.network[-1].bias.data[-1] = -60.0  # no friction
    cut = sequence(points(), torch.zeros(6, 6).double())
    start = opening(cut.points, cut.actions, 1)
    origin, action = torch.zeros(3).double(), start.ahead[:, 0]
    found = model.world.advance(start.state, action, start.memory, cut.centers, origin)
    tokens = model.world.tokens(cut.centers, start.memory)
    acting = evolve(dynamics_of(model.world.forces, origin, action, tokens), potential=model.critic.energy)
    moment = step(acting, begin(acting, start.state), 1.0)
    assert found.work.abs().min() > 0
    assert torch.allclose(found.state.z, moment.state.z, rtol=1e-10)
    assert torch.allclose(found.work, moment.exchange.work, rtol=1e-8)
    assert found.heat.abs().max() < 1e-20


def own_path(model: AttentionDynamics) -> LatentSequence:
    """Return a sequence that the model makes, longer than it is given; velocities are not remembered."""
    model.world.tokens.lift.data.zero_()
    cut = sequence(0.3 * points(), torch.zeros(6, 6).double())
    made = torch.cat((cut.points[:, : model.given], model(cut, None).points), 1).detach()
    return cut._replace(points=made, targets=made)


def test_the_forces_of_a_world_explain_what_it_makes_itself() -> None:
    model = moved(dynamics(CriticSettings(force=True, hidden=8)), 0.03)
    own = own_path(model)
    assert radius(own.targets).max() < 5  # none was put back from the edge, which no force explains
    left = unexplained(model.world, own, 1)
    assert left.shape == (6, 3, 3)
    assert float(left.detach().abs().max()) < 1e-12


def test_a_force_that_a_world_lacks_is_what_is_left() -> None:
    """Oracle: the length of the missing potential's gradient at the frames, in the metric."""
    model = dynamics(None)
    model.world.potential = wavy
    made = own_path(model)
    model.world.potential = None
    found = float(hodge(outputs(model, made)).detach())
    z = made.targets[:, model.given : -1].flatten(0, 1)
    assert found == pytest.approx(float(sq_length(gradient(wavy, z), z).mean()), rel=1e-8)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", sorted(TRAINED))
def test_a_term_trains_the_rows_that_it_says_and_no_other(name: str, force: bool) -> None:
    """Measured on live points of an encoder, by the audit: zeros are exact."""
    random = RandomStreams(1)
    model = TopoEncoder(Architecture([5], hidden=16, latent=3, charts=3, codes=4), random)
    draw = np.random.default_rng(0).random
    x = torch.tensor(draw((4, 7, 5)), dtype=torch.float32)
    actions = torch.tensor(draw((4, 6, 2)), dtype=torch.float32)
    encoding = model.encode(x.flatten(0, 1))
    live = latent_sequence(divide(model, encoding), actions, live=True, encoding=encoding)
    world = moved(dynamics(CriticSettings(hidden=8, one_form=True, force=force)).float(), 0.05)
    live = live._replace(rewards=torch.tensor(draw((4, 6)), dtype=torch.float32))
    objective = Objective([PHASE_TERMS[name]], {name: 1.0})
    loss = objective({PHASE_SLOT: outputs(world, live)}).total
    cells = audit({DYNAMICS: loss}, parameter_groups(model, world))
    assert {c.parameters for c in cells if c.norm} == TRAINED[name] | ({"critic"} if force else set())


def test_a_term_of_a_critic_that_no_phase_learned_is_refused() -> None:
    with pytest.raises(BadInput, match="learned no critic"):
        require_meaning({"critic-td": 1.0}, None, "steps.three.params.world_loss")


def test_an_energy_that_is_explained_whatever_is_learned_is_refused() -> None:
    with pytest.raises(BadInput, match="no potential acts"):
        require_meaning({"dynamics-energy": 1.0}, {"force": False}, "steps.two.params.world_loss")


def test_two_critics_without_the_generator_s_drift_are_refused() -> None:
    both = {"critic-td": 1.0, "critic-poisson": 1.0}
    with pytest.raises(BadInput, match="no value satisfies both"):
        require_meaning(both, {"drift": False}, "steps.two.params.world_loss")
    require_meaning(both, {"drift": True}, "steps.two.params.world_loss")
