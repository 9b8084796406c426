"""Checkpoints: a model's tensors with all that rebuilds it, in one safetensors file without code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen

from atlas.errors import BadInput
from atlas.randomness import RandomStreams
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.tensor_files import encode_tensors, read_tensors

if TYPE_CHECKING:
    import torch

    from atlas_topoencoder.companions import Companions
    from atlas_topoencoder.model import TopoEncoder

__all__ = ["Checkpoint", "encode_checkpoint", "load_checkpoint", "read_checkpoint", "restore_tensors"]

_FORMAT = "atlas-topoencoder-2"


@frozen(eq=False)
class Checkpoint:
    """A trained model, opened.

    Attributes:
        model: In evaluation mode.
        companions: Parameters of its loss terms.
        facts: What the file says of its making.
        digest: sha256 of the file.
    """

    model: TopoEncoder
    companions: Companions
    facts: Mapping[str, Any]
    digest: str


def encode_checkpoint(
    tensors: Mapping[str, torch.Tensor], architecture: Architecture, facts: Mapping[str, Any]
) -> bytes:
    """Return the bytes of a checkpoint; equal contents give equal bytes.

    Args:
        tensors: By name, those of the model under `model.` and of its companions under `companions.`.
        architecture: Of the model.
        facts: Plain values that the file carries.
    """
    head = {"architecture": asdict(architecture), "facts": dict(facts)}
    return encode_tensors(tensors, head, form=_FORMAT)


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return a checkpoint's tensors and its head.

    Raises:
        BadInput: The file is missing, damaged, or none of ours.
    """
    return read_tensors(path, form=_FORMAT, what="checkpoint of a TopoEncoder")


def restore_tensors(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, where: str) -> None:
    """Put tensors into a module that has the same names and shapes.

    Raises:
        BadInput: One is missing, left over or of another shape; the message names it.
    """
    own = module.state_dict()
    for name in sorted(own.keys() ^ tensors.keys()):
        missing = "misses" if name in own else "has, and the model has not,"
        raise BadInput(f"the checkpoint {missing} the tensor {name!r}", where=where)
    for name, value in own.items():
        if value.shape != tensors[name].shape:
            raise BadInput(
                f"the tensor {name!r} is {list(tensors[name].shape)}, expected {list(value.shape)}",
                where=where,
                fix="open the checkpoint with the sizes that it was made with",
            )
    module.load_state_dict(dict(tensors))


def load_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint file.

    Raises:
        BadInput: See `read_checkpoint` and `restore_tensors`.
    """
    from atlas_topoencoder.companions import Companions
    from atlas_topoencoder.model import TopoEncoder

    tensors, head = read_checkpoint(path)
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "companions": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    architecture = Architecture(**head["architecture"])
    streams = RandomStreams(0)
    model = TopoEncoder(architecture, streams)
    companions = Companions(
        charts=architecture.charts,
        latent=architecture.latent,
        classes=len(head["facts"]["classes"]),
        streams=streams,
    )
    restore_tensors(model, parts["model"], where=str(path))
    restore_tensors(companions, parts["companions"], where=str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Checkpoint(model.eval(), companions.eval(), head["facts"], digest)
