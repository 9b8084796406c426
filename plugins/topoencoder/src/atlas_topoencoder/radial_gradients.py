"""Functions of a norm with gradients in closed form: exponential, logarithm, complement, half a distance.

As in `closed_gradients`, second derivatives are autograd's own. A map `f(n) v` with `n = |v|` has the
gradient `f g + (v.g) f'/n v`. Near 0 the digits of `f'/n` go, but they are multiplied by `n^2`; d, a tenth
of a rounding, is added to `n^2`, so that nothing is divided by 0.
"""

from __future__ import annotations

from typing import Any

import torch

from atlas_topoencoder.closed_gradients import by_autograd

__all__ = ["Complement", "Exp0", "HalfDistance", "Log0", "squared_norm"]

Pair = tuple[torch.Tensor, torch.Tensor]


def squared_norm(v: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Return `|v|^2 + d` over a dimension, which is kept; never 0."""
    return (v * v).sum(dim, keepdim=True) + torch.finfo(v.dtype).eps / 10


class Complement(torch.autograd.Function):
    """`1 - |z|^2`, squared and summed in float64, so that float32 keeps its digits near the boundary."""

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor) -> torch.Tensor:
        """Return the complement, `[..., 1]`."""
        ctx.save_for_backward(z)
        norm: torch.Tensor = torch.linalg.vector_norm(z, dim=-1, keepdim=True, dtype=torch.float64)
        return (1 - norm * norm).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        """Return the gradient of `z`, itself differentiable."""
        (z,) = ctx.saved_tensors
        found: torch.Tensor = -2 * gradients[0] * z
        return found


def _exp0(v: torch.Tensor, cap: float | None) -> Pair:
    norm = squared_norm(v).sqrt()
    reached = norm if cap is None else (norm / cap).tanh() * cap
    return reached.tanh() / norm * v, _sech_squared(reached)


def _sech_squared(x: torch.Tensor) -> torch.Tensor:
    """Return `1 - tanh(x)^2` with all its digits."""
    below = (-2 * x).sigmoid()
    return 4 * torch.addcmul(below, below, below, value=-1)


class Exp0(torch.autograd.Function):
    """`tanh(r) / n v` and its complement `sech(r)^2`, `n = |v|`; r is n, or `T tanh(n / T)` under a cap T."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor, cap: float | None) -> Pair:
        """Return the point and its complement."""
        sq = squared_norm(v)
        norm = sq.sqrt()
        reached, stretch = norm, None
        if cap is not None:
            scaled = norm / cap
            reached, stretch = scaled.tanh() * cap, _sech_squared(scaled)
        ratio, complement = reached.tanh() / norm, _sech_squared(reached)
        ctx.cap = cap
        if ctx.needs_input_grad[0]:
            change = complement if stretch is None else complement * stretch
            ctx.save_for_backward(v, ratio, (change - ratio) / sq, ratio * change)
        return ratio * v, complement

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, None]:
        """Return the gradient of `v`."""
        v, ratio, slope, lean = ctx.saved_tensors
        if torch.is_grad_enabled():
            return by_autograd(lambda v: _exp0(v, ctx.cap), (v,), gradients)[0], None
        by_z, by_complement = gradients
        along = torch.addcmul((v * by_z).sum(-1, keepdim=True) * slope, lean, by_complement, value=-2)
        return torch.addcmul(ratio * by_z, v, along), None


def _log0(y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    norm = squared_norm(y).sqrt()
    return (norm.atanh() / norm * y,)


class Log0(torch.autograd.Function):
    """`atanh(n) / n y`, `n = |y|`."""

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor) -> torch.Tensor:
        """Return the logarithm at the origin, `[..., D]`."""
        sq = squared_norm(y)
        norm = sq.sqrt()
        ratio = norm.atanh() / norm
        ctx.save_for_backward(y, sq, ratio)
        return ratio * y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor | None:
        """Return the gradient of `y`."""
        y, sq, ratio = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():
            return by_autograd(_log0, (y,), gradients)[0]
        slope = ((1 - sq).reciprocal() - ratio) / sq
        along = (y * gradient).sum(-1, keepdim=True) * slope
        return torch.addcmul(ratio * gradient, y, along)


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
            return by_autograd(lambda u: (_half_distance(u, ctx.least),), (chord,), gradients)[0], None
        slope = gradient / (2 * root * other)
        return slope.masked_fill(chord < ctx.least, 0.0), None
