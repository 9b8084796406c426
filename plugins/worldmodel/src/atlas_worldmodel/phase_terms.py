"""Loss terms of the phases' world model and of its critic, summed by a manifest's weights.

All belong to the column `dynamics` of the firewall. `TRAINED` says, for each, which rows of its table it
trains; the audit of each term alone is a test.

A penalty on the rate of jumps alone is one half of a Poisson process's likelihood, that of steps without an
event. With the other half, events are the steps whose frame a jump brings nearer: without it nothing raises a
rate that has fallen, since the gradient of the distance is as small as the rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from atlas_topoencoder.geometry import distance, logmap0_difference
from torch.nn import functional

from atlas.contracts import LossTerm
from atlas.errors import BadInput
from atlas_worldmodel.attention_dynamics import AttentionDynamics, Path
from atlas_worldmodel.critic import Critic
from atlas_worldmodel.firewall import DYNAMICS
from atlas_worldmodel.force_balance import unexplained
from atlas_worldmodel.hodge import sq_length
from atlas_worldmodel.joint import LatentSequence
from atlas_worldmodel.jumps import event_log_probability
from atlas_worldmodel.potentials import gradient
from atlas_worldmodel.splitting import State

__all__ = ["PHASE_SLOT", "PHASE_TERMS", "TRAINED", "PhaseOutputs"]

PHASE_SLOT = "worldmodel.phase"


class PhaseOutputs(NamedTuple):
    """What the terms read.

    Attributes:
        dynamics: The world model, with its critic.
        sequence: What was recorded.
        path: What was predicted of it.
    """

    dynamics: AttentionDynamics
    sequence: LatentSequence
    path: Path

    @property
    def target(self) -> torch.Tensor:
        """The points that were to be predicted, `[B, H, D]`."""
        return self.sequence.targets[:, self.dynamics.given :]

    @property
    def critic(self) -> Critic:
        """The critic.

        Raises:
            BadInput: There is none.
        """
        if self.dynamics.critic is None:
            raise BadInput("there is no critic", where="critic", fix="make the world model with one")
        return self.dynamics.critic

    @property
    def steps(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The points from which and to which the frames lead, constants, `[B (T - 1), D]` each."""
        points = self.sequence.targets
        return points[:, :-1].flatten(0, 1), points[:, 1:].flatten(0, 1)

    @property
    def rewards(self) -> torch.Tensor:
        """What was rewarded between frames, `[B, T - 1]`.

        Raises:
            BadInput: It is not known.
        """
        if self.sequence.rewards is None:
            raise BadInput(
                "the sequences hold no rewards", where="rewards", fix="give rewards with the frames"
            )
        return self.sequence.rewards

    @property
    def even_rewards(self) -> torch.Tensor:
        """What is left of them without the critic's one-form, `[B, T - 1]`: constants."""
        if not self.critic.settings.one_form:
            return self.rewards
        return self.rewards - self.critic.reward_parts(*self.steps).odd.detach().view_as(self.rewards)


def geodesic(outputs: PhaseOutputs) -> torch.Tensor:
    """Return the mean distance of predicted points."""
    return distance(outputs.path.points, outputs.target).mean()


def chart(outputs: PhaseOutputs) -> torch.Tensor:
    """Return the cross-entropy of the charts."""
    charts = outputs.sequence.charts[:, outputs.dynamics.given :]
    return functional.cross_entropy(outputs.path.logits.flatten(0, 1), charts.flatten())


def momentum(outputs: PhaseOutputs) -> torch.Tensor:
    """Return the mean kinetic energy."""
    return State(outputs.path.points, outputs.path.velocities).kinetic_energy.mean()


def jump_rate(outputs: PhaseOutputs) -> torch.Tensor:
    """Return the mean rate of jumps."""
    return outputs.path.rates.mean()


def jump_likelihood(outputs: PhaseOutputs) -> torch.Tensor:
    """Return `-log p` of what each step's jump should have been: an event where it leads nearer."""
    path, target = outputs.path, outputs.target
    closer = distance(path.jumped, target) < distance(path.stayed, target)
    return -event_log_probability(path.rates, 1.0, closer.detach()).mean()


def energy(outputs: PhaseOutputs) -> torch.Tensor:
    """Return the mean squared change of energy that work and heat do not explain."""
    energies = outputs.path.energies
    return (energies[:, 1:] - energies[:, :1] - outputs.path.exchange).square().mean()


def hodge(outputs: PhaseOutputs) -> torch.Tensor:
    """Return the mean squared force that the trajectories show and the model's forces leave unexplained."""
    dynamics = outputs.dynamics
    return unexplained(dynamics.world, outputs.sequence, dynamics.memory).square().sum(-1).mean()


def td(outputs: PhaseOutputs) -> torch.Tensor:
    """Return the mean squared error of temporal difference; what follows is a constant in it."""
    critic = outputs.critic
    value = critic.value(outputs.sequence.targets)
    then = outputs.even_rewards + critic.settings.discount * value[:, 1:].detach()
    return (value[:, :-1] - then).square().mean()


def smoothness(outputs: PhaseOutputs) -> torch.Tensor:
    """Return the mean squared length of the value's gradient, in the metric."""
    z = outputs.sequence.targets
    return sq_length(gradient(outputs.critic.value, z, graph=True), z).mean()


def poisson(outputs: PhaseOutputs) -> torch.Tensor:
    """Return the mean squared residual of the screened Poisson equation, in units of reward."""
    z, then = outputs.steps
    left = outputs.critic.residual(z, outputs.even_rewards.flatten(), 2 * logmap0_difference(z, then))
    return left.square().mean()


def one_form(outputs: PhaseOutputs) -> torch.Tensor:
    """Return the mean squared reward that neither the rate nor the one-form explains."""
    even, odd = outputs.critic.reward_parts(*outputs.steps)
    return (outputs.rewards.flatten() - even - odd).square().mean()


_PHASE_2 = "seed 002, section 6, dynamics loss"
_PATH = frozenset({"codebook", "structure-filter", "world-model"})
_CRITIC = frozenset({"critic"})

_ROWS = (
    ("dynamics-geodesic", geodesic, 1.0, _PATH, "mean d(z, z')", f"{_PHASE_2} 1"),
    ("dynamics-chart", chart, 0.1, _PATH, "-log softmax(logits)_K", f"{_PHASE_2} 2"),
    ("dynamics-momentum", momentum, 0.001, _PATH, "mean |w|^2 / 2", f"{_PHASE_2} 3"),
    ("dynamics-jump-rate", jump_rate, 0.01, _PATH, "mean rate", f"{_PHASE_2} 5"),
    (
        "dynamics-jump-likelihood",
        jump_likelihood,
        1.0,
        _PATH,
        "-log p(event or none)",
        "ours: the other half of a Poisson process's likelihood",
    ),
    (
        "dynamics-energy",
        energy,
        0.0,
        _PATH,
        "mean (H_t - H_0 - work - heat)^2",
        f"{_PHASE_2} 4, less work and heat",
    ),
    (
        "dynamics-hodge",
        hodge,
        0.0,
        frozenset({"world-model"}),
        "mean |f_total - f_conservative - f_solenoidal - f_policy|^2",
        f"{_PHASE_2} 7, the total inferred from trajectories",
    ),
    (
        "critic-td",
        td,
        0.0,
        _CRITIC,
        "mean (V(z) - r - gamma sg V(z'))^2",
        "seed 002, section 2, L_Phi",
    ),
    (
        "critic-smoothness",
        smoothness,
        0.0,
        _CRITIC,
        "mean |dV|^2 / lambda^2",
        "seed 002, section 2, value function objectives 2",
    ),
    (
        "critic-poisson",
        poisson,
        0.0,
        _CRITIC,
        "mean (D_s (-Laplacian V + kappa^2 V) - r [- <v, dV>])^2, kappa^2 = -ln(gamma) / D_s",
        f"{_PHASE_2} 6",
    ),
    (
        "critic-one-form",
        one_form,
        0.0,
        _CRITIC,
        "mean (r - rho dt - <d Phi + delta Psi, dz>)^2",
        "seed 002, section 2, L_Psi",
    ),
)

PHASE_TERMS = {
    name: LossTerm(name, PHASE_SLOT, function, weight, DYNAMICS, formula, source)
    for name, function, weight, _, formula, source in _ROWS
}
"""By name; those of weight 0 are off unless a manifest weighs them."""

TRAINED: Mapping[str, frozenset[str]] = {name: rows for name, _, _, rows, _, _ in _ROWS}
"""Rows of the firewall's table that each term trains, and no other; `critic` too where it acts as a force."""
