"""One training from its first step to its readings, kept on the way so that a killed one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define, field, frozen

from atlas.errors import BadInput
from atlas_topoencoder.checkpoint import encode_checkpoint, read_checkpoint
from atlas_topoencoder.metrics import Reading, read
from atlas_topoencoder.training import Training

__all__ = ["History", "Keeping", "train"]

_SHOWN = 600
"""Test examples that snapshots follow, at most."""


@define
class History:
    """What is noted while training; plain values, so that it can be kept.

    Attributes:
        curves: Rows of the table of curves, but for the repetition.
        snapshots: Step, and logarithm and chart of the followed examples then.
    """

    curves: list[dict[str, Any]] = field(factory=list)
    snapshots: list[dict[str, Any]] = field(factory=list)


@frozen
class Keeping:
    """Where a training's state is kept, and what must be as it was.

    Attributes:
        path: Of the file.
        every: Steps between states.
        identity: All that the numbers depend on besides the state.
    """

    path: Path
    every: int
    identity: str

    def save(self, training: Training, history: History) -> None:
        """Put the state in place of the one before, whole or not at all."""
        facts = {"step": training.step, "identity": self.identity, "curves": history.curves}
        facts["snapshots"] = history.snapshots
        data = encode_checkpoint(training.state(), training.model.architecture, facts)
        fresh = self.path.with_suffix(".part")
        fresh.write_bytes(data)
        fresh.replace(self.path)

    def resume(self, training: Training) -> History:
        """Bring a training to its kept state, if there is one that fits; else begin anew."""
        if not self.path.is_file():
            return History()
        try:
            tensors, head = read_checkpoint(self.path)
        except BadInput:
            return History()  # torn by the kill: the training begins anew, and its numbers are the same
        facts = head["facts"]
        if facts["identity"] != self.identity:
            return History()
        training.restore(tensors, facts["step"])
        return History(facts["curves"], facts["snapshots"])


def train(
    training: Training,
    *,
    test: np.ndarray,
    log_every: int,
    gradients_every: int,
    snapshots: int,
    keeping: Keeping,
    progress: Callable[..., None],
) -> History:
    """Take all steps that are left; of several processes the first alone reads, keeps and tells.

    Args:
        training: At its first step; it goes on from the kept state.
        test: Rows that are held out.
        log_every: Steps between values of the curves.
        gradients_every: Steps between gradient norms of each term, a multiple of `log_every`; 0 for none.
        snapshots: Times at which the test examples are noted, beside the end.
        keeping: Where the state is kept.
        progress: Told the step, the first term's value and how many charts the batch used.

    Returns:
        What was noted, whole in the first process.
    """
    leads = training.device.first
    history = keeping.resume(training) if leads else History()
    training.agree()
    steps = training.schedule.steps
    due = {round(steps * n / snapshots) for n in range(1, snapshots + 1)} if snapshots else set()
    while training.step < steps:
        objective = training.now
        value = training.advance()
        step = training.step
        if step % log_every == 0 or step == steps or step == 1:
            figures = training.checked(value)
            wanted = gradients_every and step % gradients_every == 0 and step < steps
            norms = training.gradient_norms() if wanted else {}
            history.curves += [
                {
                    "step": step,
                    "term": name,
                    "value": figure,
                    "weight": objective.active[name],
                    "group": objective.terms[name].group,
                    "gradient_norm": norms.get(name),
                }
                for name, figure in figures.items()
            ]
            first = next(iter(figures))
            if leads:
                progress(**{first.replace("-", "_"): figures[first]}, done=step)
        if step in due and leads:
            history.snapshots.append(_snapshot(training, test[:_SHOWN]))
            used = len(set(history.snapshots[-1]["chart"]))
            progress(charts_used=float(used), done=step)
        if step % keeping.every == 0 and step < steps and leads:
            keeping.save(training, history)
    return history


def _snapshot(training: Training, rows: np.ndarray) -> dict[str, Any]:
    reading: Reading = read(training.model, training.dataset, rows, training.device.device)
    return {
        "step": training.step,
        "z_geo": np.round(reading.z_geo.astype(float), 6).tolist(),
        "chart": reading.chart.tolist(),
    }


def identity_of(params: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return what a kept state must agree with, as text."""
    return json.dumps({"params": dict(params), "facts": dict(facts)}, sort_keys=True, default=str)
