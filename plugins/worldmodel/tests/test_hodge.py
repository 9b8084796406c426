"""The nerve's holes, forms that see them, and a critic that takes a one-form on an annulus apart.

In two dimensions the star of a one-form does not depend on a conformal factor, so that the Euclidean annulus
is an exact oracle for the hyperbolic one.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from atlas_topoencoder.geometry import conformal_factor, pairwise_distance
from atlas_worldmodel.hodge import HodgeCritic, codifferential, nerve_form
from atlas_worldmodel.nerve import Nerve, truncated

INNER, OUTER, TURNING = 0.3, 0.8, 0.4


def ring(middle: bool = False):
    """Return the partition of unity of eight charts around the hole, and of one in it where asked."""
    angles = torch.arange(8) * math.pi / 4
    centers = 0.55 * torch.stack((angles.cos(), angles.sin()), -1)
    if middle:
        centers = torch.cat((centers, torch.zeros(1, 2)))

    def weights(z: torch.Tensor) -> torch.Tensor:
        return truncated(torch.softmax(-pairwise_distance(z, centers.to(z)) / 0.25, -1), 0.09)

    return weights


def points(count: int, seed: int = 0, inner: float = INNER) -> torch.Tensor:
    """Return points of the annulus, uniform in the coordinates."""
    generator = torch.Generator().manual_seed(seed)
    share, turn = torch.rand(2, count, generator=generator)
    size, angle = (inner**2 + (OUTER**2 - inner**2) * share).sqrt(), 2 * math.pi * turn
    return torch.stack((size * angle.cos(), size * angle.sin()), -1)


def circle(center: tuple[float, float], size: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points of a circle, against the clock, and the steps between them."""
    angle = torch.linspace(0, 2 * math.pi, 8001)[:-1].double()
    around = size * torch.stack((angle.cos(), angle.sin()), -1)
    steps = 2 * math.pi / 8000 * torch.stack((-around[:, 1], around[:, 0]), -1)
    return around + torch.tensor(center).double(), steps


def test_charts_around_a_hole_have_one_class_and_a_chart_in_it_fills_it():
    around = Nerve.of(ring()(points(20_000)))
    filled = Nerve.of(ring(middle=True)(points(20_000, inner=0.0)))
    assert (around.betti, filled.betti) == (1, 0)
    assert len(set(around.cycles[0])) >= 4


def test_two_holes_have_a_class_each_that_sees_its_own_cycle():
    """Two squares that share an edge, neither filled."""
    nerve = Nerve(6, ((0, 1), (0, 3), (1, 2), (1, 4), (2, 3), (2, 5), (4, 5)), ())
    assert nerve.betti == 2
    sums = [
        [float(sum(one[i, j] for i, j in pairwise(cycle))) for cycle in nerve.cycles] for one in nerve.classes
    ]
    assert sums == [pytest.approx([1, 0], abs=1e-12), pytest.approx([0, 1], abs=1e-12)]


def test_the_form_of_a_class_winds_around_the_hole_once_and_around_nothing_else():
    """Tolerance: 8,000 points of a form whose slope is continuous."""
    weights = ring()
    classes = Nerve.of(weights(points(20_000))).classes
    for center, size, turns in (((0.0, 0.0), 0.4, 1), ((0.0, 0.0), 0.75, 1), ((0.5, 0.1), 0.15, 0)):
        z, steps = circle(center, size)
        integral = float((nerve_form(classes, weights, z)[0] * steps).sum())
        assert abs(integral) == pytest.approx(turns, abs=1e-5)


def test_the_codifferential_of_a_function_times_the_area_is_its_slope_turned():
    z = points(64).double().requires_grad_()
    height = torch.sin(3 * z[:, 0]) * z[:, 1]
    (slope,) = torch.autograd.grad(height.sum(), z, create_graph=True)
    entries = (height * conformal_factor(z).squeeze(-1).square()).unsqueeze(-1)
    turned = torch.stack((slope[:, 1], -slope[:, 0]), -1)
    assert torch.allclose(codifferential(entries, z), turned, atol=1e-12)


def test_a_codifferential_has_no_divergence():
    """Oracle: the divergence of a form in three dimensions, `lambda^-3 sum_i d_i (lambda a_i)`."""
    generator = torch.Generator().manual_seed(0)
    z = (0.4 * torch.randn(64, 3, generator=generator).double().tanh()).requires_grad_()
    entries = torch.stack((torch.sin(z[:, 0] * z[:, 2]), z[:, 1] ** 3, torch.exp(z[:, 0] - z[:, 1])), -1)
    form = codifferential(entries, z) * conformal_factor(z)
    divergence = sum(
        torch.autograd.grad(form[:, axis].sum(), z, retain_graph=True)[0][:, axis] for axis in range(3)
    )
    assert float(divergence.abs().max()) < 1e-11


def test_without_a_hole_the_harmonic_head_is_off():
    weights = ring(middle=True)
    nerve = Nerve.of(weights(points(20_000, inner=0.0)))
    critic = HodgeCritic(2, nerve=nerve, weights=weights)
    z = points(16, inner=0.0)
    assert critic.strengths.numel() == 0
    assert torch.equal(critic(z).harmonic, torch.zeros_like(z))
    assert float(critic.harmonic_loss(z)) == 0.0


def oracle(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the exact, co-exact and harmonic part of a form on the annulus, `[B, 2]` each."""
    at = z.detach().requires_grad_()
    size, angle = at.norm(dim=-1), torch.atan2(at[:, 1], at[:, 0])
    potential = torch.cos(2 * angle) * size**2 + size * torch.sin(angle) / 2
    stream = 8 * (size - INNER) * (OUTER - size) * (1 + 0.7 * torch.cos(angle) + 0.3 * torch.sin(3 * angle))
    (exact,) = torch.autograd.grad(potential.sum(), at, retain_graph=True)
    (slope,) = torch.autograd.grad(stream.sum(), at)
    turned = torch.stack((-slope[:, 1], slope[:, 0]), -1)
    winding = torch.stack((-z[:, 1], z[:, 0]), -1) / z.square().sum(-1, keepdim=True)
    return exact, turned, TURNING * winding


@pytest.mark.slow
def test_a_critic_finds_the_three_parts_of_a_form_on_the_annulus():
    """One and a half times the errors of this short training, and more; a part that is missing costs 1."""
    torch.manual_seed(0)
    weights = ring()
    critic = HodgeCritic(
        2,
        nerve=Nerve.of(weights(points(20_000))),
        weights=weights,
        edge=lambda z: 16 * (z.norm(dim=-1) - INNER) * (OUTER - z.norm(dim=-1)),
    )
    slow = [parameter for name, parameter in critic.named_parameters() if name != "strengths"]
    groups = [{"params": slow}, {"params": [critic.strengths]}]
    optimizer = torch.optim.Adam(groups, lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[1e-2, 5e-2], total_steps=500)
    for step in range(500):
        z = points(256, seed=step + 1)
        volume = conformal_factor(z).squeeze(-1).square()
        loss = critic.fit_loss(sum(oracle(z)), z, volume) + critic.harmonic_loss(z, volume)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    z = points(4000)
    pairs = list(zip(critic(z)[:3], oracle(z), strict=True))
    errors = [float(((found - exact).norm() / exact.norm()).detach()) for found, exact in pairs]
    assert errors[0] < 0.1 and errors[1] < 0.1 and errors[2] < 0.35, errors
    period = abs(float(critic.strengths[0].detach())) / (2 * math.pi)
    assert period == pytest.approx(TURNING, rel=0.15)
