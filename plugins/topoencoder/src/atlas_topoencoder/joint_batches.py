"""One batch of several processes: each encodes and decodes its share, and the loss terms of each read the whole.

Terms that weigh the batch as a whole, such as the evenness of charts, are no averages of their values on
shares. So what a model returns for the shares is put together again before a term reads it, and a training
on several processes descends the same loss as a training on one.

Every process r of W then has the same loss `L(z_1, ..., z_W, theta)`, with `z_s` of the share s; `theta`
enters by what terms read of the model itself, too. Going back, process r leaves out all shares but its own,
which counts W times: its gradient is `W dL/dz_r dz_r/dtheta + dL/dtheta`, and the mean of these over
the processes is the gradient of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import torch

from atlas_topoencoder.devices import Device
from atlas_topoencoder.outputs import Decoding, Encoding

__all__ = ["joined"]

_OF_THE_MODEL = {"centers", "centers_tangent", "codebook", "codebook_tangent"}
"""Fields that are the same for all examples."""

Part = TypeVar("Part", Encoding, Decoding)


class _Place(NamedTuple):
    part: int
    name: str
    value: torch.Tensor


class _Joined(torch.autograd.Function):
    """The rows of all processes, `[b, F]` to `[W b, F]`; backward as the module's docstring says."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor, device: Device) -> torch.Tensor:
        ctx.device = device
        return device.gather(own)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        device: Device = ctx.device
        return device.processes * gradient[device.share(len(gradient))], None


def joined(parts: Sequence[Part], device: Device) -> list[Part]:
    """Return what a model returned for this process's share with the shares of all, in their order.

    Args:
        parts: Encodings and decodings of one share, no two of unlike length.
        device: Whose processes share; the parts themselves are returned where there is one.
    """
    if device.processes == 1:
        return list(parts)
    places = [
        _Place(number, name, value)
        for number, part in enumerate(parts)
        for name, value in part._asdict().items()
        if isinstance(value, torch.Tensor) and name not in _OF_THE_MODEL
    ]
    found: list[dict[str, torch.Tensor]] = [{} for _ in parts]
    for dtype in dict.fromkeys(place.value.dtype for place in places):
        alike = [place for place in places if place.value.dtype == dtype]
        packed = torch.cat([place.value.flatten(1) if place.value.ndim > 1 else place.value[:, None] for place in alike], 1)
        whole: torch.Tensor = _Joined.apply(packed, device)  # type: ignore[no-untyped-call] # torch's own
        widths = [place.value[0].numel() for place in alike]
        for place, piece in zip(alike, whole.split(widths, 1), strict=True):
            found[place.part][place.name] = piece.reshape(-1, *place.value.shape[1:])
    return [part._replace(**own) for part, own in zip(parts, found, strict=True)]
