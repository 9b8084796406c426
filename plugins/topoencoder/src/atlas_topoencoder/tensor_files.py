"""Files of tensors with plain values beside them, in safetensors and without code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.errors import BadInput

if TYPE_CHECKING:
    import torch

__all__ = ["encode_tensors", "read_tensors"]


def encode_tensors(tensors: Mapping[str, torch.Tensor], head: Mapping[str, Any], *, form: str) -> bytes:
    """Return the bytes of a file of tensors and plain values; equal contents give equal bytes.

    Args:
        tensors: By name.
        head: Plain values.
        form: What the file is, with a version, such as `atlas-agent-1`.
    """
    from safetensors.torch import save

    text = json.dumps({"format": form, **head}, sort_keys=True)
    data: bytes = save(dict(tensors), {"atlas": text})
    return data


def read_tensors(path: Path, *, form: str, what: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and plain values of a file.

    Args:
        path: The file.
        form: What it has to be.
        what: That in words, for messages.

    Raises:
        BadInput: The file is missing, damaged, or of another form.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            text = (stream.metadata() or {}).get("atlas")
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 # no mapping
    except (OSError, SafetensorError) as error:
        raise BadInput(f"the {what} cannot be read: {error}", where=str(path)) from error
    head = json.loads(text) if text else {}
    if head.get("format") != form:
        raise BadInput(f"the file holds no {what}", where=str(path))
    return tensors, head
