"""The PyHessian library as an engine, its known defects kept out at the border.

Yao, Gholami, Keutzer and Mahoney 2020 (arXiv:1912.07145). The library takes a module and a criterion on
its outputs, so that the loss itself is handed over as a module's output; parameters that the loss does
not use, on which it asserts, are excluded; the global generator from which it draws is seeded and
restored; gradients that it leaves on the module are removed. It states no error, which no border can
mend: its numbers are recorded as uncertified. Its sources carry GPL headers; nothing of it is copied.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from attrs import frozen

from atlas.contracts import Batch
from atlas.errors import BadInput
from atlas.quantities import Quantity
from atlas_pyhessian.parameters import Parameters

__all__ = ["LibraryResult", "library_quantities", "run_library"]

_TOLERANCE = 1e-3


@frozen
class LibraryResult:
    """What the library returned.

    Attributes:
        values: Eigenvalues by falling magnitude, signs mixed.
        vectors: Its eigenvectors as flat vectors `[n]`, in the same order.
        trace_samples: Its Hutchinson samples.
        eigenvalue_matvecs: Products of the eigenvalues.
        trace_matvecs: Products of the trace.
    """

    values: tuple[float, ...]
    vectors: tuple[torch.Tensor, ...]
    trace_samples: tuple[float, ...]
    eigenvalue_matvecs: int
    trace_matvecs: int


class _Loss(torch.nn.Module):
    """The module under a forward pass that returns the token-weighted mean loss itself."""

    def __init__(
        self,
        module: torch.nn.Module,
        loss_sum: Callable[[Batch], torch.Tensor],
        batches: Sequence[Batch],
    ) -> None:
        super().__init__()
        self.inner = module
        self._loss_sum = loss_sum
        self._batches = tuple(batches)

    def forward(self, ignored: torch.Tensor) -> torch.Tensor:
        del ignored
        weight = sum(batch.weight for batch in self._batches)
        return torch.stack([self._loss_sum(batch) for batch in self._batches]).sum() / weight


def _load() -> Any:
    try:
        return importlib.import_module("pyhessian.hessian")
    except ImportError as error:
        raise BadInput(
            "engine: pyhessian needs the PyHessian library",
            fix='pip install "atlas-pyhessian[pyhessian]", or use engine: lanczos',
        ) from error


@contextlib.contextmanager
def _counted(library: Any) -> Iterator[list[int]]:
    """Count the library's products, which it does not report."""
    original, count = library.hessian_vector_product, [0]

    def counting(*args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        return original(*args, **kwargs)

    library.hessian_vector_product = counting
    try:
        with warnings.catch_warnings():
            # The cycle that it warns of is broken below, where the gradients are removed.
            warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
            yield count
    finally:
        library.hessian_vector_product = original


def _exclude_unused(parameters: Parameters, loss: torch.Tensor) -> None:
    gradients = torch.autograd.grad(loss, parameters.tensors, allow_unused=True)
    for parameter, gradient in zip(parameters.tensors, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)


def run_library(
    module: torch.nn.Module,
    parameters: Parameters,
    loss_sum: Callable[[Batch], torch.Tensor],
    batches: Sequence[Batch],
    *,
    top_k: int,
    max_probes: int | None,
    max_iterations: int,
    seed: int,
) -> LibraryResult:
    """Call the library on a prepared module.

    Args:
        module: The module, `prepared`.
        parameters: Its chosen parameters.
        loss_sum: Summed loss of a batch.
        batches: Micro-batches; the library holds the graph of all of them at once.
        top_k: Eigenvalues asked for, by power iteration with deflation.
        max_probes: Most trace probes; None leaves the trace out.
        max_iterations: Most power iterations for each eigenvalue.
        seed: Of the global generator while the library runs.

    Raises:
        BadInput: The library is not installed.
    """
    library = _load()
    wrapped = _Loss(module, loss_sum, batches)
    on_device = parameters.device.type == "cuda"
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        _exclude_unused(parameters, wrapped(torch.empty(0)))
        used = [p.requires_grad for p in parameters.tensors]
        try:
            with (
                torch.random.fork_rng(devices=[parameters.device] if on_device else []),
                _counted(library) as count,
            ):
                torch.manual_seed(seed)
                nothing = (torch.empty(0), torch.empty(0))
                computation = library.hessian(
                    wrapped, lambda outputs, _: outputs, data=nothing, cuda=on_device
                )
                values, vectors = computation.eigenvalues(maxIter=max_iterations, tol=_TOLERANCE, top_n=top_k)
                eigenvalue_matvecs = count[0]
                samples = computation.trace(maxIter=max_probes, tol=_TOLERANCE) if max_probes else []
                trace_matvecs = count[0] - eigenvalue_matvecs
        finally:
            for parameter in parameters.tensors:
                parameter.grad = None
                parameter.requires_grad_(True)
    del computation
    gc.collect()
    order = sorted(range(len(values)), key=lambda i: -abs(values[i]))
    return LibraryResult(
        tuple(float(values[i]) for i in order),
        tuple(_flat(parameters, used, vectors[i]) for i in order),
        tuple(float(sample) for sample in samples),
        eigenvalue_matvecs,
        trace_matvecs,
    )


def _flat(parameters: Parameters, used: Sequence[bool], parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the library's list over used parameters as one vector, zero at the unused."""
    flat = torch.zeros(parameters.size, dtype=parameters.dtype, device=parameters.device)
    remaining = iter(parts)
    for view, is_used in zip(parameters.views(flat), used, strict=True):
        if is_used:
            view.copy_(next(remaining))
    return flat


def library_quantities(result: LibraryResult) -> list[Quantity]:
    """Return the library's numbers as quantities without a certificate."""
    note = "PyHessian states no error; its stopping rule is stagnation"

    def uncertified(name: str, value: float, matvecs: int, index: int | None = None) -> Quantity:
        return Quantity(
            name,
            value,
            None,
            "uncertified",
            unit="nat",
            converged=False,
            num_matvecs=matvecs,
            num_samples=len(result.trace_samples) if name == "trace" else None,
            index=index,
            note=note,
        )

    spent = result.eigenvalue_matvecs
    quantities = [uncertified("lambda_max", max(result.values), spent)]
    quantities += [
        uncertified("eigenvalue", value, spent, index) for index, value in enumerate(result.values, start=1)
    ]
    if result.trace_samples:
        mean = sum(result.trace_samples) / len(result.trace_samples)
        quantities.append(uncertified("trace", mean, result.trace_matvecs))
    missing = "power iteration by magnitude does not reach the smallest eigenvalue"
    quantities.append(Quantity("lambda_min", None, None, "undefined", unit="nat", note=missing))
    quantities.append(Quantity("condition_number", None, None, "undefined", note=missing))
    return quantities
