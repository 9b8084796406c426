"""Free flight where each axis of the ball has a mass of its own.

With masses m the metric is `lambda(z)^2 diag(m)`, which has no constant curvature and no geodesics in closed
form. Its Hamiltonian is the sum over axes of `H_i = p_i^2 / (2 m_i lambda^2)`, `p_i = m_i lambda^2 dz_i/dt`,
and the flow of each alone is elementary: the other coordinates stand, `z_i` runs along `sqrt(A) tanh(theta)`
with `A = 1 - |z|^2 + z_i^2` and theta linear in time, and the other momenta change because lambda does. Steps
along the axes in order and back make a flight that is symplectic and symmetric, and right to second order;
for equal masses it is not the exact geodesic, so that `splitting.drift` stays what is used there.

Velocities are those of the orthonormal frame of this metric, `w_i = sqrt(m_i) lambda dz_i/dt`, so that the
kinetic energy is `|w|^2 / 2` as without masses. Splitting: McLachlan and Quispel 2002, "Splitting methods",
section 3.4.
"""

from __future__ import annotations

import torch

from atlas_worldmodel.splitting import State

__all__ = ["massive_flight"]


def massive_flight(state: State, mass: torch.Tensor, time: float) -> State:
    """Return the state after free flight.

    Args:
        state: Points `[..., D]` and velocities in the orthonormal frame of the masses' metric.
        mass: `[D]`, positive.
        time: Of the flight.
    """
    last = state.z.shape[-1] - 1
    for axis in range(last):
        state = _along(state, mass, axis, time / 2)
    state = _along(state, mass, last, time)
    for axis in reversed(range(last)):
        state = _along(state, mass, axis, time / 2)
    return state


def _along(state: State, mass: torch.Tensor, axis: int, time: float) -> State:
    """Return the state after the exact flow of one axis' part of the kinetic energy.

    With `lambda = 2 cosh(theta)^2 / A` the other momenta change by `w_i^2 z_j` times the integral of lambda,
    `time / A (1 + cosh(theta_0 + theta_1) sinh(delta) / delta)` for `delta = theta_1 - theta_0`.
    """
    z, w = state
    own, speed = z[..., axis : axis + 1], w[..., axis : axis + 1]
    room = 1 - z.square().sum(-1, keepdim=True) + own.square()
    root = room.sqrt()
    before = (own / root).atanh()
    turn = root * speed * (time / 2) / mass[axis].sqrt()
    after = before + turn
    wide, wider = before.cosh().square(), after.cosh().square()  # lambda A / 2
    integral = (time / room) * (1 + (before + after).cosh() * _sinhc(turn))
    pushed = w * (wide / wider) + speed.square() * integral * (room / (2 * wider)) * z / mass.sqrt()
    mine = torch.arange(z.shape[-1], device=z.device) == axis
    return State(torch.where(mine, root * after.tanh(), z), torch.where(mine, w, pushed))


def _sinhc(x: torch.Tensor) -> torch.Tensor:
    """Return `sinh(x) / x`, 1 at 0."""
    small = x.abs() < 1e-4
    safe = torch.where(small, torch.ones_like(x), x)
    return torch.where(small, 1 + x.square() / 6, safe.sinh() / safe)
