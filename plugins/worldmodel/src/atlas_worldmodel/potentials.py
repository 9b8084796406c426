"""Potentials on the Poincaré ball; what is called a force is the gradient of one of these.

A potential maps points `[..., D]` to energies `[...]`. With a value V (higher is better), the effective
potential is `-V + U + B`: U pushes outward, to where volume is, and B keeps the states in.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from atlas_topoencoder.geometry import distance, sq_distance
from attrs import frozen

from atlas.errors import BadInput

__all__ = ["Barrier", "Outward", "Potential", "Well", "gradient", "radius", "total"]

Potential = Callable[[torch.Tensor], torch.Tensor]
"""Maps points `[..., D]` to energies `[...]`, differentiably."""


def radius(z: torch.Tensor) -> torch.Tensor:
    """Return the distance from the origin, `[...]`; its gradient at the origin is 0."""
    return distance(torch.zeros_like(z), z)


def gradient(potential: Potential, z: torch.Tensor, *, graph: bool = False) -> torch.Tensor:
    """Return the covector `d potential` at points, `[..., D]`.

    Args:
        potential: What is differentiated.
        z: Points, `[..., D]`.
        graph: Whether the gradient is to be differentiated in turn.
    """
    with torch.enable_grad():
        at = z if z.requires_grad else z.detach().requires_grad_()
        (covector,) = torch.autograd.grad(potential(at).sum(), at, create_graph=graph)
    return covector if graph else covector.detach()


@frozen
class Well:
    """`stiffness d(0, z)^2 / 2 + slope . z`, smooth everywhere."""

    stiffness: float = 1.0
    slope: tuple[float, ...] = ()

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """Return the energies of points."""
        energy = self.stiffness / 2 * sq_distance(torch.zeros_like(z), z)
        if self.slope:
            energy = energy + (z * z.new_tensor(self.slope)).sum(-1)
        return energy


@frozen
class Outward:
    """U: `-strength D log(lambda(z) / 2)`, zero at the origin and falling outward."""

    strength: float = 1.0

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """Return the energies of points."""
        return self.strength * z.shape[-1] * torch.log1p(-z.square().sum(-1))


@frozen
class Barrier:
    """B: flat within a radius, and beyond it a slope that keeps the states in.

    `slope width log(1 + exp((r - capacity) / width))` of the distance r from the origin. The volume within
    r grows like `exp((D - 1) r)` and `Outward` falls like `strength D r`, so that the Boltzmann law at a
    temperature T can be normalised if and only if `slope > strength D + T (D - 1)`.

    Attributes:
        capacity: Hyperbolic radius from which it rises.
        slope: Force far beyond it, energy per length.
        width: Length over which the slope sets in.
    """

    capacity: float
    slope: float
    width: float = 0.25

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """Return the energies of points."""
        beyond = (radius(z) - self.capacity) / self.width
        return self.slope * self.width * torch.nn.functional.softplus(beyond)

    def require_normalisable(self, dimension: int, temperature: float, outward: Outward) -> None:
        """Refuse a barrier that cannot hold a gas of that temperature.

        Raises:
            BadInput: The slope is too small; the message says what would do.
        """
        least = outward.strength * dimension + temperature * (dimension - 1)
        if self.slope <= least:
            raise BadInput(
                f"a barrier of slope {self.slope:g} does not hold states of {dimension} dimensions at "
                f"temperature {temperature:g}: their law cannot be normalised",
                fix=f"take a slope above {least:g}, or a lower temperature",
            )


def total(*parts: Potential) -> Potential:
    """Return the sum of potentials."""

    def energy(z: torch.Tensor) -> torch.Tensor:
        return torch.stack([part(z) for part in parts]).sum(0)

    return energy
