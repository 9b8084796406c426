"""Functions written in Python that a second derivative may pass by: found in the graph, and checked.

PyTorch raises where the backward of a function of its own has no derivative. Of a user's
`torch.autograd.Function` it cannot know: one whose backward is marked `once_differentiable`, or leaves the
graph by numpy or `detach`, is taken for linear wherever the gradient that arrives from above is constant,
and its curvature is missing without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.autograd.function import BackwardCFunction, once_differentiable

from atlas.errors import BadInput
from atlas_pyhessian import reductions

if TYPE_CHECKING:
    from atlas_pyhessian.operators.loss_surface import LossSurface

__all__ = ["python_functions", "require_twice_differentiable", "require_whole_product"]

_SUMS = 4096
"""Numbers that a vector is summed up in before it is compared: norms of that many are right to about 3%."""

_GAP = 0.01
"""Difference from finite differences, relative to the product, that is allowed beyond their own error."""

_FIX = "write its backward in differentiable torch operations, or use the composite operations it stands for"


def python_functions(loss: torch.Tensor) -> tuple[type, ...]:
    """Return the classes of `torch.autograd.Function` in a loss's graph."""
    found: dict[type, None] = {}
    seen = set()
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            found[type(node)._forward_cls] = None
        waiting += [above for above, _ in node.next_functions]
    return tuple(found)


def require_twice_differentiable(functions: tuple[type, ...]) -> None:
    """Refuse functions whose backward says of itself that it has no derivative.

    Raises:
        BadInput: There is one; the message names it.
    """

    @once_differentiable
    def marked(context: object) -> None: ...

    for function in functions:
        backward = getattr(function, "backward", None)
        if getattr(backward, "__code__", None) is marked.__code__:
            raise BadInput(
                f"the loss goes through {_named(function)}, whose backward is marked once_differentiable: "
                "its curvature would be left out",
                fix=_FIX,
            )


def require_whole_product(
    surface: LossSurface, functions: tuple[type, ...], vector: torch.Tensor, product: torch.Tensor
) -> None:
    """Compare a Hessian product with central differences of the gradient, at two steps.

    The two steps' results differ by three quarters of the larger step's truncation error, which with
    rounding is the error that is granted. It takes four gradients; the parameters are moved in memory of
    their own, and their own memory is not written to. Vectors are compared by sums of their entries with
    random signs over short stretches, whose squares add up to the squared norm in the mean, so that not
    more than one gradient need be held. For losses without functions of Python there is no need of it.

    Args:
        surface: The loss.
        functions: Those in its graph, for the message.
        vector: What was multiplied, `[n]`.
        product: The product, `[n]`.

    Raises:
        BadInput: The product is not the derivative of the gradient.
    """
    step = _step(surface, vector)
    coarse, fine = (_difference(surface, vector, size) for size in (step, step / 2))
    whole = _sums(product)
    error, gap = float((coarse - fine).norm()), float((whole - fine).norm())
    scale = max(float(whole.norm()), float(fine.norm()))
    if gap > _GAP * scale + 2 * error:
        raise BadInput(
            f"a Hessian product differs by {gap / scale:.1%} from the change of the gradient: curvature is "
            f"lost where the backward of {' or '.join(map(_named, functions))} leaves the graph",
            fix=f"{_FIX}; if the loss jumps where a choice within it changes, `dtype: float64` takes a "
            "shorter step",
        )


def _named(function: type) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _step(surface: LossSurface, vector: torch.Tensor) -> float:
    tensors = surface.parameters.tensors
    squares = sum(reductions.dot(t.detach().reshape(-1), t.detach().reshape(-1)) for t in tensors)
    length = squares**0.5 or 1.0
    return float(torch.finfo(vector.dtype).eps ** (1 / 4) * length / reductions.norm(vector))


def _difference(surface: LossSurface, vector: torch.Tensor, step: float) -> torch.Tensor:
    """Return the sums of the gradient's central difference along `vector`."""
    tensors = surface.parameters.tensors
    own = [tensor.data for tensor in tensors]
    moves = surface.parameters.views(vector)
    gradient = torch.empty_like(vector)
    total: torch.Tensor | None = None
    try:
        for sign in (1.0, -1.0):
            for tensor, point, move in zip(tensors, own, moves, strict=True):
                tensor.data = torch.add(point, move, alpha=sign * step)
            sums = _sums(surface.gradient_into(gradient)) * (sign / (2 * step))
            total = sums if total is None else total + sums
    finally:
        for tensor, point in zip(tensors, own, strict=True):
            tensor.data = point
    assert total is not None
    return total


def _sums(vector: torch.Tensor) -> torch.Tensor:
    """Return the sums of a vector's entries with random signs over stretches of equal length, in float64."""
    length = -(-vector.numel() // _SUMS)
    bits = torch.randint(0, 2, (length,), generator=torch.Generator().manual_seed(0))
    signs = (2.0 * bits - 1.0).to(vector.device, torch.float64)
    stretches = torch.split(vector, length)
    return torch.stack([stretch.double() @ signs[: stretch.numel()] for stretch in stretches])
