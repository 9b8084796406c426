r"""Cross-entropy that can be differentiated twice while little more than the logits is kept.

With `p = softmax(z)`, a row's loss is `logsumexp(z) - z_y`, its gradient `p - e_y`, and the derivative of
`u . (p - e_y)` by `z` is `p u - p (p . u)`: all three follow from the logits and one number a row. A product
makes one tensor of the logits' size, where PyTorch's own double backward makes five and keeps one (for half
types thirteen and three). The work is done in chunks of rows, in float32 or wider; a gradient of a half type
is rounded once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

__all__ = ["cross_entropy_sum"]

_CHUNK = 1 << 18
"""Numbers of the logits that are worked on at a time: 1 MiB of float32, which fits a processor's cache."""

_CHUNK_ELSEWHERE = 1 << 24
"""The same on devices where starting an operation costs more than memory."""


def cross_entropy_sum(logits: torch.Tensor, targets: torch.Tensor, *, ignore_index: int) -> torch.Tensor:
    """Return the cross-entropy summed over rows, a scalar in nats, differentiable twice.

    Args:
        logits: Scores `[..., V]`.
        targets: Classes `[...]` from 0 to V - 1, or `ignore_index` for a row that does not count.
        ignore_index: Marks such rows; their gradient is zero.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    total: torch.Tensor = _Loss.apply(rows, targets.reshape(-1), ignore_index)[0]  # type: ignore[no-untyped-call]
    return total


class _Loss(torch.autograd.Function):
    """The summed loss of rows `[N, V]`, and each row's `logsumexp` for the derivatives."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, ignore_index: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wide = _wide(logits)
        scored = targets != ignore_index
        picked = targets.masked_fill(~scored, 0)
        parts = [torch.logsumexp(logits[rows].to(wide), dim=-1, keepdim=True) for rows in _chunks(logits)]
        norms = torch.cat(parts) if parts else logits.new_empty((0, 1), dtype=wide)
        own = logits.gather(1, picked[:, None]).to(wide)
        losses = torch.where(scored[:, None], norms - own, 0.0)
        ctx.save_for_backward(logits, picked, scored, norms)
        ctx.mark_non_differentiable(norms)
        return losses.sum(), norms

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor, _: torch.Tensor) -> tuple[Any, None, None]:
        return _Gradient.apply(*ctx.saved_tensors, scale), None, None  # type: ignore[no-untyped-call]


class _Gradient(torch.autograd.Function):
    """`scale (p - e_y)` of scored rows, `[N, V]`, in the logits' dtype."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        picked: torch.Tensor,
        scored: torch.Tensor,
        norms: torch.Tensor,
        scale: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(logits, picked, scored, norms, scale)
        one = torch.ones((), dtype=norms.dtype, device=norms.device)

        def part(rows: slice) -> torch.Tensor:
            chosen = picked[rows, None]
            error = _softmax(logits, norms, rows)
            error = error.scatter_add(1, chosen, -one.expand(chosen.shape))
            return torch.where(scored[rows, None], error * scale, 0.0).to(logits.dtype)

        return _gathered(part, logits)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, vector: torch.Tensor) -> tuple[Any, None, None, None, Any]:
        logits, picked, scored, norms, scale = ctx.saved_tensors
        slopes: list[torch.Tensor] = []

        def part(rows: slice) -> torch.Tensor:
            given = vector[rows].to(norms.dtype)
            weights = _softmax(logits, norms, rows)
            mean = (weights * given).sum(dim=-1, keepdim=True)
            if ctx.needs_input_grad[4]:
                slopes.append(mean - given.gather(1, picked[rows, None]))
            bent = weights * (given - mean)
            return torch.where(scored[rows, None], bent * scale, 0.0).to(logits.dtype)

        result = _gathered(part, logits)
        slope = torch.where(scored[:, None], torch.cat(slopes), 0.0).sum() if slopes else None
        return result, None, None, None, slope


def _wide(logits: torch.Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _softmax(logits: torch.Tensor, norms: torch.Tensor, rows: slice) -> torch.Tensor:
    return torch.exp(logits[rows].to(norms.dtype) - norms[rows])


def _chunks(logits: torch.Tensor) -> Sequence[slice]:
    """Divide rows `[N, V]` into chunks; a trace gets one, since a compiler fuses what a loop would cut up."""
    count, size = logits.shape
    numbers = _CHUNK if logits.device.type in ("cpu", "meta") else _CHUNK_ELSEWHERE
    step = count if _is_traced() else max(1, numbers // size)
    return [slice(start, min(start + step, count)) for start in range(0, count, max(1, step))]


def _gathered(part: Callable[[slice], torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
    """Return what `part` makes of each chunk of rows, `[N, V]`, with memory for one chunk besides."""
    chunks = _chunks(logits)
    if len(chunks) == 1:
        return part(chunks[0])
    result = torch.empty_like(logits, memory_format=torch.contiguous_format)
    for rows in chunks:
        result[rows] = part(rows)
    return result


def _is_traced() -> bool:
    from torch.fx.experimental.proxy_tensor import get_proxy_mode

    return torch.compiler.is_compiling() or get_proxy_mode() is not None
