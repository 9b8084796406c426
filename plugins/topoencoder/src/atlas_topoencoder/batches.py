"""The order of a training: which examples a step sees, by step number alone."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from atlas.randomness import RandomStreams

__all__ = ["BatchOrder"]


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

    def rows_of(self, step: int) -> np.ndarray:
        """Return the rows of a step's batch; it depends on nothing but the step."""
        count = len(self.rows)
        size = min(self.size, count)
        first, offset = divmod(step * size, count)
        epochs = [first] if offset + size <= count else [first, first + 1]
        order = np.concatenate([self.random.generator("epoch", epoch).permutation(count) for epoch in epochs])
        taken: np.ndarray = self.rows[order[offset : offset + size]]
        return taken
