"""The parameters of a curvature measurement, as the card's schema admits them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from attrs import evolve, frozen

from atlas.errors import BadInput
from atlas_pyhessian import epperly2024xtrace, meyer2021hutchplusplus
from atlas_pyhessian.operators import Kind, Products
from atlas_pyhessian.spectrum import SHORT
from atlas_pyhessian.wu2000thickrestart import EigenRequest, default_basis_size

__all__ = ["BlockSettings", "DensitySettings", "Settings", "TraceSettings"]

_DTYPES = {
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}

_LEAST_PRODUCTS = {
    "deflated": 2,
    "xtrace": epperly2024xtrace.LEAST_PRODUCTS,
    "hutch++": meyer2021hutchplusplus.LEAST_PRODUCTS,
}

_LARGE = 10_000_000
"""Parameters from which a float32 basis is stored as float16 unless asked otherwise."""

_ROOMY_BASIS = 24
"""Vectors kept where memory is no matter: a GPT-2 took 109 products with 12, 69 with 24 and 68 with 32."""


def _roomy(size: int, dtype: torch.dtype, device: torch.device | None) -> bool:
    """Say whether a wide basis takes a quarter of a CUDA device's memory at the most."""
    if device is None or device.type != "cuda":
        return False
    held = _ROOMY_BASIS * size * dtype.itemsize
    return 4 * held <= torch.cuda.get_device_properties(device).total_memory


@frozen
class TraceSettings:
    """By which method the trace is wanted, how exactly, and at most by how many products."""

    method: Literal["deflated", "xtrace", "hutch++"]
    rel_se: float | None
    max_probes: int


@frozen
class DensitySettings:
    """Probes, Lanczos steps of each, and intervals of the density."""

    probes: int
    steps: int
    bins: int


@frozen
class BlockSettings:
    """Which diagonal blocks are measured, and what is asked of each instead of what is of the whole.

    Attributes:
        by: `layers`, `tensors`, or globs on parameter names by the block's name.
        top_k: Eigenvalues of largest magnitude.
        tolerance: Largest relative residual.
        max_matvecs: Products allowed for the eigenvalues.
        trace: How exactly the trace is wanted; None leaves it out.
    """

    by: str | Mapping[str, tuple[str, ...]]
    top_k: int
    tolerance: float
    max_matvecs: int
    trace: TraceSettings | None

    def applied_to(self, settings: Settings) -> Settings:
        """Return the settings of one block; its basis has as many vectors as the whole's."""
        return evolve(
            settings,
            top_k=self.top_k,
            ends=1,
            tolerance=self.tolerance,
            max_matvecs=self.max_matvecs,
            basis_size=settings.basis_size or default_basis_size(settings.top_k, settings.ends),
            trace=self.trace,
            density=None,
            blocks=None,
            along=(),
        )


def _block_settings(params: Mapping[str, Any]) -> BlockSettings | None:
    by, light = params["blocks"], params["block_settings"]
    if not by:
        return None
    trace = light["trace"]
    return BlockSettings(
        by=by if isinstance(by, str) else {name: tuple(globs) for name, globs in by.items()},
        top_k=light["top_k"],
        tolerance=light["tolerance"],
        max_matvecs=light["max_matvecs"],
        trace=TraceSettings("deflated", trace.get("rel_se"), trace["max_probes"]) if trace else None,
    )


def _trace_settings(trace: Mapping[str, Any], engine: str) -> TraceSettings:
    method, least = trace["method"], _LEAST_PRODUCTS[trace["method"]]
    if engine == "pyhessian" and method != "deflated":
        raise BadInput(
            f"the PyHessian library estimates a trace in its own way, not by {method}",
            fix="leave `trace.method` out, or set `engine: lanczos`",
        )
    if trace["max_probes"] < least:
        raise BadInput(
            f"trace.max_probes is {trace['max_probes']}: too few products for an error of {method}",
            fix=f"allow at least {least}, or use `method: deflated`",
        )
    return TraceSettings(method, trace.get("rel_se"), trace["max_probes"])


@frozen
class Settings:
    """A measurement's parameters; `None` for a part that is switched off."""

    engine: Literal["lanczos", "pyhessian"]
    operator: Kind
    top_k: int
    ends: int
    tolerance: float
    max_matvecs: int
    fresh_starts: int
    basis_size: int | None
    basis_dtype: str
    basis_place: Literal["auto", "memory", "disk"]
    trace: TraceSettings | None
    density: DensitySettings | None
    blocks: BlockSettings | None
    along: tuple[str, ...]
    eps: float
    dtype: torch.dtype | None
    batch_size: int
    max_tokens: int | None
    parameters: tuple[str, ...]
    graph: Literal["auto", "retained", "recompute"]
    products: Products
    memory_gb: float | None

    @classmethod
    def from_params(cls, params: Mapping[str, Any], max_tokens: int | None = None) -> Settings:
        """Read parameters that are valid by the card, defaults filled in.

        Args:
            params: The step's parameters.
            max_tokens: The stimulus's own limit, which `max_tokens` of the step overrides.

        Raises:
            BadInput: The engine cannot do what is asked.
        """
        trace, density = params["trace"], params["density"]
        if params["engine"] == "pyhessian" and density:
            raise BadInput(
                "the PyHessian library's density does not run on this torch",
                fix="set `density: false`, or `engine: lanczos`",
            )
        if params["engine"] == "pyhessian" and (params["blocks"] or params["along"]):
            raise BadInput(
                "the PyHessian library knows neither blocks nor directions",
                fix="leave `blocks` and `along` out, or set `engine: lanczos`",
            )
        if params["engine"] == "pyhessian" and params["operator"] != "hessian":
            raise BadInput(
                "the PyHessian library knows the Hessian only",
                fix="set `operator: hessian`, or `engine: lanczos`",
            )
        return cls(
            engine=params["engine"],
            operator=params["operator"],
            top_k=params["top_k"],
            ends=params["ends"],
            tolerance=params["tolerance"],
            max_matvecs=params["max_matvecs"],
            fresh_starts=params["fresh_starts"],
            basis_size=params["basis"].get("size"),
            basis_dtype=params["basis"]["dtype"],
            basis_place=params["basis"]["place"],
            trace=_trace_settings(trace, params["engine"]) if trace else None,
            density=DensitySettings(**density) if density else None,
            blocks=_block_settings(params),
            along=tuple(params["along"]),
            eps=params["condition"]["eps"],
            dtype=_DTYPES.get(params["dtype"]),
            batch_size=params["batch_size"],
            max_tokens=params["max_tokens"] if params.get("max_tokens") else max_tokens,
            parameters=tuple(params["parameters"]),
            graph=params["graph"],
            products=params["products"],
            memory_gb=params.get("memory_gb"),
        )

    def retain_graph(self, num_batches: int) -> bool:
        """Keep first graphs between products: as asked, or where there is one micro-batch only."""
        return self.graph == "retained" or (self.graph == "auto" and num_batches == 1)

    def request(self, size: int, dtype: torch.dtype, device: torch.device | None = None) -> EigenRequest:
        """Return what is asked of the solver for n = `size` parameters of `dtype`, on a device or the CPU."""
        storage, roomy = _DTYPES.get(self.basis_dtype), _roomy(size, dtype, device)
        large = size >= _LARGE and dtype is torch.float32 and not roomy
        if storage is None and large and self.tolerance >= 1e-3:
            storage = torch.float16
        basis_size = self.basis_size
        if basis_size is None and roomy and size > SHORT:
            basis_size = max(_ROOMY_BASIS, default_basis_size(self.top_k, self.ends))
        return EigenRequest(
            top_k=self.top_k,
            ends=self.ends,
            tolerance=self.tolerance,
            max_matvecs=self.max_matvecs,
            basis_size=basis_size,
            storage=storage or dtype,
            fresh_starts=self.fresh_starts,
        )
