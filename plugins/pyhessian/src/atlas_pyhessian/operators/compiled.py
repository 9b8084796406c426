"""Products at the speed of the device: traced once, compiled if asked, replayed from a CUDA graph.

An eager product of a small language model is a few thousand kernels whose launches take longer than the
kernels. Here the product is traced (`traced`), its constant part evaluated once, and the rest replayed
as one CUDA graph; with `fuse` the compiler of torch first merges the elementwise operations. The matrix
products may run in TF32, which rounds their operands to 11 bits: good enough to iterate with, and no
certificate rests on it, since residuals are taken by the exact operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from atlas_pyhessian import reductions
from atlas_pyhessian.operators.hessian import HessianOperator
from atlas_pyhessian.operators.traced import trace_product

__all__ = ["CompiledOperator"]

_WARMUPS = 3
"""Runs before a capture, as torch asks for, so that libraries have set up what they keep."""


@contextmanager
def _matmul_precision(tf32: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


class CompiledOperator:
    """The matrix of another operator with faster, possibly coarser products.

    It keeps what the products share, about as much memory as a retained graph, and on a CUDA device two
    vectors besides. The module must stay `prepared` and its parameters unchanged while it is used.

    Args:
        exact: The operator whose matrix it is; float32 or wider.
        tf32: Round the operands of matrix products to TF32 where the device has it.
        fuse: Compile with `torch.compile`, which takes about a minute and then saves time in every product.

    Attributes:
        agreement: Relative distance of one product of random signs to the exact operator's.

    Raises:
        Untraceable: The module writes into tensors in a way that cannot be traced.
    """

    def __init__(self, exact: HessianOperator, *, tf32: bool, fuse: bool = False) -> None:
        self.exact = exact
        self._tf32 = tf32 and exact.device.type == "cuda" and exact.dtype is torch.float32
        self._matvecs = 0
        generator = torch.Generator().manual_seed(0)
        sample = torch.randint(0, 2, (exact.size,), generator=generator, dtype=torch.int8)
        self._input = sample.to(device=exact.device, dtype=exact.dtype).mul_(2).sub_(1)
        with _matmul_precision(self._tf32):
            program: Callable[[torch.Tensor], torch.Tensor] = trace_product(
                exact.second_backward(), self._input
            )
            if fuse:
                program = torch.compile(program, fullgraph=True, dynamic=False)
            self._run = _captured(program, self._input) if exact.device.type == "cuda" else _plain(program)
        expected = exact.matvec(self._input)
        with _matmul_precision(self._tf32):
            observed = self._run(self._input)
        scale = reductions.norm(expected)
        self.agreement = reductions.norm(observed - expected) / scale if scale else 0.0

    @property
    def size(self) -> int:
        """Dimension n."""
        return self.exact.size

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of vectors."""
        return self.exact.dtype

    @property
    def device(self) -> torch.device:
        """Device of vectors."""
        return self.exact.device

    @property
    def num_matvecs(self) -> int:
        """Products computed so far, those of the exact operator left out."""
        return self._matvecs

    def matvec(self, vector: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the product with `vector`, `[n]` to `[n]`, in `out` where given."""
        self._matvecs += 1
        result = torch.empty_like(vector) if out is None else out
        self._input.copy_(vector)
        with _matmul_precision(self._tf32):
            return result.copy_(self._run(self._input))


def _plain(program: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    def run(vector: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return program(vector)

    return run


def _captured(
    program: Callable[[torch.Tensor], torch.Tensor], vector: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Capture a program as a CUDA graph that reads `vector` where it lies."""
    stream = torch.cuda.Stream(vector.device)  # type: ignore[no-untyped-call] # of torch
    stream.wait_stream(torch.cuda.current_stream(vector.device))
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(_WARMUPS):
            program(vector)
    torch.cuda.current_stream(vector.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        result = program(vector)

    def run(_: torch.Tensor) -> torch.Tensor:
        graph.replay()
        return result

    return run
