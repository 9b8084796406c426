"""The curves, metrics and pictures of sealed trainings as event files that TensorBoard reads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atlas.errors import BadInput
from atlas.governance import interpretation_closed
from atlas_topoencoder.figures import step_figures

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["write_events"]

_INSTRUMENT = "topoencoder"


def write_events(view: RunView, folder: Path) -> Iterator[Path]:
    """Write a folder of events for each training of a run, and yield its path.

    Each holds `value/TERM` and `gradient norm/TERM` at the steps where they were taken, and `test/METRIC` at
    the last; that of the first training also the pictures of the report.

    Args:
        view: The run.
        folder: Where to; it is made. What lies there already is kept, and TensorBoard shows both.

    Raises:
        BadInput: The run may not be interpreted yet or has no training, TensorBoard is not installed, or the
            folder cannot be written.
    """
    reason = interpretation_closed(view)
    if reason is not None:
        raise BadInput(f"the curves of {view.run_id} are closed: {reason}", fix=f"atlas status {view.run_id}")
    uses = {step["id"]: step["use"] for step in view.manifest.get("steps", ())}
    steps = [step for step in view.finished_steps() if uses.get(step) == _INSTRUMENT]
    if not steps:
        raise BadInput(
            f"{view.run_id} has no finished step of {_INSTRUMENT}", fix=f"atlas show {view.run_id}"
        )
    writer_of = _writer_class()
    for step in steps:
        tables = view.tables(step)
        for number in sorted({row["repetition"] for row in tables["curves"]}):
            path = folder / f"{view.run_id}-{step}-training{number}"
            try:
                writer = writer_of(log_dir=str(path))
            except OSError as error:
                raise BadInput(f"cannot be written: {error.strerror or error}", where=str(path)) from error
            with writer:
                last = _add_curves(writer, [r for r in tables["curves"] if r["repetition"] == number])
                for row in tables["metrics"]:
                    if row["repetition"] == number and row["value"] is not None:
                        writer.add_scalar(f"test/{row['metric']}", row["value"], last)
                for figure in step_figures(view, step) if number == 0 else ():
                    writer.add_image(figure.name, _pixels(figure.draw("png")), last, dataformats="HWC")
            yield path


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise BadInput(
            "event files need TensorBoard, which is not installed",
            fix='pip install "atlas-topoencoder[tensorboard]"',
        ) from error
    return SummaryWriter


def _add_curves(writer: Any, rows: list[Any]) -> int:
    """Add the scalars of one training and return its last step."""
    for row in rows:
        writer.add_scalar(f"value/{row['term']}", row["value"], row["step"])
        if row["gradient_norm"] is not None:
            writer.add_scalar(f"gradient norm/{row['term']}", row["gradient_norm"], row["step"])
    return max(int(row["step"]) for row in rows)


def _pixels(png: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
