"""What a step of training reads: which examples by step number alone, and the examples on the device."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from attrs import field, frozen

from atlas.randomness import RandomStreams
from atlas_topoencoder.data import Dataset
from atlas_topoencoder.devices import Device, moved

__all__ = ["BatchOrder", "Drawn", "Examples"]

_RESIDENT = 2 << 30
"""Bytes of a data set, as float32, up to which a CUDA device holds it whole."""


@frozen(eq=False)
class BatchOrder:
    """Epochs in random orders, cut into batches of one size across their ends.

    Attributes:
        rows: Rows that are trained on.
        size: Of a batch; a smaller data set is one batch.
        random: Of this training.
    """

    rows: np.ndarray
    size: int
    random: RandomStreams
    _epochs: dict[int, np.ndarray] = field(factory=dict, init=False)

    def rows_of(self, step: int) -> np.ndarray:
        """Return the rows of a step's batch; it depends on nothing but the step."""
        count = len(self.rows)
        size = min(self.size, count)
        first, offset = divmod(step * size, count)
        epochs = [first] if offset + size <= count else [first, first + 1]
        order = np.concatenate([self._order(epoch) for epoch in epochs])
        taken: np.ndarray = self.rows[order[offset : offset + size]]
        return taken

    def _order(self, epoch: int) -> np.ndarray:
        """Return the order of an epoch, which the last two are remembered of."""
        if epoch not in self._epochs:
            for old in [known for known in self._epochs if abs(known - epoch) > 1]:
                del self._epochs[old]
            self._epochs[epoch] = self.random.generator("epoch", epoch).permutation(len(self.rows))
        return self._epochs[epoch]


class Examples:
    """The examples of a data set, read onto a device; a CUDA device holds all of a small one.

    Args:
        dataset: Where they are.
        device: Where they go.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self._dataset, self._device = dataset, device
        self._resident: torch.Tensor | None = None
        if device.type == "cuda" and 4 * dataset.values.size <= _RESIDENT:
            self._resident = self._moved(np.arange(len(dataset)))

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """Return the examples of some rows, `[len(rows), *shape]` float32, on the device."""
        if self._resident is None:
            return self._moved(rows)
        return self._resident[moved(torch.from_numpy(rows), self._device)]

    def _moved(self, rows: np.ndarray) -> torch.Tensor:
        return moved(torch.from_numpy(self._dataset.take(rows)), self._device)


class Drawn(NamedTuple):
    """What a step reads.

    Attributes:
        x: Examples, `[B, *shape]`.
        seen: Another view of each; None where no term reads one.
        labels: `[B]` int64; None without.
        anchors: Chart that placing gave each, -1 where none, `[B]` int64; None before.
    """

    x: torch.Tensor
    seen: torch.Tensor | None
    labels: torch.Tensor | None
    anchors: torch.Tensor | None

    def share(self, device: Device) -> Drawn:
        """Return what this process reads of it."""
        own = device.share(len(self.x))
        seen, labels, anchors = (None if value is None else value[own] for value in self[1:])
        return Drawn(self.x[own], seen, labels, anchors)
