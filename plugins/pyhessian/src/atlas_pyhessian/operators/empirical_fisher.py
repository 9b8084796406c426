"""Products with the empirical Fisher matrix: the mean outer product of the samples' loss gradients.

With g_t the gradient of sample t's loss by the parameters, the matrix is `sum_t g_t g_t^T / weight`. Since
`g_t = J_t^T l_t`, l_t being the gradient by the sample's own outputs, its product is `J^T` of
`l_t <l_t, (J v)_t>`: all samples at once, at the cost of a Gauss-Newton product and without any g_t. It is
positive semidefinite and of rank at most the number of samples. It is not the Fisher information, whose
targets are drawn from the model (Kunstner, Balles and Hennig 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from atlas.contracts import Batch
from atlas.errors import BadInput
from atlas_pyhessian.operators.sandwich import Forward, Middle, SandwichOperator
from atlas_pyhessian.parameters import Parameters

__all__ = ["empirical_fisher"]


def empirical_fisher(
    parameters: Parameters,
    forward: Forward,
    batches: Sequence[Batch],
    *,
    sample_dims: int,
    retain_graph: bool,
) -> SandwichOperator:
    """Return the empirical Fisher matrix of `sum_b loss_sum(b) / sum_b weight(b)`.

    Args:
        parameters: What is differentiated by; the module must be `prepared`.
        forward: Outputs and summed loss of a batch; see `sandwich.through_outputs`. A sample's loss must
            depend on its own outputs only.
        batches: Micro-batches, at least one.
        sample_dims: Leading dimensions of the outputs that count samples.
        retain_graph: Keep graphs between products.
    """
    total = float(sum(batch.weight for batch in batches))

    def outer_products(outputs: torch.Tensor, loss: torch.Tensor) -> Middle:
        if not 1 <= sample_dims <= outputs.dim():
            raise BadInput(
                f"the outputs have {outputs.dim()} dimensions, of which {sample_dims} cannot count samples",
                fix="set `sample_dims` to the leading dimensions that do: 1 for [B, C], 2 for [B, T, C]",
            )
        (gradient,) = torch.autograd.grad(loss, (outputs,), retain_graph=True)
        gradient = gradient.detach() * math.sqrt(total)
        inner = tuple(range(sample_dims, outputs.dim()))

        def multiply(vector: torch.Tensor, again: bool) -> torch.Tensor:
            products = gradient * vector
            return gradient * (products.sum(inner, keepdim=True) if inner else products)

        return multiply

    return SandwichOperator(
        parameters, forward, batches, outer_products, name="empirical Fisher", retain_graph=retain_graph
    )
