"""Which curvature matrix of a loss is meant, by the name that a manifest gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from atlas.contracts import Batch, Target
from atlas.errors import BadInput
from atlas_pyhessian.matrices import MATRIX
from atlas_pyhessian.operators.empirical_fisher import empirical_fisher
from atlas_pyhessian.operators.gauss_newton import gauss_newton
from atlas_pyhessian.operators.hessian import HessianOperator
from atlas_pyhessian.operators.loss_surface import LossOperator
from atlas_pyhessian.operators.sandwich import Forward, SandwichOperator, through_outputs
from atlas_pyhessian.parameters import Parameters

__all__ = ["MATRIX", "Kind", "output_operator", "target_operator"]

Kind = Literal["hessian", "ggn", "empirical_fisher"]


def output_operator(
    kind: Literal["ggn", "empirical_fisher"],
    parameters: Parameters,
    forward: Forward,
    batches: Sequence[Batch],
    *,
    sample_dims: int,
    retain_graph: bool,
) -> SandwichOperator:
    """Return a matrix that comes through the outputs of `sum_b loss_sum(b) / sum_b weight(b)`.

    Args:
        kind: Which one.
        parameters: What is differentiated by; the module must be `prepared`.
        forward: Outputs and summed loss of a batch.
        batches: Micro-batches, at least one.
        sample_dims: Leading dimensions of the outputs that count samples, for the empirical Fisher.
        retain_graph: Keep graphs between products.
    """
    if kind == "ggn":
        return gauss_newton(parameters, forward, batches, retain_graph=retain_graph)
    return empirical_fisher(parameters, forward, batches, sample_dims=sample_dims, retain_graph=retain_graph)


def target_operator(
    kind: Kind, parameters: Parameters, target: Target, batches: Sequence[Batch], *, retain_graph: bool
) -> LossOperator:
    """Return a curvature matrix of a target's loss.

    Raises:
        BadInput: The matrix comes through the target's outputs, which it does not offer.
    """
    if kind == "hessian":
        return HessianOperator(parameters, target.loss_sum, batches, retain_graph=retain_graph)
    outputs, output_loss = getattr(target, "outputs", None), getattr(target, "output_loss", None)
    sample_dims = getattr(target, "sample_dims", None)
    if outputs is None or output_loss is None or sample_dims is None:
        raise BadInput(
            f"the {MATRIX[kind]} needs a target that offers its outputs, and this one offers its loss only",
            fix="set `operator: hessian`, or give the target `outputs`, `output_loss` and `sample_dims`",
        )
    forward = through_outputs(outputs, output_loss)
    return output_operator(
        kind, parameters, forward, batches, sample_dims=sample_dims, retain_graph=retain_graph
    )
