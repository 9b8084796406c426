"""The exactly solvable parts of Langevin dynamics on the Poincaré ball, each as a map of the state.

A state is a point z and the velocity w in the orthonormal frame, `w = lambda(z) dz/dt` with
`lambda(z) = 2 / (1 - |z|^2)`, so that the kinetic energy is `|w|^2 / 2` everywhere. With a covector force
f, a closed two-form F, friction and temperature the dynamics is

    dz = w / lambda dt
    Dw = f / lambda dt + F / lambda^2 w dt - friction w dt + sqrt(2 friction temperature) dW,

D being the derivative along the path of a vector that is carried parallel to itself. The parts are those
of Leimkuhler and Matthews 2013, "Rational construction of stochastic numerical methods for molecular
sampling", on a manifold as in their 2016 "Efficient molecular dynamics using geodesic integration and
solvent-solute splitting", with the rotation of Boris 1970. Drift and thermostat are exact; the kick is
exact at a fixed point; the rotation replaces an exponential by its Cayley transform, which keeps `|w|`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from atlas_topoencoder.geometry import gyration, mobius_add

__all__ = ["State", "drift", "kick", "rotate", "thermostat"]


class State(NamedTuple):
    """Points `[..., D]` of the ball and velocities `[..., D]` in the orthonormal frame."""

    z: torch.Tensor
    w: torch.Tensor

    def reversed(self) -> State:
        """Return the state that runs back; a field must change its sign with it."""
        return State(self.z, -self.w)

    @property
    def kinetic_energy(self) -> torch.Tensor:
        """`|w|^2 / 2`, `[...]`."""
        return self.w.square().sum(-1) / 2


def kick(state: State, force: torch.Tensor, time: float) -> State:
    """Return the state after a covector force `[..., D]` has acted at a fixed point."""
    shrink = 1 - state.z.square().sum(-1, keepdim=True)
    return State(state.z, state.w + (time / 2) * shrink * force)


def rotate(state: State, field: torch.Tensor, time: float) -> State:
    """Return the state after a two-form `[..., D, D]` has turned the velocity at a fixed point.

    The Cayley transform of `time F / lambda^2`: an orthogonal matrix for any strength and step, symmetric in
    time, and right to second order. In up to three dimensions an antisymmetric H has `H^3 = -h^2 H` with
    `h^2 = |H|^2 / 2`, and `(I - H)^-1 (I + H) = I + 2 (H + H^2) / (1 + h^2)` needs no inverse.
    """
    shrink = 1 - state.z.square().sum(-1, keepdim=True)
    half = (time / 8) * shrink.square().unsqueeze(-1) * field
    turned = (half * state.w.unsqueeze(-2)).sum(-1)
    if half.shape[-1] <= 3:
        twice = (half * turned.unsqueeze(-2)).sum(-1)
        share = 2 / (1 + half.square().sum((-2, -1)) / 2)
        return State(state.z, state.w + share.unsqueeze(-1) * (turned + twice))
    identity = torch.eye(half.shape[-1], dtype=half.dtype, device=half.device)
    return State(state.z, torch.linalg.solve(identity - half, state.w + turned))


def drift(state: State, time: float) -> State:
    """Return the state after free flight along its geodesic, the velocity carried parallel.

    `z' = z + tanh(time |w| / 2) w / |w|` and `w' = gyr[z', -z] w`, scaled back to the length that rounding
    took from it.
    """
    tiny = torch.finfo(state.w.dtype).tiny
    speed = state.w.square().sum(-1, keepdim=True).clamp_min(tiny).sqrt()
    moved = mobius_add(state.z, (time / 2 * speed).tanh() / speed * state.w)
    turned = gyration(moved, -state.z, state.w)
    length = turned.square().sum(-1, keepdim=True).clamp_min(tiny).sqrt()
    return State(moved, turned * (speed / length))


def thermostat(
    state: State, noise: torch.Tensor, time: float, *, friction: float, temperature: float
) -> State:
    """Return the state after the exact Ornstein-Uhlenbeck process, with standard normal noise `[..., D]`."""
    kept = math.exp(-friction * time)
    spread = math.sqrt(temperature * -math.expm1(-2 * friction * time))
    return State(state.z, kept * state.w + spread * noise)
