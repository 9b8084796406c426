"""A linear model of numbers: module, loss and batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from atlas.contracts import Batch, StimulusItem
from atlas.errors import BadInput


class Line:
    """`y = slope x + offset` with the loss `(y - 1)^2 / 2`, for numbers x that the items write.

    Its Hessian by (slope, offset) is the mean of `[[x^2, x], [x, 1]]`.
    """

    def __init__(self, slope: float) -> None:
        self.module = torch.nn.Linear(1, 1, dtype=torch.float64)
        with torch.no_grad():
            self.module.weight.fill_(slope)
            self.module.bias.zero_()

    @property
    def facts(self) -> Mapping[str, str]:
        """What the record must hold."""
        return {"dtype": "float64", "slope": repr(self.module.weight.item())}

    def batches(
        self, items: Sequence[StimulusItem], *, batch_size: int, max_tokens: int | None
    ) -> Sequence[Batch]:
        """Read a number from each item, `[B, 1]` to a batch.

        Raises:
            BadInput: An item is no number.
        """
        return [self._batch(items[i : i + batch_size]) for i in range(0, len(items), batch_size)]

    def _batch(self, items: Sequence[StimulusItem]) -> Batch:
        try:
            numbers = [[float(item.text)] for item in items]
        except ValueError as error:
            raise BadInput(f"an item is no number: {error}", fix="write one number as each text") from error
        return Batch(
            {"x": torch.tensor(numbers, dtype=torch.float64)}, len(items), tuple(i.id for i in items)
        )

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Return the loss summed over the batch, a scalar."""
        found: torch.Tensor = self.module(batch.inputs["x"])
        return (found - 1).square().sum() / 2
