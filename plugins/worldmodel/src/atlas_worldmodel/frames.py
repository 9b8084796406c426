"""One frame of the learned world: what acts, the way to where the next forces are asked for, and the rest.

The step is B R A O A R B. All parts but the last kick and rotation come before the forces at its end are
known; they are at the same point as the first of the next frame, so that forces are asked for once a frame.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from atlas_worldmodel.observation_chart import ObservationChart
from atlas_worldmodel.splitting import State, rotate

__all__ = ["Acting", "Constants", "Departed", "arrived", "departed", "pushed"]


class Acting(NamedTuple):
    """What acts at points.

    Attributes:
        pull: Conservative force in the orthonormal frame, `[B, D]`.
        drive: Force of a unit of each action, likewise, `[B, D, A]`.
        field: Closed two-form, `[B, D, D]`; None without one.
        potential: Energy there, `[B]`.
    """

    pull: torch.Tensor
    drive: torch.Tensor
    field: torch.Tensor | None
    potential: torch.Tensor


class Constants(NamedTuple):
    """What all frames of a path have in common.

    Attributes:
        lead: Share of an action's impulse that comes before the flight.
        flying: Velocity of the flight, by that before it. Without noise, A O A stays on one geodesic: one
            flight, then the friction.
        slowed: Velocity after the friction, by that of the flight.
        limit: Greatest velocity of each coordinate, `[D]`; None for none.
        mass: Of each axis, `[D]`; None where there are no masses.
    """

    lead: torch.Tensor
    flying: torch.Tensor
    slowed: torch.Tensor
    limit: torch.Tensor | None
    mass: torch.Tensor | None


class Departed(NamedTuple):
    """What became of states before the forces at their frame's end.

    Attributes:
        state: Points and velocities, `[..., D]`.
        launched: Velocities with which the flights began, likewise.
    """

    state: State
    launched: torch.Tensor


def pushed(acting: Acting, action: torch.Tensor) -> torch.Tensor:
    """Return the force of actions `[..., A]`, `[..., D]`: that of the place where their frame begins."""
    return (acting.drive * action.unsqueeze(-2)).sum(-1)


def departed(
    chart: ObservationChart, state: State, acting: Acting, push: torch.Tensor, constants: Constants
) -> Departed:
    """Return the states `[..., D]` after kick, rotation, bound, flight and friction."""
    state = State(state.z, state.w + acting.pull / 2 + constants.lead * push)
    if acting.field is not None:
        state = rotate(state, acting.field, 0.5)
    w, limit = state.w, constants.limit
    if limit is not None:
        w = w.clamp(-limit, limit)
    launched = w * constants.flying
    state = chart.flown(State(state.z, launched), constants.mass)
    return Departed(State(state.z, state.w * constants.slowed), launched)


def arrived(state: State, acting: Acting, push: torch.Tensor, constants: Constants) -> State:
    """Return the states after rotation and kick where their frame ends."""
    if acting.field is not None:
        state = rotate(state, acting.field, 0.5)
    return State(state.z, state.w + acting.pull / 2 + (1 - constants.lead) * push)
