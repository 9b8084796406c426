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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

__all__ = ["add_combination", "combine", "dot", "norm", "project", "segment_dots"]

T = TypeVar("T")

_SCALAR_CHUNK = 1 << 18
_STACK_CHUNK = 1 << 16
_WORTH_THREADS = 8
_DEVICE_CHUNK = 1 << 26
_DEVICE_ROW = 1 << 12


def _chunks(size: int, chunk: int) -> Iterator[slice]:
    return (slice(start, min(start + chunk, size)) for start in range(0, size, chunk))


def _each(size: int, stack: torch.Tensor, work: Callable[[slice], T], chunk: int = _STACK_CHUNK) -> list[T]:
    """Do something with each chunk of vectors as long as `size`, and return what came of it, in order.

    On the CPU the threads that torch has been granted share the chunks: a chunk that fits the cache is too
    short for torch to divide it among them. On a device launches must be worth it, and chunks are long.
    """
    if stack.device.type != "cpu":
        return [work(part) for part in _chunks(size, _DEVICE_CHUNK)]
    parts, threads = list(_chunks(size, chunk)), torch.get_num_threads()
    if threads == 1 or len(parts) < _WORTH_THREADS * threads:
        return [work(part) for part in parts]
    share = math.ceil(len(parts) / threads)
    shares = [parts[start : start + share] for start in range(0, len(parts), share)]
    found = _pool(threads).map(lambda own: [work(part) for part in own], shares)
    return [value for values in found for value in values]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return so many threads, each of which computes alone.

    With a team of its own each would leave waiting threads behind, which slowed products by 1.4.
    """
    return ThreadPoolExecutor(
        threads, thread_name_prefix="reductions", initializer=torch.set_num_threads, initargs=(1,)
    )


def dot(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return `x . y` of two vectors `[n]`, summed in float64.

    On a device short stretches are summed in the working precision first.
    """
    if x.device.type != "cpu":
        return float(project(x.unsqueeze(0), y))
    return math.fsum(
        _each(x.numel(), x, lambda part: float(torch.dot(x[part].double(), y[part].double())), _SCALAR_CHUNK)
    )


def norm(x: torch.Tensor) -> float:
    """Return the Euclidean norm of a vector `[n]`, summed in float64.

    On a device short stretches are summed in the working precision first.
    """
    if x.device.type == "cpu":
        return math.sqrt(dot(x, x))
    whole = x.numel() - x.numel() % _DEVICE_ROW
    stretches = torch.linalg.vector_norm(x[:whole].view(-1, _DEVICE_ROW), dim=1)
    return float(torch.cat([stretches.double(), x[whole:].double()]).norm())


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

    def part_of(part: slice) -> torch.Tensor:
        rows, piece = stack[:, part].to(vector.dtype), vector[part]
        if vector.device.type == "cpu":
            return (rows @ piece).double()
        whole = piece.numel() - piece.numel() % _DEVICE_ROW
        batched = rows[:, :whole].view(stack.shape[0], -1, _DEVICE_ROW).transpose(0, 1)
        products = torch.bmm(batched, piece[:whole].view(-1, _DEVICE_ROW, 1))
        return products.double().sum(0).squeeze(1) + rows[:, whole:].double() @ piece[whole:].double()

    total = torch.zeros(stack.shape[0], dtype=torch.float64, device=vector.device)
    for found in _each(vector.numel(), stack, part_of):
        total += found
    return total.cpu()


def add_combination(vector: torch.Tensor, stack: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Add `coefficients @ stack` to `vector` in place and return it.

    Args:
        vector: `[n]`, in the working dtype.
        stack: `[m, n]`, any floating dtype.
        coefficients: `[m]`.
    """
    weights = coefficients.to(device=vector.device, dtype=vector.dtype)

    def add(part: slice) -> None:
        vector[part].addmv_(stack[:, part].T.to(vector.dtype), weights)

    _each(vector.numel(), stack, add)
    return vector


def combine(stack: torch.Tensor, rotation: torch.Tensor, dtype: torch.dtype) -> None:
    """Replace the first `k` rows of `stack` by `rotation @ stack`, in place, chunk by chunk.

    Args:
        stack: `[m, n]`.
        rotation: `[k, m]` with `k <= m`.
        dtype: Precision of the multiplication.
    """
    weights = rotation.to(device=stack.device, dtype=dtype)

    def turn(part: slice) -> None:
        stack[: weights.shape[0], part] = (weights @ stack[:, part].to(dtype)).to(stack.dtype)

    _each(stack.shape[1], stack, turn)
