"""A trained TopoEncoder as a target: its loss terms as functions of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from atlas.contracts import Batch, StimulusItem
from atlas.errors import BadInput
from atlas.objective import Objective, ObjectiveValue
from atlas_topoencoder.checkpoint import Checkpoint
from atlas_topoencoder.data import Dataset
from atlas_topoencoder.losses.terms import SLOT
from atlas_topoencoder.outputs import ModelOutputs

__all__ = ["TrainedTarget"]


class _Live(TorchFunctionMode):
    """Lets gradients through where training stops them."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return a tensor that is to be detached as it is."""
        return args[0] if func is torch.Tensor.detach else func(*args, **(kwargs or {}))


class TrainedTarget:
    """A checkpoint, its data and an objective.

    The loss of a batch is the objective on it, times its examples, so that terms that average over
    examples are averaged over all. Terms of a batch as a whole, such as `diversity`, are averages over
    the micro-batches. Charts and codes are chosen anew at every evaluation; the loss is
    smooth wherever no choice changes. Gradients are not stopped where training stops them: what has a
    curvature is the loss, and not the field that training follows.

    Args:
        checkpoint: Opened.
        dataset: Rows that items name.
        objective: Loss terms that read the slot `topoencoder`.
        scratch: Folder that the data may be mapped from; removed with the target.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        dataset: Dataset,
        objective: Objective,
        scratch: TemporaryDirectory[str],
    ) -> None:
        self._checkpoint = checkpoint
        self._dataset = dataset
        self._objective = objective
        self._scratch = scratch

    @property
    def module(self) -> torch.nn.Module:
        """The model, in evaluation mode."""
        return self._checkpoint.model

    @property
    def facts(self) -> Mapping[str, str]:
        """Digest of the checkpoint, data, loss and steps that it was trained for."""
        facts = self._checkpoint.facts
        parameter = next(self._checkpoint.model.parameters())
        return {
            "sha256:checkpoint": self._checkpoint.digest,
            "data": self._dataset.source,
            "trained_on": str(facts["data"]),
            "trained_steps": str(facts["steps"]),
            "loss": " ".join(f"{name}={weight:g}" for name, weight in self._objective.active.items()),
            "dtype": str(parameter.dtype).removeprefix("torch."),
            "device": str(parameter.device),
        }

    def batches(
        self, items: Sequence[StimulusItem], *, batch_size: int, max_tokens: int | None
    ) -> tuple[Batch, ...]:
        """Return the rows that the items' texts name, in batches; examples have no tokens to cut.

        Raises:
            BadInput: An item names no row of the data set.
        """
        rows = np.array([self._row(item) for item in items])
        found = []
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            inputs = {"x": torch.from_numpy(self._dataset.take(part))}
            labels = self._dataset.labels_of(part)
            if labels is not None:
                inputs["labels"] = torch.from_numpy(labels)
            ids = tuple(item.id for item in items[start : start + batch_size])
            found.append(Batch(inputs, float(len(part)), ids))
        return tuple(found)

    def objective(self, batch: Batch) -> ObjectiveValue:
        """Return the objective on a batch, each term with its value."""
        model = self._checkpoint.model
        x = batch.inputs["x"].to(next(model.parameters()).dtype)
        with _Live():
            encoding, decoding = model(x)
            outputs = ModelOutputs(
                x=x,
                encoding=encoding,
                decoding=decoding,
                model=model,
                labels=batch.inputs.get("labels"),
                companions=self._checkpoint.companions,
            )
            return self._objective({SLOT: outputs})

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Return the objective on the batch, times its examples."""
        return self.objective(batch).total * batch.weight

    def _row(self, item: StimulusItem) -> int:
        if not item.text.isascii() or not item.text.isdigit() or int(item.text) >= len(self._dataset):
            raise BadInput(
                f"the item {item.id!r} names none of the {len(self._dataset)} rows of {self._dataset.source}",
                where="stimulus",
                fix="use the stimulus source `examples` with rows that are there",
            )
        return int(item.text)
