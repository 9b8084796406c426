"""Slope and curvature along a unit direction d at theta, by one product.

Slope g.d, curvature d^T H d, and ||H d - (d^T H d) d||, within which of d^T H d some eigenvalue lies: zero
exactly for an eigenvector. Nothing here is estimated.
"""

from __future__ import annotations

import math

import torch
from attrs import frozen

from atlas_pyhessian import reductions
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.operators.loss_surface import LossSurface
from atlas_pyhessian.spectrum import Spectrum

__all__ = ["Alignment", "DirectionCurvature", "loss_gradient", "measure_direction"]


@frozen
class Alignment:
    """A certified eigenvector's part of a direction.

    Attributes:
        index: Its position by falling magnitude, from 1.
        eigenvalue: Its eigenvalue.
        cosine: Its inner product with the direction; the eigenvector's sign is chosen so that it is not
            negative.
    """

    index: int
    eigenvalue: float
    cosine: float


@frozen
class DirectionCurvature:
    """What a unit direction d meets.

    Attributes:
        slope: g.d.
        curvature: d^T H d.
        product_norm: ||H d||.
        residual_norm: ||H d - (d^T H d) d||.
        certified_share: Part of |d|^2 = 1 within the span of the certified eigenvectors; None without any.
        alignments: By eigenvector.
    """

    slope: float
    curvature: float
    product_norm: float
    residual_norm: float
    certified_share: float | None
    alignments: tuple[Alignment, ...]


def loss_gradient(surface: LossSurface) -> torch.Tensor:
    """Return the gradient of the mean loss, `[n]`."""
    parameters = surface.parameters
    flat = torch.zeros(parameters.size, dtype=parameters.dtype, device=parameters.device)
    views = parameters.views(flat)
    for batch in surface.batches:
        _, gradients = surface.gradient(batch, graph=False)
        for view, gradient in zip(views, gradients, strict=True):
            if gradient is not None:
                view += gradient
    return flat


def measure_direction(
    operator: SymmetricOperator,
    direction: torch.Tensor,
    gradient: torch.Tensor,
    spectrum: Spectrum | None = None,
) -> DirectionCurvature:
    """Measure what a unit direction meets, by one product.

    Args:
        operator: The matrix H.
        direction: d `[n]`, of unit length.
        gradient: g `[n]`.
        spectrum: Eigenpairs of H, of which the converged ones are taken.
    """
    product = operator.matvec(direction)
    curvature = reductions.dot(direction, product)
    length = reductions.norm(product)
    product.sub_(direction, alpha=curvature)
    alignments: list[Alignment] = []
    if spectrum is not None:
        cosines = spectrum.basis.project(direction).tolist()
        values = spectrum.ritz_values[: spectrum.num_verified]
        ranking = sorted(range(len(values)), key=lambda i: -abs(values[i]))
        alignments = [
            Alignment(place + 1, values[i], abs(cosines[i]))
            for place, i in enumerate(ranking)
            if spectrum.converged[place]
        ]
    return DirectionCurvature(
        slope=reductions.dot(gradient, direction),
        curvature=curvature,
        product_norm=length,
        residual_norm=reductions.norm(product),
        certified_share=math.fsum(a.cosine**2 for a in alignments) if alignments else None,
        alignments=tuple(alignments),
    )
