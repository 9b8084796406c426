"""Learned worlds in files: their tensors with what rebuilds them, in one safetensors file without code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from atlas_topoencoder.tensor_files import encode_tensors, read_tensors

from atlas.errors import BadInput
from atlas.randomness import RandomStreams
from atlas_worldmodel.encoded_world import EncodedWorld
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.model import WorldModel
from atlas_worldmodel.observation_chart import ObservationChart, coordinates_of

__all__ = ["WORLD_FILE", "encode_world", "load_world", "read_world", "world_of"]

WORLD_FILE = "world.safetensors"
"""What a step `worldmodel` leaves."""

_FORMAT = "atlas-world-1"


def encode_world(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file of tensors and plain values; equal contents give equal bytes."""
    return encode_tensors(tensors, facts, form=_FORMAT)


def read_world(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and plain values of a file.

    Raises:
        BadInput: The file is missing, damaged, or none of ours.
    """
    return read_tensors(path, form=_FORMAT, what="learned world")


def load_world(path: Path) -> WorldModel:
    """Open the file `world.safetensors` of a run.

    Raises:
        BadInput: See `read_world`; or it is the state of an unfinished training.
    """
    return world_of(*read_world(path), where=str(path))


def world_of(
    tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], *, where: str, prefix: str = "model."
) -> WorldModel:
    """Return the model of a file's tensors and plain values.

    Args:
        tensors: By name, the model's below the prefix.
        facts: Of the file.
        where: The file, for messages.
        prefix: Of the model's tensors.

    Raises:
        BadInput: They are the state of an unfinished training.
    """
    if "coordinates" not in facts:
        raise BadInput("the file holds the state of a training that has not ended", where=where)
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    size = sum(len(entry) for entry in facts["coordinates"])
    chart = ObservationChart(coordinates_of(facts["coordinates"], size), torch.zeros(1, 2, size))
    actions = own["fields.drive.last.weight"].shape[0] // chart.dimension
    sizes, stream = FieldSizes(facts["hidden"], facts["field"]), facts.get("stream", 0)
    random = RandomStreams(0)
    speed = own["speed"] if bool(torch.isfinite(own["speed"]).all()) else None
    model = (
        EncodedWorld(chart, actions, sizes, stream=stream, unit=1.0, random=random)
        if stream
        else WorldModel(chart, actions, sizes, speed=speed, unit=1.0, random=random, masses="mass" in own)
    )
    model.load_state_dict(own)
    return model.eval()
