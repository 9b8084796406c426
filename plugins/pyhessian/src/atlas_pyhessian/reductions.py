"""Sums over long vectors that stay right at a hundred million entries.

In float32, `torch.linalg.vector_norm` is off by 3% and `torch.dot` by up to 0.4% at 1.3e8 entries: one
running float32 sum loses the small terms. Here a vector is cut into chunks; each chunk is reduced on
its own and the chunks are added in float64. Scalars convert the chunk itself to float64. Products with
a stack of vectors multiply within a short chunk in the working precision, which is off by 4e-10 of the
product of the norms at 6.4e7 entries and takes half the time; on a device many such chunks are multiplied
by one batched product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

__all__ = ["add_combination", "combine", "dot", "norm", "project", "segment_dots"]

_SCALAR_CHUNK = 1 << 18
_STACK_CHUNK = 1 << 15
_DEVICE_CHUNK = 1 << 26
_DEVICE_ROW = 1 << 12


def _chunks(size: int, chunk: int) -> Iterator[slice]:
    return (slice(start, min(start + chunk, size)) for start in range(0, size, chunk))


def _stack_chunk(stack: torch.Tensor) -> int:
    """Return how many entries of each vector to multiply at a time; a device's launches must be worth it."""
    return _STACK_CHUNK if stack.device.type == "cpu" else _DEVICE_CHUNK


def dot(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return `x . y` of two vectors `[n]`, summed in float64.

    On a device short stretches are summed in the working precision first.
    """
    if x.device.type != "cpu":
        return float(project(x.unsqueeze(0), y))
    total = torch.zeros((), dtype=torch.float64)
    for part in _chunks(x.numel(), _SCALAR_CHUNK):
        total += torch.dot(x[part].double(), y[part].double())
    return float(total)


def norm(x: torch.Tensor) -> float:
    """Return the Euclidean norm of a vector `[n]`, summed in float64."""
    return math.sqrt(dot(x, x))


def segment_dots(x: torch.Tensor, y: torch.Tensor, sizes: Sequence[int]) -> tuple[float, ...]:
    """Return `x_b . y_b` of each segment b of two vectors `[n]` cut into `sizes`, summed in float64."""
    return tuple(
        dot(part, other)
        for part, other in zip(torch.split(x, list(sizes)), torch.split(y, list(sizes)), strict=True)
    )


def project(stack: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Return the coefficients `stack @ vector`, float64 `[m]` on the CPU.

    Args:
        stack: `[m, n]`, any floating dtype.
        vector: `[n]`, in the working dtype.
    """
    total = torch.zeros(stack.shape[0], dtype=torch.float64, device=vector.device)
    for part in _chunks(vector.numel(), _stack_chunk(stack)):
        rows, piece = stack[:, part].to(vector.dtype), vector[part]
        if vector.device.type == "cpu":
            total += (rows @ piece).double()
            continue
        whole = piece.numel() - piece.numel() % _DEVICE_ROW
        batched = rows[:, :whole].view(stack.shape[0], -1, _DEVICE_ROW).transpose(0, 1)
        products = torch.bmm(batched, piece[:whole].view(-1, _DEVICE_ROW, 1))
        total += products.double().sum(0).squeeze(1)
        total += rows[:, whole:].double() @ piece[whole:].double()
    return total.cpu()


def add_combination(vector: torch.Tensor, stack: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Add `coefficients @ stack` to `vector` in place and return it.

    Args:
        vector: `[n]`, in the working dtype.
        stack: `[m, n]`, any floating dtype.
        coefficients: `[m]`.
    """
    weights = coefficients.to(device=vector.device, dtype=vector.dtype)
    for part in _chunks(vector.numel(), _stack_chunk(stack)):
        vector[part] += weights @ stack[:, part].to(vector.dtype)
    return vector


def combine(stack: torch.Tensor, rotation: torch.Tensor, dtype: torch.dtype) -> None:
    """Replace the first `k` rows of `stack` by `rotation @ stack`, in place, chunk by chunk.

    Args:
        stack: `[m, n]`.
        rotation: `[k, m]` with `k <= m`.
        dtype: Precision of the multiplication.
    """
    weights = rotation.to(device=stack.device, dtype=dtype)
    for part in _chunks(stack.shape[1], _stack_chunk(stack)):
        stack[: weights.shape[0], part] = (weights @ stack[:, part].to(dtype)).to(stack.dtype)
