"""The parameters of a curvature measurement, as the card's schema admits them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from attrs import frozen

from atlas.errors import BadInput
from atlas_pyhessian.operators import Kind
from atlas_pyhessian.wu2000thickrestart import EigenRequest

__all__ = ["DensitySettings", "Settings", "TraceSettings"]

_DTYPES = {
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}

_LARGE = 10_000_000
"""Parameters from which a float32 basis is stored as float16 unless asked otherwise."""


@frozen
class TraceSettings:
    """How exactly the trace is wanted, and at what cost."""

    rel_se: float | None
    max_probes: int


@frozen
class DensitySettings:
    """Probes, Lanczos steps of each, and intervals of the density."""

    probes: int
    steps: int
    bins: int


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
    eps: float
    dtype: torch.dtype | None
    batch_size: int
    max_tokens: int | None
    parameters: tuple[str, ...]
    graph: Literal["auto", "retained", "recompute"]
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
            trace=TraceSettings(trace.get("rel_se"), trace["max_probes"]) if trace else None,
            density=DensitySettings(**density) if density else None,
            eps=params["condition"]["eps"],
            dtype=_DTYPES.get(params["dtype"]),
            batch_size=params["batch_size"],
            max_tokens=params["max_tokens"] if params.get("max_tokens") else max_tokens,
            parameters=tuple(params["parameters"]),
            graph=params["graph"],
            memory_gb=params.get("memory_gb"),
        )

    def retain_graph(self, num_batches: int) -> bool:
        """Keep first graphs between products: as asked, or where there is one micro-batch only."""
        return self.graph == "retained" or (self.graph == "auto" and num_batches == 1)

    def request(self, size: int, dtype: torch.dtype) -> EigenRequest:
        """Return what is asked of the solver for n = `size` parameters of `dtype`."""
        storage = _DTYPES.get(self.basis_dtype)
        if storage is None and size >= _LARGE and dtype is torch.float32 and self.tolerance >= 1e-3:
            storage = torch.float16
        return EigenRequest(
            top_k=self.top_k,
            ends=self.ends,
            tolerance=self.tolerance,
            max_matvecs=self.max_matvecs,
            basis_size=self.basis_size,
            storage=storage or dtype,
            fresh_starts=self.fresh_starts,
        )
