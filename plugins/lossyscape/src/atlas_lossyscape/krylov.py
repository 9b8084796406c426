"""The Krylov space of a gradient: Ritz pairs of the Hessian, and what of the gradient lies along each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from atlas_pyhessian import reductions
from atlas_pyhessian.basis import Basis
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.wu2000thickrestart import EigenRequest, thick_restart_lanczos
from attrs import frozen

from atlas.errors import InstrumentFailed

__all__ = ["KrylovSpace", "krylov_space"]


@frozen
class KrylovSpace:
    """Orthonormal Ritz vectors y_i of K_m(H, g), `y_i^T H y_j = theta_i` if i = j, else 0.

    Attributes:
        theta: Ritz values `[m]`, float64.
        residual_norms: `||H y_i - theta_i y_i||`, `[m]`: an eigenvalue lies within it of theta_i.
        projections: `y_i^T g`, `[m]`.
        gradient_norm: |g|.
        basis: The vectors.
        num_matvecs: Products spent.
    """

    theta: torch.Tensor
    residual_norms: torch.Tensor
    projections: torch.Tensor
    gradient_norm: float
    basis: Basis
    num_matvecs: int

    def certified(self, tolerance: float) -> torch.Tensor:
        """Return which pairs have a residual of at most `tolerance * |theta|`, boolean `[m]`."""
        return self.residual_norms <= tolerance * self.theta.abs()


def krylov_space(
    operator: SymmetricOperator,
    gradient: torch.Tensor,
    size: int,
    draw: Callable[[int], torch.Tensor],
    report: Callable[[str, int, float], None] | None = None,
) -> KrylovSpace:
    """Return the Krylov space of the gradient, or the whole space where that has no more dimensions.

    Args:
        operator: The Hessian H.
        gradient: g `[n]`, left as it is.
        size: Vectors kept and products spent, m, at least 8.
        draw: Returns random vector i >= 1, with which the space goes on where it closes early.
        report: As `thick_restart_lanczos` calls it.

    Raises:
        InstrumentFailed: The gradient is zero, or a product is not finite.
    """
    length = reductions.norm(gradient)
    if not length:
        raise InstrumentFailed(
            "the gradient is zero and spans no Krylov space",
            fix="measure a slice at whose loss the parameters are not stationary",
        )
    # All pairs of a space that can be spanned; else both ends at a tolerance that the budget hardly meets.
    whole = size >= operator.size
    request = EigenRequest(
        top_k=operator.size if whole else size // 4,
        ends=0 if whole else size // 8,
        tolerance=1e3 * torch.finfo(operator.dtype).eps,
        max_matvecs=2 * operator.size if whole else size,
        basis_size=size,
        fresh_starts=0,
    )
    found = thick_restart_lanczos(
        operator, lambda i: gradient.clone() if i == 0 else draw(i), request, report=report
    )
    return KrylovSpace(
        theta=torch.tensor(found.ritz_values, dtype=torch.float64),
        residual_norms=torch.tensor(found.ritz_residuals, dtype=torch.float64),
        projections=found.basis.project(gradient),
        gradient_norm=length,
        basis=found.basis,
        num_matvecs=found.num_matvecs,
    )
