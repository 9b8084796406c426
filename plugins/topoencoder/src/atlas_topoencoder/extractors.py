"""Feature extractors: from an example to its features `[B, H]`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.spectral import NormGatedGELU, SpectralLinear

__all__ = ["QuarterTurnConv", "Retina", "make_extractor"]

_CHANNELS = (64, 128, 256)
"""Of the convolutional extractors (seed 002, section 1)."""


class QuarterTurnConv(nn.Module):
    """A convolution over positions and quarter-turns: turning its input turns its output.

    The first layer lifts an image to four orientations by turned copies of its filters; a later one reads
    the four and shifts them with the turn (Cohen and Welling 2016, "Group equivariant convolutional
    networks", section 6).

    Args:
        inputs: Channels read, of each orientation.
        outputs: Channels written, of each orientation.
        lift: Whether the input is an image, without orientations.
    """

    def __init__(self, inputs: int, outputs: int, *, lift: bool) -> None:
        super().__init__()
        self.lift = lift
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 1 if lift else 4, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[B, inputs * (1 if lift else 4), h, w]` to `[B, outputs * 4, h, w]`, orientation last."""
        turned = [
            self.weight.rot90(turn, (3, 4)).roll(0 if self.lift else turn, 2).flatten(1, 2)
            for turn in range(4)
        ]
        filters = torch.stack(turned, 1).flatten(0, 1)
        return functional.conv2d(x, filters, self.bias.repeat_interleave(4), padding=1)


class Retina(nn.Module):
    """An extractor whose features stay when a square image is turned by quarters.

    Three quarter-turn convolutions with pooling in between; their mean over positions and orientations is
    what does not change. It cannot tell a 6 from a 9.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        widths = [channels // 4 for channels in _CHANNELS]
        self.lift = QuarterTurnConv(architecture.shape[0], widths[0], lift=True)
        self.middle = QuarterTurnConv(widths[0], widths[1], lift=False)
        self.last = QuarterTurnConv(widths[1], widths[2], lift=False)
        self.project = nn.Linear(widths[2], architecture.hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[B, C, h, w]` to `[B, H]`."""
        x = functional.gelu(self.lift(x))
        x = functional.gelu(self.middle(_halved(x)))
        x = functional.gelu(self.last(_halved(x)))
        mean = x.mean((2, 3)).view(len(x), -1, 4).mean(-1)
        return functional.gelu(self.project(mean))


def _halved(x: torch.Tensor) -> torch.Tensor:
    """Pool to half the size, by windows that lie the same from every side: of 2 if even, of 3 if odd."""
    kernel = [2 + size % 2 for size in x.shape[2:]]
    return functional.avg_pool2d(x, kernel, stride=2, padding=[size // 3 for size in kernel])


def make_extractor(architecture: Architecture) -> nn.Module:
    """Return the extractor that the architecture names, its weights not drawn yet."""
    hidden, bound = architecture.hidden, architecture.lipschitz
    if architecture.extractor == "retina":
        return Retina(architecture)
    if architecture.extractor == "mlp":
        inputs = 1
        for size in architecture.shape:
            inputs *= size
        return nn.Sequential(
            nn.Flatten(),
            SpectralLinear(inputs, hidden, bound=bound),
            NormGatedGELU(hidden),
            SpectralLinear(hidden, hidden, bound=bound),
            NormGatedGELU(hidden),
        )
    layers: list[nn.Module] = []
    channels, height, width = architecture.shape
    for outputs in _CHANNELS:
        layers += [nn.Conv2d(channels, outputs, 3, stride=2, padding=1), nn.GELU()]
        channels, height, width = outputs, (height + 1) // 2, (width + 1) // 2
    return nn.Sequential(
        *layers, nn.Flatten(), SpectralLinear(channels * height * width, hidden, bound=bound), nn.GELU()
    )
