"""Where a training computes: the device, the precision, and whether its steps are compiled."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from attrs import frozen

from atlas.errors import BadInput

__all__ = ["Device", "open_device"]


@frozen
class Device:
    """Where a training computes.

    Attributes:
        device: Of parameters and batches.
        accelerator: accelerate's, where precision or device ask for it.
        compiles: Whether steps are compiled.
    """

    device: torch.device
    accelerator: Any = None
    compiles: bool = False

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in the chosen precision within."""
        if self.accelerator is None:
            return nullcontext()
        context: AbstractContextManager[Any] = self.accelerator.autocast()
        return context

    def backward(self, loss: torch.Tensor) -> None:
        """Add gradients, scaled where the precision needs it."""
        if self.accelerator is None:
            loss.backward()  # type: ignore[no-untyped-call] # torch's own
        else:
            self.accelerator.backward(loss)


def open_device(name: str, precision: str, *, compiles: bool = False) -> Device:
    """Return the device of a name, `cpu`, `cuda` or `auto`, with accelerate where it is not plain CPU.

    Args:
        name: Of the device.
        precision: Of matrix products: `float32`, `bfloat16` or `float16`.
        compiles: Whether steps are compiled.

    Raises:
        BadInput: There is no CUDA device, or accelerate is not installed.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("torch finds no CUDA device", where="device", fix="set `device: cpu` or `auto`")
    if name == "cpu" and precision == "float32":
        return Device(torch.device("cpu"), compiles=compiles)
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise BadInput(
            "devices other than the CPU, and precisions other than float32, need accelerate",
            where="device",
            fix='pip install "atlas-topoencoder[accelerate]"',
        ) from error
    mixed = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[precision]
    accelerator = Accelerator(mixed_precision=mixed, cpu=name == "cpu")
    return Device(accelerator.device, accelerator, compiles)
