"""How fast this machine multiplies, moves and faults in memory: measured once, kept, corrected by runs.

Kept as JSON in the user's cache of Atlas, an entry for each processor, thread count and torch version,
replaced in one step. A file that cannot be read is as good as none, with a note; one that cannot be
written costs a second at the next run.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import platformdirs
import torch
from attrs import asdict, evolve, frozen

from atlas_pyhessian.memory.machine import machine_name
from atlas_pyhessian.memory.simulation import Cost

__all__ = ["Calibration", "Calibrations"]

_SIDE = 1024
_LENGTH = 1 << 24
_REPEATS = 3
_MANY = 1000
_BELIEVED = 4.0
"""Ratio up to which one run is believed; beyond it something else used the machine."""

_MEMORY = 0.5
"""Weight of the newest run in the correction; a run under load is forgotten by the next few."""


@frozen
class Calibration:
    """Rates of one machine.

    Attributes:
        flops_per_s: Of float32 matrix products.
        bytes_per_s: Read and written by elementwise operations on memory that is in use.
        fault_bytes_per_s: Of memory that is taken from the system and first touched.
        operation_s: Of an operation on next to nothing, its derivative's bookkeeping included.
        correction: Measured over estimated seconds of products, over earlier runs.
        runs: Runs in it.
    """

    flops_per_s: float
    bytes_per_s: float
    fault_bytes_per_s: float
    operation_s: float
    correction: float = 1.0
    runs: int = 0

    def seconds(self, cost: Cost, *, returned: bool) -> float:
        """Estimate the wall time of a product; `returned` if freed memory goes back to the system."""
        seconds = cost.flops / self.flops_per_s + cost.traffic_bytes / self.bytes_per_s
        seconds += cost.operations * self.operation_s
        if returned:
            seconds += cost.made_bytes / self.fault_bytes_per_s
        return self.correction * seconds

    def corrected(self, ratio: float) -> Calibration:
        """Return the rates after a run that took `ratio` times as long as was estimated."""
        believed = min(max(ratio, 1 / _BELIEVED), _BELIEVED)
        weight = 1.0 if self.runs == 0 else _MEMORY
        return evolve(self, correction=self.correction * believed**weight, runs=self.runs + 1)


@frozen
class Calibrations:
    """What is kept of all machines that share a cache.

    Attributes:
        path: The file.
        note: Told why it was not used, or not written.
    """

    path: Path
    note: Callable[[str], None] = lambda text: None

    @classmethod
    def of_user(cls, note: Callable[[str], None]) -> Calibrations:
        """Return those in the user's cache, `ATLAS_CACHE` or the platform's folder."""
        chosen = os.environ.get("ATLAS_CACHE")
        folder = (
            Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("atlas", appauthor=False)
        )
        return cls(folder / "curvature-calibration.json", note)

    def find(self, *, threads: int) -> Calibration:
        """Return this machine's rates, measured now, in about a second, where they are not known."""
        kept = self._read().get(_key(threads))
        if kept is None:
            kept = _measured()
            self.keep(kept, threads=threads)
        return kept

    def keep(self, calibration: Calibration, *, threads: int) -> None:
        """Replace this machine's entry."""
        entries = {**self._read(), _key(threads): calibration}
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({key: asdict(entry) for key, entry in entries.items()}, indent=1)
            fresh.write_text(text + "\n", "utf-8")
            fresh.replace(self.path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            self.note(f"the machine's rates cannot be kept: {error}")

    def _read(self) -> dict[str, Calibration]:
        if not self.path.exists():
            return {}
        try:
            entries = {k: Calibration(**e) for k, e in json.loads(self.path.read_text("utf-8")).items()}
            for entry in entries.values():
                rates = [v for name, v in asdict(entry).items() if name != "runs"]
                if not all(isinstance(rate, float) and 0 < rate < math.inf for rate in rates):
                    raise ValueError("a rate is not positive")
        except (OSError, ValueError, TypeError, AttributeError) as error:
            self.note(f"{self.path} is not used, the machine is measured anew: {error}")
            return {}
        return entries


def _key(threads: int) -> str:
    return f"{machine_name()}, {threads} threads, torch {torch.__version__}"


def _measured() -> Calibration:
    """Measure the rates; the best of a few repeats, since others may be using the machine."""
    square = torch.ones(_SIDE, _SIDE)
    vector = torch.ones(_LENGTH)
    target = torch.empty_like(vector)
    point = torch.ones((), requires_grad=True)
    return Calibration(
        flops_per_s=2.0 * _SIDE**3 / _best(lambda: torch.mm(square, square)),
        bytes_per_s=8.0 * _LENGTH / _best(lambda: torch.mul(vector, 1.5, out=target)),
        fault_bytes_per_s=4.0 * _LENGTH / _best(lambda: torch.ones(_LENGTH)),
        operation_s=_best(lambda: [point * 1.5 for _ in range(_MANY)]) / _MANY,
    )


def _best(action: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
