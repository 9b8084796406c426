"""A series of checkpoints as one table: what was measured of each, by position and training step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["series_rows", "step_number"]

_STEP = re.compile(r"step\D?(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")


def step_number(label: str) -> int | None:
    """Return the training step that a label names, or None.

    It is the number after `step` (`stage1-step3000-tokens6B`), or else the last number of the label's
    last part (`runs/checkpoint-500`), unless that part reads as a digest.
    """
    last = label.rstrip("/\\").replace("\\", "/").rpartition("/")[2]
    if re.fullmatch(r"[0-9a-f]{12,}", last):
        return None
    found = _STEP.findall(last) or _NUMBER.findall(last)
    return int(found[-1]) if found else None


def series_rows(
    position: int, label: str, slices: Mapping[str, str], quantities: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return a checkpoint's rows of the table `series`, one for each stimulus slice.

    Args:
        position: Number of the checkpoint, from 1.
        label: Its label.
        slices: The stimulus slice by the key under which the checkpoint's quantities are recorded.
        quantities: Those quantities as records.
    """
    rows: dict[str, dict[str, Any]] = {
        key: {"position": position, "label": label, "step": step_number(label), "slice": part}
        for key, part in slices.items()
    }
    for record in quantities:
        name, row = record["quantity"], rows[record["slice"]]
        if name in ("lambda_max", "lambda_min"):
            row[name], row[f"{name}_residual"] = record["value"], record["uncertainty"]
        elif name == "trace":
            row["trace"], row["trace_standard_error"] = record["value"], record["uncertainty"]
            row["trace_low"], row["trace_high"] = record["low"], record["high"]
        elif name in ("loss", "gradient_norm"):
            row[name] = record["value"]
    return list(rows.values())
