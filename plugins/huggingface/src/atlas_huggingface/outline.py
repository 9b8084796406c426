"""Targets without their weights: a module on the meta device, where tensors have shapes and no values.

What a measurement will need in memory can so be found before any weight file is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import frozen

from atlas.contracts import Batch, OutputTarget, StimulusItem

if TYPE_CHECKING:
    import torch

__all__ = ["Outline"]


@frozen
class Outline:
    """A target whose tensors all lie on the meta device.

    Attributes:
        target: The target, built on a module without values.
    """

    target: OutputTarget

    @property
    def module(self) -> torch.nn.Module:
        """The module on the meta device, in evaluation mode, with eager attention."""
        return self.target.module

    @property
    def sample_dims(self) -> int:
        """As of the target."""
        return self.target.sample_dims

    def batches(
        self, items: Sequence[StimulusItem], *, batch_size: int, max_tokens: int | None
    ) -> Sequence[Batch]:
        """Encode items into batches of the shapes and weights that the target would make of them."""
        return self.target.batches(items, batch_size=batch_size, max_tokens=max_tokens)

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, a scalar without a value, with its graph."""
        with _undecided():
            return self.target.loss_sum(batch)

    def outputs(self, batch: Batch) -> torch.Tensor:
        """Return the module's outputs `[*samples, C]` without values, with their graph."""
        with _undecided():
            return self.target.outputs(batch)

    def output_loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the loss as a function of the outputs, a scalar without a value."""
        return self.target.output_loss(outputs, batch)


@contextmanager
def _undecided() -> Iterator[None]:
    """Answer no wherever code asks a tensor without values a question.

    Encoders ask whether a batch is free of padding, to leave its mask out; with no, they make one,
    which is what takes more memory.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Undecided(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves its hook untyped
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            asked = func is torch.ops.aten._local_scalar_dense.default
            if asked and args[0].is_meta and args[0].dtype == torch.bool:
                return False
            return func(*args, **(kwargs or {}))

    with Undecided():  # type: ignore[no-untyped-call]
        yield
