"""Drift of the parameters under noise that carries no stimulus, against what nothing would hold back.

Two copies take the same gradient steps from the same place; one is kicked besides. Their distance, over the
length of the summed kicks, is the drift ratio: 1 where nothing holds, less where the loss pulls back, more
where it pushes on. Of a quadratic with one eigenvalue l the kick of k steps ago is left with the factor
(1 - eta l)^k.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from atlas_pyhessian import reductions
from atlas_pyhessian.operators.loss_surface import LossSurface
from attrs import frozen

__all__ = ["Drift", "drift_ratio"]


@frozen
class Drift:
    """A mean ratio and its standard error over replicas."""

    ratio: float
    standard_error: float
    replicas: int


def drift_ratio(
    surface: LossSurface,
    draw: Callable[[int, int], torch.Tensor],
    *,
    rate: float,
    length: float,
    steps: int,
    replicas: int,
) -> Drift:
    """Return the drift ratio; the parameters are put back bit for bit.

    Args:
        surface: The loss; its module must be `prepared`.
        draw: Returns the kick's direction `[n]` by replica and step, not zero, a new tensor each time.
        rate: Of the gradient steps, eta.
        length: Of a kick.
        steps: Gradient steps, each followed by a kick.
        replicas: Independent repetitions, at least two.

    Raises:
        InstrumentFailed: A loss or gradient on the way is not finite.
    """
    parameters = surface.parameters
    start = [tensor.detach().clone() for tensor in parameters.tensors]

    def walk(kicks: Callable[[int], torch.Tensor] | None) -> torch.Tensor:
        for tensor, before in zip(parameters.tensors, start, strict=True):
            tensor.data.copy_(before)
        for step in range(steps):
            _, move = surface.value_and_gradient()
            move.mul_(-rate)
            if kicks is not None:
                move.add_(kicks(step))
            for tensor, piece in zip(parameters.tensors, parameters.views(move), strict=True):
                tensor.data.add_(piece)
        return torch.cat([tensor.detach().reshape(-1) for tensor in parameters.tensors])

    try:
        quiet = walk(None)
        ratios = []
        for replica in range(replicas):
            total = torch.zeros_like(quiet)

            def kick(step: int, replica: int = replica, total: torch.Tensor = total) -> torch.Tensor:
                direction = draw(replica, step)
                direction.mul_(length / reductions.norm(direction))
                total.add_(direction)
                return direction

            apart = walk(kick).sub_(quiet)
            ratios.append(reductions.norm(apart) / reductions.norm(total))
    finally:
        for tensor, before in zip(parameters.tensors, start, strict=True):
            tensor.data.copy_(before)
    mean = math.fsum(ratios) / replicas
    spread = math.fsum((ratio - mean) ** 2 for ratio in ratios) / (replicas - 1)
    return Drift(mean, math.sqrt(spread / replicas), replicas)
