"""Certified eigenpairs of the small network's Hessian, plain or as Adam preconditions it, by Lanczos.

The matrix is applied by automatic differentiation through `atlas_pyhessian.Curvature`; nothing here forms it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from atlas_lossyscape.harmonics.network import Network

if TYPE_CHECKING:
    import torch

__all__ = ["Eigenpairs", "certified_pairs"]

_TOLERANCE = 1e-9


@frozen(eq=False)
class Eigenpairs:
    """Eigenvalues with what their errors are at most.

    Attributes:
        values: Of the loss without decay, `[n]`, falling.
        vectors: Unit vectors in columns, `[n, n]`.
        residual_norms: `||H v - lambda v||` by a product of its own, `[n]`.
        num_matvecs: Products spent.
    """

    values: np.ndarray
    vectors: np.ndarray
    residual_norms: np.ndarray
    num_matvecs: int


def certified_pairs(network: Network, theta: np.ndarray, scale: np.ndarray | None = None) -> Eigenpairs:
    """Return all eigenpairs of the Hessian H of the loss without decay at theta.

    Args:
        network: Its decay is left out.
        theta: `[n]`.
        scale: P^-1/2 of `modes.preconditioner`, `[n]`; the matrix is then P^-1/2 H P^-1/2, the Hessian by the
            coordinates phi = P^1/2 theta. None takes H itself.
    """
    from atlas_pyhessian import Curvature

    module, data = _module(network, theta, np.ones(network.size) if scale is None else scale)
    curvature = Curvature(module, lambda outputs, targets: 0.5 * ((outputs - targets) ** 2).mean(), data)
    found = curvature.spectrum(top_k=network.size, tolerance=_TOLERANCE, max_matvecs=40 * network.size)
    values = np.array(found.eigenvalues)
    vectors = np.stack(
        [curvature.eigenvector(i + 1)["phi"].numpy(force=True) for i in range(values.size)], axis=1
    )
    order = np.argsort(-values)
    return Eigenpairs(
        values[order],
        vectors[:, order],
        np.array(found.residual_norms)[order],
        int(found.facts["num_matvecs"]),
    )


def _module(
    network: Network, theta: np.ndarray, scale: np.ndarray
) -> tuple[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """Return the network as a module of the one parameter phi, and its data."""
    import torch

    class Rescaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.phi = torch.nn.Parameter(torch.from_numpy(theta / scale))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            point = self.phi * torch.from_numpy(scale)
            split, width = network.hidden * inputs.shape[1], network.hidden
            first, bias = point[:split].reshape(width, -1), point[split : split + width]
            return torch.tanh(inputs @ first.T + bias) @ point[split + width : -1] + point[-1]

    return Rescaled(), (torch.from_numpy(network.inputs), torch.from_numpy(network.targets))
