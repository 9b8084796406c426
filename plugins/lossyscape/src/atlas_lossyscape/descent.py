"""An actual descent on the loss by trust-region steps with the exact quadratic model; the weights come back.

Nocedal and Wright 2006, algorithm 4.1, with Steihaug's step: the model is the loss's own gradient and Hessian
at every point, and a step counts only if the loss itself fell.
"""

from __future__ import annotations

import math

import torch
from atlas_pyhessian import reductions
from atlas_pyhessian.operators import HessianOperator
from attrs import frozen

from atlas_lossyscape.steihaug1983cg import steihaug_step

__all__ = ["Budget", "Descent", "DescentStep", "descend"]


@frozen
class Budget:
    """What a descent may spend.

    Attributes:
        steps: Trust-region steps, refused ones included.
        products: Products of one step.
        radius: First radius, relative to the parameters' norm.
        rtol: Gradient norm relative to the first at which the floor counts as reached.
    """

    steps: int
    products: int
    radius: float
    rtol: float


@frozen
class DescentStep:
    """One step: where it ended, and how well the model foresaw it.

    Attributes:
        number: From 1.
        radius: Of its region.
        promised: Drop of the model.
        drop: Drop of the loss.
        taken: Whether the parameters moved.
        loss: Loss afterwards.
        gradient_norm: Its gradient's norm.
    """

    number: int
    radius: float
    promised: float
    drop: float
    taken: bool
    loss: float
    gradient_norm: float


@frozen
class Descent:
    """The whole descent.

    Attributes:
        drop: Loss at the start less loss at the end, never negative.
        distance: |theta_end - theta_start|.
        reached: Whether the gradient had vanished by then.
        num_matvecs: Products spent.
        steps: One by one.
    """

    drop: float
    distance: float
    reached: bool
    num_matvecs: int
    steps: tuple[DescentStep, ...]


def descend(operator: HessianOperator, budget: Budget) -> Descent:
    """Descend from where the parameters are, and put them back bit for bit.

    Args:
        operator: The Hessian of the loss, which must not retain graphs: the parameters move under it.
        budget: What may be spent.

    Raises:
        InstrumentFailed: A gradient or a product is not finite at a point that was reached.
    """
    tensors = operator.parameters.tensors
    start = [tensor.detach().clone() for tensor in tensors]
    size = math.sqrt(math.fsum(float(tensor.double().square().sum()) for tensor in start))
    radius, spent = budget.radius * (size or 1.0), 0
    steps: list[DescentStep] = []
    try:
        loss, gradient = _here(operator)
        first, first_norm = loss, reductions.norm(gradient)
        norm = first_norm
        while norm > budget.rtol * first_norm and len(steps) < budget.steps:
            found = steihaug_step(operator, gradient, radius, max_products=budget.products)
            spent += found.num_matvecs
            kept = [tensor.detach().clone() for tensor in tensors]
            for tensor, piece in zip(tensors, operator.parameters.views(found.step), strict=True):
                tensor.data.add_(piece)
            tried = _loss(operator)
            drop = loss - tried
            good = math.isfinite(tried) and drop > 0.1 * found.reduction and drop > 0
            used = radius
            ratio = drop / found.reduction if found.reduction > 0 and math.isfinite(tried) else 0.0
            if ratio < 0.25:
                radius /= 4
            elif ratio > 0.75 and found.at_boundary:
                radius *= 2
            if good:
                loss, gradient = _here(operator)
                norm = reductions.norm(gradient)
            else:
                for tensor, before in zip(tensors, kept, strict=True):
                    tensor.data.copy_(before)
            shown = drop if math.isfinite(drop) else -math.inf
            steps.append(DescentStep(len(steps) + 1, used, found.reduction, shown, good, loss, norm))
        moved = (float((t.detach() - s).double().square().sum()) for t, s in zip(tensors, start, strict=True))
        return Descent(
            first - loss,
            math.sqrt(math.fsum(moved)),
            norm <= budget.rtol * first_norm,
            spent,
            tuple(steps),
        )
    finally:
        for tensor, before in zip(tensors, start, strict=True):
            tensor.data.copy_(before)
        operator.release()


def _mean(operator: HessianOperator, losses: tuple[float, ...]) -> float:
    surface = operator.surface
    total = math.fsum(b.weight * loss for b, loss in zip(surface.batches, losses, strict=True))
    return total / surface.weight


def _loss(operator: HessianOperator) -> float:
    return _mean(operator, operator.losses())


def _here(operator: HessianOperator) -> tuple[float, torch.Tensor]:
    losses, gradient = operator.surface.value_and_gradient()
    return _mean(operator, losses), gradient
