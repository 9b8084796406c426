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

_WARMUPS = 1
"""Runs before a capture, in which libraries load their kernels and take the memory that they keep."""


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

    It takes no memory: the exact operator multiplies, from the same graphs, and counts the products. Where
    graphs are retained they are built in its own precision, since certificates rest on them too.
    """

    def multiply(vector: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        exact.build()
        with _matmul_precision(True):
            return exact.matvec(vector, out=out)

    return OperatorView(exact, multiply)


class CompiledOperator:
    """The matrix of another operator with faster, possibly coarser products.

    Loss and first gradient are computed in the other operator's precision: rounded to TF32 too they would
    double the error of a product, 1.1e-3 against 6.0e-4 with GPT-2 small. It keeps what the products share,
    the other operator's retained graphs or as much memory, and on a CUDA device two vectors besides. The
    module must stay `prepared` and its parameters unchanged while it is used.

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
        exact.release()  # else its graphs, of another stream, would be part of the capture
        generator = torch.Generator(exact.device).manual_seed(0)
        self._input = torch.empty(exact.size, dtype=exact.dtype, device=exact.device)
        self._input.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)

        with _capturing(exact.device):
            program: Program = exact.second_backward()
            if fuse:
                traced = trace_product(program, self._input)
                align_products(traced)
                program = torch.compile(traced, fullgraph=True, dynamic=False)
        with _matmul_precision(self._tf32):
            on_device = exact.device.type == "cuda"
            self._run: Program = _Captured(program, self._input) if on_device else program
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


@contextmanager
def _capturing(device: torch.device) -> Iterator[None]:
    """Compute on the stream of captures, where there is one, so that autograd runs there later too."""
    if device.type != "cuda":
        yield
        return
    stream, current = _capture_stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of all captures: autograd ties a parameter's node to the stream that made it."""
    # Autograd may find nodes of the default stream, left by other products; the capture holds them all.
    if hasattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch"):
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # of torch
    return stream


class _Captured:
    """A program as a CUDA graph that reads its vector where it lay at the capture.

    The program is made while `_capturing`, and is held: what it keeps lies in memory that the graph reads.
    """

    def __init__(self, program: Program, vector: torch.Tensor) -> None:
        with _capturing(vector.device):
            for _ in range(_WARMUPS):
                program(vector)
        self._program = program
        self._graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(vector.device)
        if torch.cuda.mem_get_info(vector.device)[0] < torch.cuda.memory_reserved(vector.device):
            torch.cuda.empty_cache()  # as `torch.cuda.graph` always does, which takes as long as the capture
        with _capturing(vector.device):
            self._graph.capture_begin()
            try:
                self._result = program(vector)
            finally:
                self._graph.capture_end()

    def __call__(self, vector: torch.Tensor) -> torch.Tensor:
        del vector  # it is the one of the capture
        self._graph.replay()
        return self._result
