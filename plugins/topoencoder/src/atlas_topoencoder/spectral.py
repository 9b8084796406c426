"""Layers of the TopoEncoder: linear maps of bounded spectral norm, and the norm-gated nonlinearity.

The bound is kept by projection: after an optimiser's step, `refresh_spectral` scales every weight whose
spectral norm exceeds the bound back onto it (Yoshida and Miyato 2017, "Spectral norm regularization"; as a
constraint, Gouk et al. 2021, "Regularisation of neural networks by enforcing Lipschitz continuity",
algorithm 1). The forward pass is then a plain product: nothing is normalised twice in a step, and the loss
is a smooth function of the weights themselves, as a curvature needs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

__all__ = ["NormGatedGELU", "SpectralLinear", "refresh_spectral"]


class SpectralLinear(nn.Module):
    """A linear map, or a stack of them, whose weights `refresh_spectral` keeps within a spectral norm.

    Args:
        inputs: Size of the last dimension read.
        outputs: Size of the last dimension written.
        stack: Number of maps that read the same input and are written side by side; None for one map.
        bias: Whether one is added.
        bound: Greatest spectral norm of each map.
    """

    def __init__(
        self, inputs: int, outputs: int, *, stack: int | None = None, bias: bool = True, bound: float = 1.0
    ) -> None:
        super().__init__()
        self.bound = bound
        self.stack = stack
        maps = 1 if stack is None else stack
        self.weight = nn.Parameter(torch.empty(maps * outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(maps * outputs)) if bias else None
        self.register_buffer("left", torch.ones(maps, outputs))
        self.left: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[..., inputs]` to `[..., outputs]`, or to `[..., stack, outputs]`."""
        y = functional.linear(x, self.weight, self.bias)
        return y if self.stack is None else y.view(*x.shape[:-1], *self.left.shape)

    def matrices(self) -> torch.Tensor:
        """The weights as `[stack or 1, outputs, inputs]`, a view."""
        return self.weight.view(*self.left.shape, -1)


class NormGatedGELU(nn.Module):
    """Scales bundles of features by a gate on their norm, `x gelu(|x| + b) / |x|`.

    The norm of a bundle passes through GELU and its direction stays, so the map commutes with every
    rotation of a bundle, and by GELU's slope of at most 1.13 it hardly expands. A bundle of one has no
    direction but its sign, and keeping that would leave an odd and nearly linear map: it is gated by its
    value, which is GELU itself.

    Args:
        width: Size of the last dimension.
        bundle: Features of a bundle; divides `width`.
    """

    def __init__(self, width: int, bundle: int) -> None:
        super().__init__()
        self.bundle = bundle
        self.bias = nn.Parameter(torch.zeros(width // bundle, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Gate `[..., width]`."""
        if self.bundle == 1:
            return functional.gelu(x + self.bias.squeeze(-1))
        bundles = x.view(*x.shape[:-1], -1, self.bundle)
        norm = (bundles * bundles).sum(-1, keepdim=True).clamp_min(1e-12).sqrt()
        gated: torch.Tensor = bundles * (functional.gelu(norm + self.bias) / norm)
        return gated.view_as(x)


@torch.no_grad()
def refresh_spectral(layers: Iterable[SpectralLinear], iterations: int = 1) -> None:
    """Scale every map of greater spectral norm than its bound back onto it, in place.

    The norm is that of power iteration, continued from the last call's vectors; layers of one shape are
    iterated together. It never exceeds the true norm, and trails it by what one step of an optimiser
    changes.

    Args:
        layers: Of one model.
        iterations: Steps of power iteration.
    """
    groups: dict[tuple[int, ...], list[SpectralLinear]] = defaultdict(list)
    for layer in layers:
        groups[tuple(layer.matrices().shape[1:])].append(layer)
    for group in groups.values():
        stacked = torch.cat([layer.matrices() for layer in group])
        left = torch.cat([layer.left for layer in group]).unsqueeze(-1)
        for _ in range(iterations):
            right = functional.normalize(stacked.mT @ left, dim=1)
            image = stacked @ right
            norm = image.norm(dim=1, keepdim=True)
            left = image / norm.clamp_min(1e-12)
        bounds = torch.cat([norm.new_full((len(layer.left),), layer.bound) for layer in group])
        scales = (bounds.view(-1, 1, 1) / norm).clamp_max(1.0)
        sizes = [len(layer.left) for layer in group]
        torch._foreach_copy_([layer.left for layer in group], list(torch.split(left.squeeze(-1), sizes)))
        torch._foreach_mul_([layer.matrices() for layer in group], list(torch.split(scales, sizes)))
