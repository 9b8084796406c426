"""Gradients in closed form of the operations that a TopoEncoder repeats most.

Each takes about half the operations that autograd takes for it. Under `create_graph` the operation is
differentiated by autograd instead, so that second derivatives, which a curvature needs, are autograd's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Chord", "Complement", "Exp0", "HalfDistance", "MobiusSum", "PairwiseChord"]

Pair = tuple[torch.Tensor, torch.Tensor]


def _by_autograd(
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


class Complement(torch.autograd.Function):
    """`1 - |z|^2`, the square summed in float64, so that float32 keeps its digits near the boundary."""

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor) -> torch.Tensor:
        """Return the complement, `[..., 1]`."""
        ctx.save_for_backward(z)
        return (1 - (z * z).sum(-1, keepdim=True, dtype=torch.float64)).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        """Return the gradient of `z`, itself differentiable."""
        (z,) = ctx.saved_tensors
        found: torch.Tensor = -2 * gradients[0] * z
        return found


def _exp0(v: torch.Tensor) -> Pair:
    norm = ((v * v).sum(-1, keepdim=True) + torch.finfo(v.dtype).eps / 10).sqrt()
    length = norm.tanh()
    return length / norm * v, 1 - length * length


class Exp0(torch.autograd.Function):
    """`tanh(n) / n v` and its complement `sech(n)^2`, `n = |v|`."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> Pair:
        """Return the point and its complement."""
        sq = (v * v).sum(-1, keepdim=True) + torch.finfo(v.dtype).eps / 10
        norm = sq.sqrt()
        length = norm.tanh()
        ratio, complement = length / norm, 1 - length * length
        ctx.save_for_backward(v, sq, ratio, complement)
        return ratio * v, complement

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor | None:
        """Return the gradient of `v`."""
        v, sq, ratio, complement = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _by_autograd(_exp0, (v,), gradients)[0]
        by_z, by_complement = gradients
        along = (v * by_z).sum(-1, keepdim=True) * ((complement - ratio) / sq)
        along = torch.addcmul(along, ratio * complement, by_complement, value=-2)
        return torch.addcmul(ratio * by_z, v, along)


def _half_distance(chord: torch.Tensor, least: float) -> torch.Tensor:
    return chord.clamp_min(least).sqrt().asinh()


class HalfDistance(torch.autograd.Function):
    """`asinh(sqrt u)` as `log1p(s + u / (1 + sqrt(1 + u)))`, `s = sqrt u`, whose parts are vectorised."""

    @staticmethod
    def forward(ctx: Any, chord: torch.Tensor, least: float) -> torch.Tensor:
        """Return half the distance."""
        u = chord.clamp_min(least)
        root, other = u.sqrt(), (1 + u).sqrt()
        ctx.least = least
        ctx.save_for_backward(chord, root, other)
        return torch.addcdiv(root, u, 1 + other).log1p()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, None]:
        """Return the gradient of the chord."""
        chord, root, other = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():
            named = chord.view_as(chord)
            (found,) = torch.autograd.grad(
                _half_distance(named, ctx.least), named, gradient, create_graph=True
            )
            return found, None
        slope = gradient / (2 * root * other)
        return slope.masked_fill(chord < ctx.least, 0.0), None


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
        z, complement = scale * torch.add(a * total, square * x, alpha=sign), product * scale
        ctx.sign = sign
        ctx.save_for_backward(x, a, y, b, total, square, scale, z, complement)
        return z, complement

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, a, y and b."""
        x, a, y, b, total, square, scale, z, complement = ctx.saved_tensors
        sign = ctx.sign
        if torch.is_grad_enabled():
            inputs = (x, a, y, b)
            return (None, *_by_autograd(lambda *inputs: _mobius(sign, *inputs), inputs, gradients))
        by_z, by_complement = gradients
        # z = s N, N = a t + sign q x, s = 1 / (a b + q), t = y + sign x, q = |t|^2, complement = a b s
        by_numerator = scale * by_z
        shrunk = (z * by_z).sum(-1, keepdim=True) + complement * by_complement
        by_sum = -scale * shrunk
        by_product = torch.addcmul(by_sum, scale, by_complement)
        by_square = torch.add(by_sum, (x * by_numerator).sum(-1, keepdim=True), alpha=sign)
        by_total = torch.addcmul(a * by_numerator, by_square, total, value=2)
        by_a = torch.addcmul((total * by_numerator).sum(-1, keepdim=True), b, by_product)
        by_x = sign * torch.addcmul(by_total, square, by_numerator)
        wanted = (by_x, by_a, by_total, a * by_product)
        return (None, *(g.sum_to_size(one.shape) for g, one in zip(wanted, (x, a, y, b), strict=True)))


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
        chord = (gap * gap).sum(-1, keepdim=True) * scale
        ctx.save_for_backward(x, a, y, b, gap, scale, chord)
        return chord

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, a, y and b."""
        x, a, y, b, gap, scale, chord = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():
            return tuple(_by_autograd(lambda *inputs: (_chord(*inputs),), (x, a, y, b), gradients))
        of_x, of_a, of_y, of_b = ctx.needs_input_grad
        by_scale = gradient * chord
        by_gap = (2 * gradient * scale) * gap
        return (
            (-by_gap).sum_to_size(x.shape) if of_x else None,
            (by_scale / -a).sum_to_size(a.shape) if of_a else None,
            by_gap.sum_to_size(y.shape) if of_y else None,
            (by_scale / -b).sum_to_size(b.shape) if of_b else None,
        )


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
        chords = torch.add((2 - a) - b, x @ y, alpha=-2) * scale
        ctx.save_for_backward(x, a, y, b, scale, chords)
        return chords

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, a, y and b."""
        x, a, y, b, scale, chords = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():
            return tuple(_by_autograd(lambda *inputs: (_pairwise_chord(*inputs),), (x, a, y, b), gradients))
        by_square, by_scale = gradient * scale, gradient * chords
        by_product = -2 * by_square
        by_a, by_b = (
            torch.addcdiv(by_square.sum(dim, keepdim=True), by_scale.sum(dim, keepdim=True), one).neg()
            for dim, one in ((-1, a), (-2, b))
        )
        return by_product @ y.mT, by_a, x.mT @ by_product, by_b
