"""The critic of the phases: a value on the ball, and what the value needs to know of time and noise.

Its heads are read by loss terms of the phases (`phase_terms`). Points reach it as constants: a critic that
moved the points that it judges could make its own task easy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import nn

from atlas.errors import BadInput
from atlas.randomness import RandomStreams
from atlas_worldmodel.fields import ScalarHead

__all__ = ["Critic", "CriticSettings", "needs_critic", "require_meaning"]


@frozen
class CriticSettings:
    """What is chosen of a critic.

    Attributes:
        hidden: Width of its networks.
        discount: Of rewards, a frame; between 0 and 1.
    """

    hidden: int = 64
    discount: float = 0.98


class Critic(nn.Module):
    """A value of points: higher is better.

    Args:
        dimension: D.
        settings: See there.
        random: Streams that the initial weights are drawn from.
    """

    def __init__(self, dimension: int, settings: CriticSettings, random: RandomStreams) -> None:
        super().__init__()
        self.settings = settings
        self.value_head = ScalarHead(dimension, settings.hidden)
        _draw(self, random)

    def value(self, z: torch.Tensor) -> torch.Tensor:
        """Return V at points `[..., D]`, `[...]`."""
        found: torch.Tensor = self.value_head(z)
        return found


def _draw(module: nn.Module, random: RandomStreams) -> None:
    """Draw the weights of linear layers; a scalar's last layer small, so that it begins small."""
    for name, part in module.named_modules():
        generator = random.generator("critic weights", 0, name)
        if isinstance(part, nn.Linear):
            drawn = generator.standard_normal(tuple(part.weight.shape)) / math.sqrt(part.in_features)
            part.weight.data.copy_(torch.from_numpy(drawn.astype(np.float32)))
            if part.bias is not None:
                part.bias.data.zero_()
        if isinstance(part, ScalarHead):
            size = len(part.last)
            part.last.data.copy_(
                torch.from_numpy((generator.standard_normal(size) / size).astype(np.float32))
            )


def needs_critic(weights: Mapping[str, float]) -> bool:
    """Say whether a term that counts reads a critic."""
    return any(name.startswith("critic-") for name in weights)


def require_meaning(weights: Mapping[str, float], critic: Mapping[str, Any] | None, where: str) -> None:
    """Refuse weights of loss terms that nothing can be trained by.

    Args:
        weights: Those that count, by term.
        critic: Settings of the critic that there is; None for none.
        where: Of the weights in the manifest.

    Raises:
        BadInput: A term reads a critic, and there is none.
    """
    lacking = [name for name in weights if name.startswith("critic-")]
    if lacking and critic is None:
        raise BadInput(
            f"{lacking[0]} has a weight, and the phase before learned no critic",
            where=where,
            fix=f"weigh {lacking[0]} in the step of phase 2 too, or leave it out here",
        )
