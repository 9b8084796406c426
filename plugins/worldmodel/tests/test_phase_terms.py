"""Terms of the phases: each against a solved case, and each trains what its row says and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.model import TopoEncoder
from atlas_worldmodel.attention import Sizes
from atlas_worldmodel.attention_dynamics import AttentionDynamics
from atlas_worldmodel.critic import Critic, CriticSettings, require_meaning
from atlas_worldmodel.firewall import DYNAMICS, audit, divide, parameter_groups
from atlas_worldmodel.joint import LatentSequence, latent_sequence
from atlas_worldmodel.phase_terms import PHASE_SLOT, PHASE_TERMS, TRAINED, PhaseOutputs, td

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


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_a_term_trains_the_rows_that_it_says_and_no_other(name: str) -> None:
    """Measured on live points of an encoder, by the audit: zeros are exact."""
    random = RandomStreams(1)
    model = TopoEncoder(Architecture([5], hidden=16, latent=3, charts=3, codes=4), random)
    draw = np.random.default_rng(0).random
    x = torch.tensor(draw((4, 7, 5)), dtype=torch.float32)
    actions = torch.tensor(draw((4, 6, 2)), dtype=torch.float32)
    encoding = model.encode(x.flatten(0, 1))
    live = latent_sequence(divide(model, encoding), actions, live=True, encoding=encoding)
    world = dynamics(CriticSettings(hidden=8)).float()
    with torch.no_grad():  # the last layers of fresh heads are zero, and pass no gradient on
        for number, parameter in enumerate(world.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.add_(0.05 * noise)
    live = live._replace(rewards=torch.tensor(draw((4, 6)), dtype=torch.float32))
    objective = Objective([PHASE_TERMS[name]], {name: 1.0})
    loss = objective({PHASE_SLOT: outputs(world, live)}).total
    cells = audit({DYNAMICS: loss}, parameter_groups(model, world))
    assert {c.parameters for c in cells if c.norm} == TRAINED[name]


def test_a_term_of_a_critic_that_no_phase_learned_is_refused() -> None:
    with pytest.raises(BadInput, match="learned no critic"):
        require_meaning({"critic-td": 1.0}, None, "steps.three.params.world_loss")
