"""Products with the generalised Gauss-Newton matrix: the curvature that comes through the loss alone.

Schraudolph 2002, "Fast curvature matrix-vector products for second-order gradient descent", Neural
Computation 14(7): the Hessian of the loss is `J^T H_L J` plus the outputs' own curvature weighted by the
loss's gradient; the first term is the Gauss-Newton matrix, H_L being the second derivative of the loss by
the outputs. It is positive semidefinite where the loss is convex in the outputs, as cross-entropy and
squared error are, and it equals the Fisher information for these two (Martens 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.autograd.graph import get_gradient_edge

from atlas.contracts import Batch
from atlas_pyhessian.operators.sandwich import Forward, Middle, SandwichOperator
from atlas_pyhessian.parameters import Parameters

__all__ = ["gauss_newton"]


def _loss_hessian(outputs: torch.Tensor, loss: torch.Tensor) -> Middle:
    """Return the loss's second derivative by the outputs, exact, by a double backward."""
    (gradient,) = torch.autograd.grad(loss, (outputs,), create_graph=True)
    if not gradient.requires_grad:
        return lambda vector, again: torch.zeros_like(vector)
    above, below = get_gradient_edge(gradient), get_gradient_edge(outputs)

    def multiply(vector: torch.Tensor, again: bool) -> torch.Tensor:
        (product,) = torch.autograd.grad(
            (above,), (below,), grad_outputs=(vector,), retain_graph=again, allow_unused=True
        )
        return torch.zeros_like(vector) if product is None else product

    return multiply


def gauss_newton(
    parameters: Parameters, forward: Forward, batches: Sequence[Batch], *, retain_graph: bool
) -> SandwichOperator:
    """Return the Gauss-Newton matrix of `sum_b loss_sum(b) / sum_b weight(b)`.

    Args:
        parameters: What is differentiated by; the module must be `prepared`.
        forward: Outputs and summed loss of a batch; see `sandwich.through_outputs`.
        batches: Micro-batches, at least one.
        retain_graph: Keep graphs between products.
    """
    return SandwichOperator(
        parameters, forward, batches, _loss_hessian, name="Gauss-Newton", retain_graph=retain_graph
    )
