"""Drift of the parameters under noise that carries no stimulus, against what nothing would hold back.

Two copies take the same gradient steps from the same place; one is kicked besides. Their distance, over the
length of the summed kicks, is the drift ratio: 1 where nothing holds, less where the loss pulls back, more
where it pushes on. Of a quadratic with one eigenvalue l the kick of k steps ago is left with the factor
(1 - eta l)^k. The copy that is not kicked is walked once, whatever the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from atlas_pyhessian import reductions
from atlas_pyhessian.operators.loss_surface import LossSurface
from attrs import frozen

__all__ = ["Drift", "Walk", "drift_ratios"]

Draw = Callable[[int, int], torch.Tensor]
"""Returns a kick's direction `[n]` by replica and step, not zero, a new tensor each time."""


@frozen
class Walk:
    """How the copies walk.

    Attributes:
        rate: Of the gradient steps, eta.
        length: Of a kick.
        steps: Gradient steps, each followed by a kick.
        replicas: Independent repetitions, at least two.
    """

    rate: float
    length: float
    steps: int
    replicas: int

    def num_gradients(self, kinds: int) -> int:
        """Return the gradients that so many kinds of noise take, the walk without any included."""
        return self.steps * (1 + kinds * self.replicas)


@frozen
class Drift:
    """A mean ratio and its standard error over replicas."""

    ratio: float
    standard_error: float
    replicas: int


def drift_ratios(
    surface: LossSurface,
    draws: Sequence[Draw],
    walk: Walk,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Drift]:
    """Return the drift ratio for each kind of noise; the parameters are put back bit for bit.

    Args:
        surface: The loss; its module must be `prepared`.
        draws: The kinds.
        walk: How far and how often.
        report: Told after each walk how many gradients are done, of how many.

    Raises:
        InstrumentFailed: A loss or gradient on the way is not finite.
    """
    parameters = surface.parameters
    start = [tensor.detach().clone() for tensor in parameters.tensors]
    done, total = 0, walk.num_gradients(len(draws))

    def arrive(kicks: Callable[[int], torch.Tensor] | None) -> torch.Tensor:
        nonlocal done
        for tensor, before in zip(parameters.tensors, start, strict=True):
            tensor.data.copy_(before)
        for step in range(walk.steps):
            _, move = surface.value_and_gradient()
            move.mul_(-walk.rate)
            if kicks is not None:
                move.add_(kicks(step))
            for tensor, piece in zip(parameters.tensors, parameters.views(move), strict=True):
                tensor.data.add_(piece)
        done += walk.steps
        report(done, total)
        return torch.cat([tensor.detach().reshape(-1) for tensor in parameters.tensors])

    def ratio(quiet: torch.Tensor, draw: Draw, replica: int) -> float:
        summed = torch.zeros_like(quiet)

        def kick(step: int) -> torch.Tensor:
            direction = draw(replica, step)
            direction.mul_(walk.length / reductions.norm(direction))
            summed.add_(direction)
            return direction

        apart = arrive(kick).sub_(quiet)
        return reductions.norm(apart) / reductions.norm(summed)

    try:
        quiet = arrive(None)
        found = [[ratio(quiet, draw, replica) for replica in range(walk.replicas)] for draw in draws]
    finally:
        for tensor, before in zip(parameters.tensors, start, strict=True):
            tensor.data.copy_(before)
    return [_summarised(ratios) for ratios in found]


def _summarised(ratios: Sequence[float]) -> Drift:
    count = len(ratios)
    mean = math.fsum(ratios) / count
    spread = math.fsum((ratio - mean) ** 2 for ratio in ratios) / (count - 1)
    return Drift(mean, math.sqrt(spread / count), count)
