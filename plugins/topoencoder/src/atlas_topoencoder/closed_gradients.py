"""Gradients in closed form of the operations of two points that a TopoEncoder repeats most.

Each takes about half the operations that autograd takes for it. Under `create_graph` the operation is
differentiated by autograd instead, so that second derivatives, which a curvature needs, are autograd's own.
What a gradient reads is kept before the last operation: a result would be kept by another name, which costs
an operation on each side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

__all__ = ["Chord", "Log0Difference", "MobiusSum", "PairwiseChord", "SelfChord", "by_autograd"]

Pair = tuple[torch.Tensor, torch.Tensor]


def by_autograd(
    operation: Callable[..., tuple[torch.Tensor, ...]],
    inputs: tuple[torch.Tensor, ...],
    gradients: tuple[torch.Tensor, ...],
) -> list[torch.Tensor | None]:
    """Return the gradients of the inputs with a graph of their own; None where none is wanted.

    Each input is taken by another name: a complement may have been computed from its point, and the point's
    gradient must not go round by it, since the complement's own gradient does.
    """
    named = [one.view_as(one) for one in inputs]
    wanted = [one for one in named if one.requires_grad]
    found = iter(torch.autograd.grad(operation(*named), wanted, gradients, create_graph=True))
    return [next(found) if one.requires_grad else None for one in named]


def _inner(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the inner products of vectors `[..., D]`, `[..., 1]`."""
    return (x * y).sum(-1, keepdim=True)


def _fitted(
    gradients: Sequence[torch.Tensor | None], inputs: Sequence[torch.Tensor]
) -> tuple[torch.Tensor | None, ...]:
    """Return gradients summed over what their inputs were broadcast along."""
    return tuple(
        None if gradient is None else gradient.sum_to_size(one.shape)
        for gradient, one in zip(gradients, inputs, strict=True)
    )


def _mobius(sign: float, x: torch.Tensor, a: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> Pair:
    total = torch.add(y, x, alpha=sign)
    square = (total * total).sum(-1, keepdim=True)
    product = a * b
    scale = (product + square).reciprocal()
    return scale * torch.add(a * total, square * x, alpha=sign), product * scale


class MobiusSum(torch.autograd.Function):
    """The Möbius sum `sign x + y` of points with complements a and b, and its complement."""

    @staticmethod
    def forward(
        ctx: Any, sign: float, x: torch.Tensor, a: torch.Tensor, y: torch.Tensor, b: torch.Tensor
    ) -> Pair:
        """Return the sum and its complement."""
        total = torch.add(y, x, alpha=sign)
        square = (total * total).sum(-1, keepdim=True)
        product = a * b
        scale = (product + square).reciprocal()
        numerator = torch.addcmul(a * total, square, x, value=sign)
        ctx.sign = sign
        ctx.save_for_backward(x, a, y, b, total, square, product, scale, numerator)
        return scale * numerator, product * scale

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, a, y and b."""
        x, a, y, b, total, square, product, scale, numerator = ctx.saved_tensors
        sign = ctx.sign
        if torch.is_grad_enabled():
            inputs = (x, a, y, b)
            return (None, *by_autograd(lambda *inputs: _mobius(sign, *inputs), inputs, gradients))
        # z = s N, N = a t + sign q x, s = 1 / (a b + q), t = y + sign x, q = |t|^2, complement = a b s
        of_x, of_a, of_y, of_b = ctx.needs_input_grad[1:]
        by_numerator, by_fraction = scale * gradients[0], scale * gradients[1]
        shrunk = torch.addcmul(_inner(numerator, by_numerator), product, by_fraction) * scale
        by_product = by_fraction - shrunk
        less_square = torch.sub(shrunk, _inner(x, by_numerator), alpha=sign)
        by_total = torch.addcmul(a * by_numerator, less_square, total, value=-2)
        by_x = torch.addcmul(by_total, square, by_numerator) if of_x else None
        if by_x is not None and sign < 0:
            by_x = -by_x
        by_a = torch.addcmul(_inner(total, by_numerator), b, by_product) if of_a else None
        by_b = a * by_product if of_b else None
        return (None, *_fitted((by_x, by_a, by_total if of_y else None, by_b), (x, a, y, b)))


def _chord(x: torch.Tensor, a: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    gap = y - x
    return (gap * gap).sum(-1, keepdim=True) / (a * b)


class Chord(torch.autograd.Function):
    """`|x - y|^2 / (a b)` from differences, which stay exact; points broadcast."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Return the chords, `[..., 1]`."""
        gap = y - x
        scale = (a * b).reciprocal()
        square = _inner(gap, gap)
        ctx.save_for_backward(x, a, y, b, gap, scale, square)
        return square * scale

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, a, y and b."""
        x, a, y, b, gap, scale, square = ctx.saved_tensors
        if torch.is_grad_enabled():
            return tuple(by_autograd(lambda *inputs: (_chord(*inputs),), (x, a, y, b), gradients))
        of_x, of_a, of_y, of_b = ctx.needs_input_grad
        by_square = gradients[0] * scale
        by_y = (2 * by_square) * gap if of_x or of_y else None
        less = -by_square * square if of_a or of_b else None
        found = (
            -by_y if by_y is not None and of_x else None,
            less / a if less is not None and of_a else None,
            by_y if of_y else None,
            less / b if less is not None and of_b else None,
        )
        return _fitted(found, (x, a, y, b))


def _log0_difference(
    x: torch.Tensor, a: torch.Tensor, y: torch.Tensor, b: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    gap = y - x
    u = _inner(gap, gap) / (a * b)
    root = u.clamp_min(torch.finfo(u.dtype).eps / 10).sqrt()
    return (root.asinh() / (root * (1 + u).sqrt()) * (gap / b - u * x),)


class Log0Difference(torch.autograd.Function):
    """`h(u) w`, `h = asinh(sqrt u) / sqrt(u (1 + u))`, `w = (y - x) / b - u x`, of the chord u.

    `h' = (1 - (1 + 2 u) h) / (2 u (1 + u))`. Where u is small its digits go, but they are multiplied by u.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Return the logarithms at the origin of `(-x) + y`, `[..., D]`."""
        gap = y - x
        scale = (a * b).reciprocal()
        u = _inner(gap, gap) * scale
        kept = u.clamp_min(torch.finfo(u.dtype).eps / 10)
        root, other = kept.sqrt(), (1 + kept).sqrt()
        norm = root * other
        factor = torch.addcdiv(root, kept, 1 + other).log1p() / norm
        part = gap / b
        straight = torch.addcmul(part, u, x, value=-1)
        ctx.save_for_backward(x, a, y, b, part, scale, u, norm, factor, straight)
        return factor * straight

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, a, y and b."""
        x, a, y, b, part, scale, u, norm, factor, straight = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():
            return tuple(by_autograd(_log0_difference, (x, a, y, b), gradients))
        of_x, of_a, of_y, of_b = ctx.needs_input_grad
        by_straight = factor * gradient
        slope = (1 - torch.addcmul(factor, factor, u, value=2)) / (norm * norm)  # twice h'
        by_u = _inner(straight, gradient) * slope / 2 - _inner(x, by_straight)
        by_gap = torch.addcmul(by_straight / b, part, by_u * (scale * b), value=2) if of_x or of_y else None
        by_a = by_b = None
        if of_a or of_b:
            lost = by_u * u
            by_a = -lost / a if of_a else None
            by_b = -(_inner(part, by_straight) + lost) / b if of_b else None
        by_x = -torch.addcmul(by_gap, u, by_straight) if by_gap is not None and of_x else None
        return _fitted((by_x, by_a, by_gap if of_y else None, by_b), (x, a, y, b))


def _pairwise_chord(x: torch.Tensor, a: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (2 - a - b - 2 * (x @ y)) / (a * b)


class PairwiseChord(torch.autograd.Function):
    """`|x - y|^2 / (a b)` of all pairs, `|x - y|^2 = (1 - a) + (1 - b) - 2 x.y` by one matrix product."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Return the chords of points in rows and points in columns, `[..., B, N]`.

        Args:
            ctx: Of autograd.
            x: `[..., B, D]`.
            a: Their complements, `[..., B, 1]`.
            y: `[..., D, N]`.
            b: Theirs, `[..., 1, N]`.
        """
        scale = (a * b).reciprocal()
        square = torch.add((2 - a) - b, x @ y, alpha=-2)
        ctx.save_for_backward(x, a, y, b, scale, square)
        return square * scale

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, a, y and b."""
        x, a, y, b, scale, square = ctx.saved_tensors
        if torch.is_grad_enabled():
            return tuple(by_autograd(lambda *inputs: (_pairwise_chord(*inputs),), (x, a, y, b), gradients))
        by_square = gradients[0] * scale
        by_scale = by_square * square
        by_product = -2 * by_square
        by_a, by_b = (
            torch.addcdiv(by_square.sum(dim, keepdim=True), by_scale.sum(dim, keepdim=True), one).neg()
            for dim, one in ((-1, a), (-2, b))
        )
        return by_product @ y.mT, by_a, x.mT @ by_product, by_b


def _self_chord(x: torch.Tensor, a: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (_pairwise_chord(x, a, x.mT, a.mT),)


class SelfChord(torch.autograd.Function):
    """`PairwiseChord` of points with themselves, whose two gradients are one of the symmetric part."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        """Return the chords of points in rows `[..., B, D]` with complements `[..., B, 1]`, `[..., B, B]`."""
        b = a.mT
        scale = (a * b).reciprocal()
        square = torch.add((2 - a) - b, x @ x.mT, alpha=-2)
        ctx.save_for_backward(x, a, scale, square)
        return square * scale

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x and a."""
        x, a, scale, square = ctx.saved_tensors
        if torch.is_grad_enabled():
            return tuple(by_autograd(_self_chord, (x, a), gradients))
        half = gradients[0] * scale
        by_square = half + half.mT
        by_scale = by_square * square
        by_a = torch.addcdiv(by_square.sum(-1, keepdim=True), by_scale.sum(-1, keepdim=True), a).neg()
        return -2 * (by_square @ x), by_a
