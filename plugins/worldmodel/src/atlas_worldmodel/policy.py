"""The policy: a force law on the latent state, and the motor that turns a force into an action.

At a point of the ball the policy draws a force, a tangent vector in the orthonormal frame, from a normal law
of equal width in all directions. Width and mean do not depend on coordinates then, and two laws at different
points are compared after the earlier one is carried along the geodesic. The motor decodes a force into
numbers of a box or into a choice. Seed 002, section 3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from atlas_topoencoder.geometry import expmap0, gyration, logmap0
from torch import nn
from torch.nn import functional

from atlas.randomness import RandomStreams
from atlas_worldmodel.spaces import ActionSpace, Discrete

__all__ = ["Acted", "ForceLaw", "Policy", "Value", "points_of", "zeno_divergence"]

_WIDTHS = (-5.0, 1.0)
"""Least and greatest logarithm of a law's width."""


class ForceLaw(NamedTuple):
    """A normal law of forces at points.

    Attributes:
        mean: `[..., D]`, in the orthonormal frame.
        log_width: Logarithm of the standard deviation in every direction, `[..., 1]`.
    """

    mean: torch.Tensor
    log_width: torch.Tensor

    def draw(self, noise: torch.Tensor) -> torch.Tensor:
        """Return the forces of standard normal noise `[..., D]`, differentiable by the law."""
        return self.mean + self.log_width.exp() * noise

    def log_density(self, force: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of the density of forces `[..., D]`, `[...]`, in nats."""
        size = self.mean.shape[-1]
        squares = ((force - self.mean) / self.log_width.exp()).square().sum(-1)
        return -squares / 2 - size * (self.log_width.squeeze(-1) + math.log(2 * math.pi) / 2)

    @property
    def entropy(self) -> torch.Tensor:
        """Differential entropy, `[...]`, in nats: `D (1 + log 2 pi) / 2 + D log width`."""
        size = self.mean.shape[-1]
        return size * (self.log_width.squeeze(-1) + (1 + math.log(2 * math.pi)) / 2)


def zeno_divergence(law: ForceLaw, z: torch.Tensor, before: ForceLaw, z_before: torch.Tensor) -> torch.Tensor:
    """Return `KL(law || before)`, `before` carried along the geodesic from `z_before` to `z`, `[...]`.

    Seed 002, section 3, with the transport that comparing vectors at two points takes. It is zero for a force
    that is carried parallel to itself, and does not change under isometries of the ball.
    """
    carried = gyration(z, -z_before, before.mean)
    size = law.mean.shape[-1]
    ratio = (2 * (law.log_width - before.log_width)).exp().squeeze(-1)
    apart = ((law.mean - carried) / before.log_width.exp()).square().sum(-1)
    return (size * (ratio - 1 - ratio.log()) + apart) / 2


class Acted(NamedTuple):
    """What a policy did at points.

    Attributes:
        law: Of the force.
        features: The action as a model reads it, `[..., F]`, differentiable by policy and point; a choice is
            straight-through, its gradient that of the probabilities.
        score: Logarithm of the density of what was drawn, a constant, under the law, `[...]`.
    """

    law: ForceLaw
    features: torch.Tensor
    score: torch.Tensor


class Policy(nn.Module):
    """A force law and a motor.

    Args:
        latent: Dimensions of the ball, D.
        space: Of the actions.
        hidden: Width of the two hidden layers; 0 for a law linear in the point's logarithm.
        random: Streams that the initial weights are drawn from.
    """

    def __init__(self, latent: int, space: ActionSpace, *, hidden: int, random: RandomStreams) -> None:
        super().__init__()
        self.space = space
        self.latent = latent
        self.body = _network(latent, hidden, latent + 1)
        self.motor = nn.Linear(latent, space.features)
        draw_layers(self, random, "policy")

    def law(self, z: torch.Tensor) -> ForceLaw:
        """Return the law of the force at points `[..., D]`."""
        out = self.body(coordinates(z))
        return ForceLaw(out[..., :-1], _between(out[..., -1:], *_WIDTHS))

    def decode(self, force: torch.Tensor) -> torch.Tensor:
        """Return what the motor makes of forces, `[..., F]`: numbers in -1 .. 1, or log-odds of choices."""
        out: torch.Tensor = self.motor(force)
        return out if isinstance(self.space, Discrete) else out.tanh()

    def mean_action(self, z: torch.Tensor) -> torch.Tensor:
        """Return the action of the mean force, `[..., F]`; of choices the likeliest, as a row with a one."""
        decoded = self.decode(self.law(z).mean)
        if not isinstance(self.space, Discrete):
            return decoded
        return functional.one_hot(decoded.argmax(-1), self.space.count).to(decoded.dtype)

    def forward(self, z: torch.Tensor, noise: torch.Tensor, uniform: torch.Tensor) -> Acted:
        """Draw forces and actions.

        Args:
            z: Points, `[..., D]`.
            noise: Standard normal, `[..., D]`.
            uniform: In 0 .. 1, `[...]`; it draws the choice where actions are choices.
        """
        law = self.law(z)
        force = law.draw(noise)
        score = law.log_density(force.detach())
        decoded = self.decode(force)
        if not isinstance(self.space, Discrete):
            return Acted(law, decoded, score)
        shares = decoded.softmax(-1)
        below = (shares.cumsum(-1) < uniform.unsqueeze(-1)).sum(-1)
        chosen = below.clamp_max(self.space.count - 1)
        picked = functional.one_hot(chosen, self.space.count).to(shares.dtype)
        choice = self.decode(force.detach()).log_softmax(-1).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        return Acted(law, picked + shares - shares.detach(), score + choice)


class Value(nn.Module):
    """A value on the ball, the baseline of REINFORCE and the end of an imagined path; higher is better.

    Args:
        latent: Dimensions of the ball.
        hidden: Width of the two hidden layers.
        random: Streams that the initial weights are drawn from.
    """

    def __init__(self, latent: int, *, hidden: int, random: RandomStreams) -> None:
        super().__init__()
        self.body = _network(latent, hidden, 1)
        draw_layers(self, random, "value")

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Return the value of points `[..., D]`, `[...]`."""
        value: torch.Tensor = self.body(coordinates(z)).squeeze(-1)
        return value


def points_of(observation: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return where observations `[..., O]` are seen, `[..., O]` in the ball: normalised and shrunk.

    Shrunk so that the average one lies at about radius 1; `coordinates` is the inverse.
    """
    return expmap0((observation - mean) / scale / (2 * math.sqrt(observation.shape[-1])))


def coordinates(z: torch.Tensor) -> torch.Tensor:
    """Return what networks read of points `[..., D]`: the logarithm at the origin, of about unit size."""
    return 2 * math.sqrt(z.shape[-1]) * logmap0(z)


def _network(inputs: int, hidden: int, outputs: int) -> nn.Module:
    if not hidden:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.SiLU(),
        nn.Linear(hidden, hidden),
        nn.SiLU(),
        nn.Linear(hidden, outputs),
    )


def draw_layers(module: nn.Module, random: RandomStreams, purpose: str) -> None:
    """Draw the weights of all linear layers, `N(0, 1 / inputs)`, and set their biases to zero."""
    with torch.no_grad():
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Linear):
                drawn = random.generator(purpose, name=name).standard_normal(tuple(layer.weight.shape))
                layer.weight.copy_(torch.from_numpy(drawn / math.sqrt(layer.in_features)))
                layer.bias.zero_()


def _between(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Map the line smoothly between two bounds."""
    return low + (high - low) * torch.sigmoid(x)
