"""Weights read into memory without trusting the file: safetensors, and pickles by torch's safe loader."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped] # it ships no types

from atlas.errors import BadInput
from atlas_huggingface.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch

__all__ = ["out_of_memory", "read_weights", "require_memory"]

_LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library itself."""


def read_weights(
    checkpoint: Checkpoint, *, itemsize: int
) -> tuple[dict[str, torch.Tensor], Mapping[str, str]]:
    """Return the tensors by name, mapped from the file where the format allows, and facts of them.

    Args:
        checkpoint: In safetensors or pickle format.
        itemsize: Bytes a number takes in the dtype of the target, to foresee the memory.

    Raises:
        BadInput: A file is damaged or hostile, or memory does not suffice.
    """
    read: Callable[[Path, int], dict[str, torch.Tensor]]
    read = _read_safetensors if checkpoint.format == "safetensors" else _read_pickle
    weights: dict[str, torch.Tensor] = {}
    for path in checkpoint.weights:
        for name, tensor in read(path, itemsize).items():
            if name in weights:
                raise BadInput(f"the tensor {name!r} is in two files", where=str(path))
            weights[name] = tensor
    if not weights:
        raise BadInput("the checkpoint holds no tensors", where=str(checkpoint.weights[0]))
    stored = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()})
    return weights, {"stored_dtype": ", ".join(stored)}


def _read_safetensors(path: Path, itemsize: int) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        require_memory(_declared_numbers(path) * itemsize, where=path)
        with safe_open(path, framework="pt") as stream:
            return {name: stream.get_tensor(name) for name in list(stream.keys())}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise BadInput(
            f"the file is no whole safetensors file: {error}",
            where=str(path),
            fix="bring the file again and compare its sha256 with the publisher's",
        ) from error


def _declared_numbers(path: Path) -> int:
    """Return how many numbers the header declares, or fewer where the file is too short for them.

    Needed before the file is opened properly, since a file larger than memory cannot be mapped.
    """
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\0"))
        header = json.loads(stream.read(min(length, _LONGEST_HEADER)) or b"{}")
    shapes: list[list[int]] = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    smallest_number = 0.5  # bytes, F4
    return min(sum(math.prod(shape) for shape in shapes), int(path.stat().st_size / smallest_number))


def _read_pickle(path: Path, itemsize: int) -> dict[str, torch.Tensor]:
    """Read with `weights_only`, and refuse tensors larger than the bytes behind them.

    A file of 1,577 bytes can hold a tensor of 10^12 numbers (stride 0), which is harmless until the
    first use of it.
    """
    import pickle

    import torch

    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
    ) as error:
        reason = str(error).partition("\n")[0]
        raise BadInput(
            f"torch's weights-only loader refuses the file: {reason}",
            where=str(path),
            fix="take a safetensors version of the model",
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(t, torch.Tensor) for t in content.values()):
        raise BadInput("the file is no mapping of names to tensors", where=str(path))
    for name, tensor in content.items():
        claimed = tensor.numel() * tensor.element_size()
        behind = tensor.untyped_storage().nbytes()
        if claimed > behind:
            raise BadInput(
                f"the tensor {name!r} claims {claimed} bytes, but {behind} are in the file", where=str(path)
            )
    require_memory(sum(tensor.numel() for tensor in content.values()) * itemsize, where=path)
    return dict(content)


def require_memory(needed: int, *, where: Path) -> None:
    """Refuse weights that cannot fit, before the system ends the process without a word.

    Raises:
        BadInput: Free memory and swap together are less than `needed` bytes.
    """
    free = psutil.virtual_memory().available + psutil.swap_memory().free
    if needed > free:
        raise BadInput(
            f"out of memory: the weights alone need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free",
            where=str(where),
            fix="close other programs, choose a smaller model or a narrower dtype",
        )


@contextmanager
def out_of_memory(where: Path) -> Iterator[None]:
    """Turn the several ways in which torch says that memory ran out into one `BadInput`."""
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        exhausted = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not exhausted and "can't allocate memory" not in str(error):
            raise
        raise BadInput(
            f"out of memory: {str(error).partition(chr(10))[0]}",
            where=str(where),
            fix="choose a smaller model, a narrower dtype or another device",
        ) from error
