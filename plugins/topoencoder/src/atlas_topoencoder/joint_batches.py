"""One batch of several processes: each encodes and decodes its share, and the terms of each read the whole.

Terms that weigh the batch as a whole, such as the evenness of charts, are no averages of their values on
shares. So what a model returns for the shares is put together again before a term reads it, and a training
on several processes descends the same loss as a training on one.

Every process r of W then has the same loss `L(z_1, ..., z_W, theta)`, with `z_s` of the share s; `theta`
enters by what terms read of the model itself, too. Going back, process r leaves out all shares but its own,
which counts W times: its gradient is `W dL/dz_r dz_r/dtheta + dL/dtheta`, and the mean of these over
the processes is the gradient of the loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from atlas_topoencoder.devices import Device
from atlas_topoencoder.outputs import Decoding, Encoding, ModelOutputs

__all__ = ["joined"]

_OF_THE_MODEL = {"centers", "centers_tangent", "codebook", "codebook_tangent"}
"""Fields that are the same for all examples."""


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
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        device: Device = ctx.device
        return device.processes * gradient[device.share(len(gradient))], None


def joined(share: ModelOutputs, device: Device) -> ModelOutputs:
    """Return the outputs of a process's share with encodings, decodings and views of all, in their order.

    Args:
        share: Of this process, as many examples as in every other.
        device: Of this process.
    """
    parts: list[Encoding | Decoding] = [share.encoding, share.decoding, *share.views.values()]
    places = [
        _Place(number, name, value)
        for number, part in enumerate(parts)
        for name, value in part._asdict().items()
        if isinstance(value, torch.Tensor) and name not in _OF_THE_MODEL
    ]
    found: list[dict[str, torch.Tensor]] = [{} for _ in parts]
    for dtype in dict.fromkeys(place.value.dtype for place in places):
        alike = [place for place in places if place.value.dtype == dtype]
        packed = torch.cat([place.value.reshape(len(share.x), -1) for place in alike], 1)
        whole: torch.Tensor = _Joined.apply(packed, device)  # type: ignore[no-untyped-call] # torch's own
        pieces = torch.split(whole, [place.value[0].numel() for place in alike], 1)
        for place, piece in zip(alike, pieces, strict=True):
            found[place.part][place.name] = piece.reshape(-1, *place.value.shape[1:])
    encoding, decoding, *views = found
    return share._replace(
        encoding=share.encoding._replace(**encoding),
        decoding=share.decoding._replace(**decoding),
        views={
            name: view._replace(**own) for (name, view), own in zip(share.views.items(), views, strict=True)
        },
    )
