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
    """Tensors of a share, `[b, ...]` each, to those of all shares, `[W b, ...]`; backward as the module says.

    The share's own graph hangs on no input: backward goes through it from those tensors alone that were read.
    So a parameter that nothing reads has no gradient, as with one process, rather than one of zeros, which
    an optimiser with weight decay would heed.
    """

    @staticmethod
    def forward(
        ctx: Any, root: torch.Tensor, device: Device, own: list[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        ctx.device, ctx.own = device, own
        ctx.set_materialize_grads(False)
        whole = _gathered([value.detach() for value in own], device)
        ctx.mark_non_differentiable(
            *(found for value, found in zip(own, whole, strict=True) if not value.requires_grad)
        )
        return tuple(whole)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[None, None, None]:
        device: Device = ctx.device
        read = [
            (value, device.processes * gradient[device.share(len(gradient))])
            for value, gradient in zip(ctx.own, gradients, strict=True)
            if gradient is not None and value.requires_grad
        ]
        if read:
            torch.autograd.backward([value for value, _ in read], [g for _, g in read], retain_graph=True)
        return None, None, None


def _gathered(own: list[torch.Tensor], device: Device) -> list[torch.Tensor]:
    """Return the rows of all processes of each tensor, with one exchange for each type of number."""
    found: dict[int, torch.Tensor] = {}
    for dtype in {value.dtype: None for value in own}:
        alike = [number for number, value in enumerate(own) if value.dtype == dtype]
        rows = [own[number].reshape(len(own[number]), -1) for number in alike]
        whole = torch.split(device.gather(torch.cat(rows, 1)), [row.shape[1] for row in rows], 1)
        for number, piece in zip(alike, whole, strict=True):
            found[number] = piece.reshape(-1, *own[number].shape[1:])
    return [found[number] for number in range(len(own))]


def joined(share: ModelOutputs, device: Device) -> ModelOutputs:
    """Return the outputs of a process's share with encodings, decodings and views of all, in their order.

    Gradients come by `backward`, not by `torch.autograd.grad`, and are to be averaged over the processes.

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
    root = torch.zeros((), requires_grad=True)  # so that the outputs have gradients
    whole = _Joined.apply(root, device, [place.value for place in places])  # type: ignore[no-untyped-call] # torch's own
    found: list[dict[str, torch.Tensor]] = [{} for _ in parts]
    for place, value in zip(places, whole, strict=True):
        found[place.part][place.name] = value
    encoding, decoding, *views = found
    return share._replace(
        encoding=share.encoding._replace(**encoding),
        decoding=share.decoding._replace(**decoding),
        views={
            name: view._replace(**own) for (name, view), own in zip(share.views.items(), views, strict=True)
        },
    )
