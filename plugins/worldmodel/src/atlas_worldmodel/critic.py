"""The critic of the phases: a value on the ball, and what the value needs to know of time and noise.

Its heads are read by loss terms of the phases (`phase_terms`). Points reach it as constants: a critic that
moved the points that it judges could make its own task easy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from atlas_topoencoder.geometry import conformal_factor, expmap0, logmap0_difference, mobius_add
from attrs import frozen
from torch import nn
from torch.nn import functional

from atlas.errors import BadInput
from atlas.randomness import RandomStreams
from atlas_worldmodel.fields import ScalarHead, draw_heads
from atlas_worldmodel.hodge import HodgeCritic
from atlas_worldmodel.nerve import Nerve
from atlas_worldmodel.poisson import residual, stencil
from atlas_worldmodel.potentials import Barrier, Outward, total

__all__ = ["Critic", "CriticSettings", "RewardParts", "require_meaning", "settings_of"]


@frozen
class CriticSettings:
    """What is chosen of a critic.

    Attributes:
        hidden: Width of its networks.
        discount: Of rewards, a frame; between 0 and 1.
        diffusion: Of the points, `D_s = temperature / friction`, squared length a frame; positive.
        stencil: Hyperbolic step by which V is differentiated; positive.
        drift: Whether the Poisson equation knows where the points go, and not their diffusion alone.
        force: Whether the potential made of V pushes in the world model.
        one_form: Whether rewards have a part that changes its sign with the direction.
    """

    hidden: int = 64
    discount: float = 0.98
    diffusion: float = 0.1
    stencil: float = 0.1
    drift: bool = False
    force: bool = False
    one_form: bool = False

    @property
    def screening(self) -> float:
        """kappa, `kappa^2 = -ln(gamma) / (D_s dt)` with the frame as unit of time."""
        return math.sqrt(-math.log(self.discount) / self.diffusion)


class RewardParts(NamedTuple):
    """A step's reward by its behaviour when the step is taken backwards, `[...]`."""

    even: torch.Tensor
    odd: torch.Tensor


class Critic(nn.Module):
    """A value of points, higher is better, and the parts of what is rewarded between them.

    A reward is `rho dt + <R, dz>`. The one-form R is `d Phi + delta Psi`, heads on a shared trunk; it has no
    harmonic part here, since the ball has no hole and the phases look for none in the atlas.

    Args:
        dimension: D.
        settings: See there.
        max_radius: Hyperbolic radius of the points, at which Psi vanishes.
        random: Streams that the initial weights are drawn from.
    """

    def __init__(
        self, dimension: int, settings: CriticSettings, *, max_radius: float, random: RandomStreams
    ) -> None:
        super().__init__()
        self.settings = settings
        self.value_head = ScalarHead(dimension, settings.hidden)
        self.rate_head = ScalarHead(dimension, settings.hidden) if settings.one_form else None
        self.coupling = nn.Parameter(torch.tensor(-4.0)) if settings.force else None
        self._intrinsic = total(Outward(), Barrier(capacity=max_radius, slope=2.0 * dimension))
        edge = math.tanh(max_radius / 2) ** 2
        self.hodge = (
            HodgeCritic(
                dimension,
                nerve=Nerve(1, (), ()),
                weights=lambda z: z.new_ones(len(z), 1),
                hidden=(settings.hidden, settings.hidden),
                edge=lambda z: 1 - z.square().sum(-1) / edge,
            )
            if settings.one_form
            else None
        )
        draw_heads(self, random, "critic weights")

    def value(self, z: torch.Tensor) -> torch.Tensor:
        """Return V at points `[..., D]`, `[...]`."""
        found: torch.Tensor = self.value_head(z)
        return found

    def energy(self, z: torch.Tensor) -> torch.Tensor:
        """Return the potential energy at points `[..., D]`, `c (-V + U + B)`, `[...]`.

        U pushes outward and B, which outweighs it, back from the points' greatest radius. c, learned and
        positive, turns units of reward into units of energy. Without a force it is 0.
        """
        if self.coupling is None:
            return torch.zeros_like(z[..., 0])
        return functional.softplus(self.coupling) * (self._intrinsic(z) - self.value(z))

    def one_form(self, z: torch.Tensor) -> torch.Tensor:
        """Return R at points `[B, D]`, covectors `[B, D]`; zero where rewards have no such part."""
        return torch.zeros_like(z) if self.hodge is None else self.hodge(z).form

    def reward_parts(self, z: torch.Tensor, then: torch.Tensor) -> RewardParts:
        """Return `rho` and `<R, dz>` of steps between points `[B, D]`, both at the middle of the geodesic.

        Taken there, a step and its reverse have the same rho and opposite `<R, dz>`, exactly.
        """
        middle = mobius_add(z, expmap0(logmap0_difference(z, then) / 2))
        ahead = 2 * logmap0_difference(middle, then) - 2 * logmap0_difference(middle, z)
        odd = (self.one_form(middle) * ahead).sum(-1) / conformal_factor(middle).squeeze(-1)
        even = torch.zeros_like(odd) if self.rate_head is None else self.rate_head(middle)
        return RewardParts(even, odd)

    def residual(self, z: torch.Tensor, reward: torch.Tensor, velocity: torch.Tensor) -> torch.Tensor:
        """Return what the screened Poisson equation leaves at points `[B, D]`, in units of reward, `[B]`.

        `D_s (-Laplacian V + kappa^2 V) - r`, and without `<v, dV>` where there is drift, by the stencil. With
        it the equation is that of the generator, whose solution the temporal difference has too, up to the
        length of a frame; without it they agree for points that only diffuse.

        Args:
            z: Points.
            reward: In the frame that begins there, `[B]`.
            velocity: Of the frame, in the orthonormal frame, `[B, D]`: a sample of the drift.
        """
        at, diffusion = stencil(self.value, z, self.settings.stencil), self.settings.diffusion
        left = diffusion * residual(at.value, at.laplacian, reward / diffusion, self.settings.screening)
        return left - (velocity * at.slope).sum(-1) if self.settings.drift else left


def settings_of(weights: Mapping[str, float], chosen: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the settings of the critic that there is to be, by name; None where nothing reads it.

    Args:
        weights: Those of the loss terms that count.
        chosen: The settings that a manifest chooses.
    """
    if not chosen["force"] and not any(name.startswith("critic-") for name in weights):
        return None
    return {**chosen, "one_form": "critic-one-form" in weights}


def require_meaning(weights: Mapping[str, float], critic: Mapping[str, Any] | None, where: str) -> None:
    """Refuse weights of loss terms that nothing can be trained by.

    Args:
        weights: Those that count, by term.
        critic: Settings of the critic that there is; None for none.
        where: Of the weights in the manifest.

    Raises:
        BadInput: A term reads what there is not, or two critics are weighed that disagree.
    """
    if "dynamics-energy" in weights and (critic is None or not critic["force"]):
        raise BadInput(
            "dynamics-energy has a weight, and no potential acts: work and heat explain all of the energy",
            where=where,
            fix="set `critic: {force: true}` in the step of phase 2, or leave dynamics-energy out",
        )
    lacking = [name for name in weights if name.startswith("critic-")]
    if lacking and critic is None:
        raise BadInput(
            f"{lacking[0]} has a weight, and the phase before learned no critic",
            where=where,
            fix=f"weigh {lacking[0]} in the step of phase 2 too, or leave it out here",
        )
    if "critic-one-form" in weights and critic is not None and not critic["one_form"]:
        raise BadInput(
            "critic-one-form has a weight, and the phase before learned no one-form",
            where=where,
            fix="weigh critic-one-form in the step of phase 2 too, or leave it out here",
        )
    if critic is not None and {"critic-td", "critic-poisson"} <= set(weights) and not critic["drift"]:
        raise BadInput(
            "critic-td and critic-poisson both have a weight, and no value satisfies both: they agree only "
            "for points that diffuse without drift",
            where=where,
            fix="set `critic: {drift: true}` in the step of phase 2, which adds the generator's drift term, "
            "or weigh one of them",
        )
