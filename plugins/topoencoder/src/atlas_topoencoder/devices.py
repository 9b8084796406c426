"""Where a training computes: device, precision, how many processes, and whether steps are compiled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from attrs import frozen

from atlas.errors import BadInput

__all__ = ["PLAIN", "Device", "moved", "open_device"]

Payload = TypeVar("Payload")


@frozen
class Device:
    """Where a training computes.

    Attributes:
        device: Of parameters and batches.
        accelerator: accelerate's, where precision, device or several processes ask for it.
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

    @property
    def graphs(self) -> bool:
        """Whether steps are recorded as CUDA graphs; a scaler of float16's losses forbids it."""
        scaler = getattr(self.accelerator, "scaler", None)
        return self.compiles and self.device.type == "cuda" and scaler is None

    @property
    def name(self) -> str:
        """What it is called: `cpu`, or a CUDA device with its product name."""
        if self.device.type == "cpu":
            return "cpu"
        return f"{self.device} ({torch.cuda.get_device_name(self.device)})"

    def rate(self, value: float) -> float | torch.Tensor:
        """Return a learning rate as an optimiser here wants it: what a recorded step reads is a tensor."""
        return torch.tensor(value, device=self.device) if self.graphs else value

    @property
    def processes(self) -> int:
        """How many processes train one model together."""
        return 1 if self.accelerator is None else int(self.accelerator.num_processes)

    @property
    def first(self) -> bool:
        """Whether this is the process that places charts, and that keeps and reports."""
        return self.accelerator is None or bool(self.accelerator.is_main_process)

    def share(self, count: int) -> slice:
        """Return which of so many rows are this process's, `count` a multiple of the processes."""
        if self.accelerator is None:
            return slice(0, count)
        size = count // self.processes
        start = size * int(self.accelerator.process_index)
        return slice(start, start + size)

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        """Return the rows of all processes, `[b, F]` to `[W b, F]`, without their graph."""
        if self.processes == 1:
            return own
        rows: torch.Tensor = self.accelerator.gather(own)
        return rows

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put into each tensor, in place, its mean over the processes; all are of one type."""
        if self.processes == 1 or not tensors:
            return
        packed = torch.cat([tensor.flatten() for tensor in tensors])
        mean = self.accelerator.reduce(packed, reduction="mean")
        for tensor, piece in zip(tensors, mean.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(piece.view_as(tensor))

    def of_the_first(self, payload: Payload) -> Payload:
        """Return what the first process gave; the others' is dropped."""
        if self.processes == 1:
            return payload
        from accelerate.utils import broadcast_object_list

        found: Payload = broadcast_object_list([payload])[0]
        return found


PLAIN = Device(torch.device("cpu"))
"""The CPU, float32, one process, nothing compiled."""


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the CPU on a device, without waiting for what a CUDA device is still doing."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def open_device(name: str, precision: str, *, compiles: bool = False) -> Device:
    """Return the device of a name, `cpu`, `cuda` or `auto`, with accelerate where it is not plain CPU.

    In a process of `accelerate launch` or `torchrun` it is that of one of several processes; on CUDA each has
    a device of its own.

    Args:
        name: Of the device.
        precision: Of matrix products: `float32`, `bfloat16` or `float16`.
        compiles: Whether steps are compiled.

    Raises:
        BadInput: There is no CUDA device, accelerate is not installed, or several processes compile.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and compiles:
        raise BadInput(
            "steps of several processes are not compiled", where="compile", fix="set `compile: false`"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("torch finds no CUDA device", where="device", fix="set `device: cpu` or `auto`")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if name == "cuda" and here > torch.cuda.device_count():
        raise BadInput(
            f"{here} processes need a CUDA device each, and torch finds {torch.cuda.device_count()}",
            where="processes",
            fix=f"set `processes: {torch.cuda.device_count()}`, or `device: cpu`",
        )
    if name == "cpu" and precision == "float32" and not several:
        return Device(torch.device("cpu"), compiles=compiles)
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise BadInput(
            "devices other than the CPU, precisions other than float32 and several processes need accelerate",
            where="device",
            fix='pip install "atlas-topoencoder[accelerate]"',
        ) from error
    mixed = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[precision]
    accelerator = Accelerator(mixed_precision=mixed, cpu=name == "cpu")
    return Device(accelerator.device, accelerator, compiles)
