"""The gradient of a long path: back through small matrices from step to step, and once over the networks.

A step of the learned world is a short sum around its networks: the state has few numbers and the networks
many parameters. The sums of all steps are differentiated together where the path is known, each step's end
and the place at which it asks the networks by the state before, by what the networks said before and by what
they say there. What remains in a row are products with those small matrices, and one way back through the
networks at each place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn import functional

from atlas.errors import BadInput
from atlas_worldmodel.head_tape import HeadGradients, HeadTape, unpacked

__all__ = ["Steps", "chained"]


class Steps(NamedTuple):
    """A path's steps, each differentiable on its own; N numbers are a state, P are what networks say.

    The path of T states has T steps: the first has no state before and leads to the first state.

    Attributes:
        left: States that the steps after the first begin from, leaves, `[B, T - 1, N]`.
        said_left: What the networks say there, leaves, `[B, T - 1, P]`.
        said_reached: What they say where each step asks, leaves, `[B, T, P]`.
        places: Where each asks, normal coordinates, `[B, T, D]`, by `left` and `said_left`.
        reached: States that they end in, `[B, T, N]`, by all leaves.
    """

    left: torch.Tensor
    said_left: torch.Tensor
    said_reached: torch.Tensor
    places: torch.Tensor
    reached: torch.Tensor


def chained(tape: HeadTape, steps: Steps) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the states of a path, `[B, T, N]`, and what the networks said, `[B, T, P]`.

    Their gradient is that of the steps in a chain. It goes to the tape's parameters and to what else than the
    leaves the steps depend on, and can itself not be differentiated: BadInput says so.

    Args:
        tape: Of the networks, which were called at each place in turn.
        steps: Of the path.
    """
    ends = torch.cat((steps.places, steps.reached), -1)
    leaves = (steps.left, steps.said_left, steps.said_reached)
    rows = []
    for number in range(ends.shape[-1]):
        *before, there = torch.autograd.grad(
            ends[..., number].sum(), leaves, retain_graph=True, materialize_grads=True
        )
        rows.append(torch.cat((functional.pad(torch.cat(before, -1), (0, 0, 1, 0)), there), -1))
    found: tuple[torch.Tensor, torch.Tensor] = _Chain.apply(  # type: ignore[no-untyped-call]  # torch's
        tape, torch.stack(rows, -2), steps.said_reached.detach(), ends, *tape.parameters
    )
    return found


class _Chain(torch.autograd.Function):
    """States and what was said, from the ends of steps with their slopes by the leaves."""

    @staticmethod
    def forward(
        ctx: Any,
        tape: HeadTape,
        slopes: torch.Tensor,
        said: torch.Tensor,
        ends: torch.Tensor,
        *parameters: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.tape = tape
        ctx.save_for_backward(slopes)
        return ends[..., tape.chart.dimension :].clone(), said.clone()

    @staticmethod
    def backward(ctx: Any, by_states: torch.Tensor, by_said: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BadInput(
                "the gradient of a path of `WorldModel.forward` cannot itself be differentiated",
                fix="take the path of `WorldModel.roll`, or leave out `create_graph`",
            )
        (slopes,) = ctx.saved_tensors
        gradients, dimension = HeadGradients(ctx.tape), ctx.tape.chart.dimension
        size, said = by_states.shape[-1], by_said.shape[-1]
        onto_said = slopes[..., dimension:, size + said :].unbind(1)
        onto_left = slopes[..., : size + said].unbind(1)
        direct = torch.cat((by_states, by_said), -1).unbind(1)
        carried, by_ends = direct[-1], []
        for t in reversed(range(len(direct))):
            state = carried[:, :size]
            there = carried[:, size:] + (onto_said[t] * state.unsqueeze(-1)).sum(1)
            place = gradients(t, unpacked(there, dimension))
            by_ends.append(torch.cat((place, state), -1))
            if t:
                carried = direct[t - 1] + (onto_left[t] * by_ends[-1].unsqueeze(-1)).sum(1)
        return None, None, None, torch.stack(by_ends[::-1], 1), *gradients.found
