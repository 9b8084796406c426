"""Products at the speed of the device: traced once, compiled if asked, replayed from a CUDA graph.

An eager product of a small language model is a few thousand kernels whose launches take longer than the
kernels. Here they are replayed as one CUDA graph; with `fuse` the product is traced first (`traced`),
its constant part evaluated once, and the compiler of torch merges the elementwise operations. The matrix
products may run in TF32, operands of 11 significant bits: good enough to iterate with, and no certificate
rests on it, since residuals are taken by the exact operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch

from atlas_pyhessian import reductions
from atlas_pyhessian.operators.hessian import HessianOperator
from atlas_pyhessian.operators.symmetric import OperatorView
from atlas_pyhessian.operators.traced import align_products, trace_product

__all__ = ["CompiledOperator", "coarse"]

Program = Callable[[torch.Tensor], torch.Tensor]
"""Takes a vector `[n]` and returns its product."""

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


def coarse(exact: HessianOperator) -> OperatorView:
    """Return an exact operator's matrix with matrix products in TF32, for models whose kernels are long.

    It takes no memory: the exact operator multiplies, from the same graphs, and counts the products.
    """

    def multiply(vector: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        with _matmul_precision(True):
            return exact.matvec(vector, out=out)

    return OperatorView(exact, multiply)


class CompiledOperator:
    """The matrix of another operator with faster, possibly coarser products.

    It keeps what the products share, about as much memory as a retained graph, and on a CUDA device two
    vectors besides. The module must stay `prepared` and its parameters unchanged while it is used.

    Args:
        exact: The operator whose matrix it is; float32 or wider.
        tf32: Round the operands of matrix products to TF32 where the device has it.
        fuse: Trace and compile, which takes a minute or more and then saves time in every product.

    Attributes:
        agreement: Relative distance of one product of random signs to the exact operator's.

    Raises:
        Untraceable: The module writes into tensors in a way that cannot be traced.
    """

    def __init__(self, exact: HessianOperator, *, tf32: bool, fuse: bool = False) -> None:
        self.exact = exact
        self._tf32 = tf32 and exact.device.type == "cuda" and exact.dtype is torch.float32
        self._matvecs = 0
        exact.release()  # else its graphs' leaves, of another stream, would be part of the capture
        generator = torch.Generator(exact.device).manual_seed(0)
        self._input = torch.empty(exact.size, dtype=exact.dtype, device=exact.device)
        self._input.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)

        def program() -> Program:
            if not fuse:
                return exact.second_backward()
            traced = trace_product(exact.second_backward(), self._input)
            align_products(traced)
            compiled: Program = torch.compile(traced, fullgraph=True, dynamic=False)
            return compiled

        with _matmul_precision(self._tf32):
            on_device = exact.device.type == "cuda"
            self._run: Program = _Captured(program, self._input) if on_device else program()
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


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of all captures: autograd ties a parameter's node to the stream that made it."""
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # of torch
    return stream


class _Captured:
    """A program as a CUDA graph that reads its vector where it lay at the capture.

    The program is made on the stream of the capture, where autograd then runs it too, and is held: what
    it keeps lies in memory that the graph reads.
    """

    def __init__(self, make: Callable[[], Program], vector: torch.Tensor) -> None:
        # Autograd may find nodes of the default stream, left by other products; the capture holds them all.
        if hasattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch"):
            torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        stream = _capture_stream(vector.device)
        stream.wait_stream(torch.cuda.current_stream(vector.device))
        with torch.cuda.stream(stream):
            self._program = make()
            for _ in range(_WARMUPS):
                self._program(vector)
        torch.cuda.current_stream(vector.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            self._result = self._program(vector)

    def __call__(self, vector: torch.Tensor) -> torch.Tensor:
        del vector  # it is the one of the capture
        self._graph.replay()
        return self._result
