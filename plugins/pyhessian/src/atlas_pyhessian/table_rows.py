"""A measurement as rows of the curvature tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atlas_pyhessian.measurement import Measurement
from atlas_pyhessian.parameters import Parameters

__all__ = ["density_rows", "probe_rows", "spectrum_rows", "tensor_rows"]

_Row = dict[str, Any]


def _ends(values: Sequence[float]) -> Mapping[int, str]:
    """Return the positions of the algebraic ends; a lone value is the upper one."""
    positions = range(len(values))
    lowest = min(positions, key=lambda i: values[i])
    return {lowest: "min", max(positions, key=lambda i: values[i]): "max"}


def spectrum_rows(key: str, result: Measurement) -> list[_Row]:
    """Return the rows of the table `spectrum`."""
    spectrum = result.spectrum
    ends = _ends(spectrum.values)
    return [
        {
            "slice": key,
            "index": i + 1,
            "eigenvalue": spectrum.values[i],
            "residual_norm": spectrum.residual_norms[i],
            "relative_residual": spectrum.residual_norms[i] / spectrum.norm if spectrum.norm else 0.0,
            "end": ends.get(i),
            "converged": spectrum.converged[i],
        }
        for i in range(len(spectrum.values))
    ]


def probe_rows(key: str, result: Measurement) -> list[_Row]:
    """Return the rows of the table `probes`, none without a trace."""
    if result.trace is None:
        return []
    return [
        {
            "slice": key,
            "probe": sample.index,
            "trace_sample": result.trace.deflated_trace + sample.quadratic_form,
            "remainder": sample.quadratic_form,
            "squared_length": sample.squared_length,
        }
        for sample in result.trace.samples
    ]


def tensor_rows(key: str, parameters: Parameters, result: Measurement) -> list[_Row]:
    """Return the rows of the table `tensors`, none where the trace was not summed by tensor."""
    if not result.tensors:
        return []
    return [
        {
            "slice": key,
            "parameter": name,
            "size": size,
            "trace": found.trace.value,
            "standard_error": found.trace.standard_error,
            "trace_low": found.trace.low,
            "trace_high": found.trace.high,
            "frobenius_squared": found.frobenius_squared.value,
            "frobenius_standard_error": found.frobenius_squared.standard_error,
            "frobenius_share": found.share,
        }
        for name, size, found in zip(parameters.names, parameters.sizes, result.tensors, strict=True)
    ]


def density_rows(key: str, result: Measurement) -> list[_Row]:
    """Return the rows of the table `density`, none without one."""
    return [
        {
            "slice": key,
            "low": point.low,
            "high": point.high,
            "count": point.count,
            "standard_error": point.standard_error,
            "count_low": point.count_low,
            "count_high": point.count_high,
        }
        for point in result.density
    ]
