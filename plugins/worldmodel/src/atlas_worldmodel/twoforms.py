"""Magnetic fields: closed two-forms on the ball, as derivatives of one-forms.

A two-form is an antisymmetric matrix `F[i, j] = d_i A_j - d_j A_i` in coordinates of the ball. It pushes a
coordinate velocity v with the covector `F v`, and so turns a velocity w in the orthonormal frame by
`F w / lambda^2`, which does no work. In two dimensions every two-form is
closed; in more, one that is not the derivative of a one-form has sources, and a loop's flux is not defined.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from atlas_topoencoder.geometry import conformal_factor
from attrs import frozen

__all__ = ["AreaField", "OneForm", "TwoForm", "UniformField", "exterior_derivative"]

OneForm = Callable[[torch.Tensor], torch.Tensor]
"""Maps points `[..., D]` to covectors `[..., D]`, each point on its own, differentiably."""

TwoForm = Callable[[torch.Tensor], torch.Tensor]
"""Maps points `[..., D]` to antisymmetric matrices `[..., D, D]`."""


def exterior_derivative(form: OneForm, z: torch.Tensor) -> torch.Tensor:
    """Return `dA`, `F[i, j] = d_i A_j - d_j A_i`, at points `[..., D]`: antisymmetric, `[..., D, D]`."""
    points = z.reshape(-1, z.shape[-1])
    jacobian: torch.Tensor = torch.func.vmap(torch.func.jacrev(form))(points)  # [B, j, i] = d A_j / d z_i
    return (jacobian.mT - jacobian).reshape(*z.shape, z.shape[-1])


@frozen
class UniformField:
    """`dA` of `A = 2 strength (z_1, -z_0, 0, ...)`, constant in coordinates: closed in any dimension.

    A velocity in the plane of the first two axes turns at the origin with angular velocity `strength`, and
    more slowly further out.
    """

    strength: float

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """Return the matrices at points."""
        return 4 * self.strength * _plane(z)


@frozen
class AreaField:
    """`strength` times the area form of the hyperbolic plane: closed in two dimensions alone.

    All velocities turn with angular velocity `strength`, wherever they are.
    """

    strength: float

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """Return the matrices at points `[..., 2]`."""
        if z.shape[-1] != 2:
            raise ValueError("the area form is a two-form of the plane")
        return self.strength * conformal_factor(z).square().unsqueeze(-1) * _plane(z)


def _plane(z: torch.Tensor) -> torch.Tensor:
    """Return the matrix that turns the first axis into the second, `[..., D, D]`."""
    turn = z.new_zeros(*z.shape, z.shape[-1])
    turn[..., 1, 0], turn[..., 0, 1] = 1.0, -1.0
    return turn
