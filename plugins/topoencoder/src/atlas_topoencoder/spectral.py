"""Layers of the TopoEncoder: linear maps of bounded spectral norm, and the norm-gated nonlinearity.

The bound is kept by projection: after an optimiser's step, `refresh_spectral` scales every weight whose
spectral norm exceeds the bound back onto it (Yoshida and Miyato 2017, "Spectral norm regularization"; as a
constraint, Gouk et al. 2021, "Regularisation of neural networks by enforcing Lipschitz continuity",
algorithm 1). The forward pass is then a plain product: nothing is normalised twice in a step, and the loss
is a smooth function of the weights themselves, as a curvature needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from atlas_topoencoder.points import norm_of

__all__ = ["NormGatedGELU", "SpectralLinear", "refresh_spectral"]

_GELU_SLOPE = 1.702
_CACHED = 1 << 17
"""Numbers of a portion: with the results of a few operations on it they fit a cache of 2 MB."""
_LARGEST_BUNDLE = 8
"""Of the gate; measured on digits, 2 to 8 do as well as single features, 16 worse."""


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


def _gate(x: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the norms of the bundles of `[..., size, bundles]`, never 0, and their gates."""
    norm = norm_of(x, -2)
    return norm, torch.add(bias, norm, alpha=_GELU_SLOPE).sigmoid()


class _NormGate(torch.autograd.Function):
    """`x sigmoid(1.702 |x| + b)` with its gradient in closed form, half the passes that autograd takes.

    Under `create_graph` the gate is computed again from the inputs, so that the gradient has one too.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        norm, gate = _gate(x, bias)
        ctx.save_for_backward(x, bias, norm, gate)
        return x * gate

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (gradient,) = gradients
        x, bias, norm, gate = ctx.saved_tensors
        if torch.is_grad_enabled():
            norm, gate = _gate(x, bias)
        slope = torch.ops.aten.sigmoid_backward((x * gradient).sum(-2, keepdim=True), gate)
        by_x = torch.addcmul(gradient * gate, x, slope / norm, value=_GELU_SLOPE)
        return by_x, slope.flatten(0, -2).sum(0)


class _GatedBlend(torch.autograd.Function):
    """`sum_k w_k x_k sigmoid(1.702 |x_k| + b)`, gate and blend of `[B, N, size, bundles]` in one pass.

    It goes by portions of the batch that stay in the cache. Under `create_graph` all of it is computed again
    from the inputs, as in `_NormGate`.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bias: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, bias, weights)
        factors = weights[..., None, None]
        blended = [(factors[p] * _gate(x[p], bias)[1]).mul(x[p]).sum(1) for p in _portions(x)]
        return blended[0] if len(blended) == 1 else torch.cat(blended)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, bias, weights = ctx.saved_tensors
        gradient, factors = gradients[0].unsqueeze(1), weights[..., None, None]
        portions = _portions(x)
        if len(portions) == 1:
            by_x, slope, by_weights = _blend_gradients(x, bias, factors, gradient)
        else:
            by_x = torch.empty_like(x)
            found = [
                _blend_gradients(x[part], bias, factors[part], gradient[part], out=by_x[part])[1:]
                for part in portions
            ]
            slope, by_weights = (torch.cat(parts) for parts in zip(*found, strict=True))
        return by_x, slope.flatten(0, -2).sum(0), by_weights


def _blend_gradients(
    x: torch.Tensor,
    bias: torch.Tensor,
    factors: torch.Tensor,
    gradient: torch.Tensor,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of x, of the offset at each gate, and of the weights."""
    norm, gate = _gate(x, bias)
    inner = (x * gradient).sum(-2, keepdim=True)
    weighted = factors * gate
    slope = torch.ops.aten.sigmoid_backward(inner * factors, gate)
    by_x = torch.addcmul(weighted * gradient, x, slope / norm, value=_GELU_SLOPE, out=out)
    return by_x, slope, (inner * gate).sum((-2, -1))


def _portions(x: torch.Tensor) -> list[slice]:
    """Return the portions of a batch in which eager arithmetic goes; where it has a graph, all at once."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu":
        return [slice(None)]
    rows = max(1, _CACHED // max(1, x[0].numel()))
    return [slice(start, start + rows) for start in range(0, len(x), rows)]


class NormGatedGELU(nn.Module):
    """Scales bundles of features by a gate on their norm, `x sigmoid(1.702 |x| + b)`.

    The sigmoid is the usual approximation of the normal distribution function in GELU, `x Phi(x)`
    (Hendrycks and Gimpel 2016, section 2). The gate commutes with every rotation of a bundle, never
    lengthens one, and is differentiable at 0.

    Args:
        width: Size of the last dimension; bundles have its largest divisor up to 8, and feature i lies in
            the bundle `i mod (width / size)`, so that neighbours in memory meet neighbouring gates.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bundle = next(size for size in range(_LARGEST_BUNDLE, 0, -1) if width % size == 0)
        self.bias = nn.Parameter(torch.zeros(width // self.bundle))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Gate `[..., width]`."""
        bundles = x.view(*x.shape[:-1], self.bundle, -1)
        gated: torch.Tensor = _NormGate.apply(bundles, self.bias)  # type: ignore[no-untyped-call] # torch's own
        return gated.flatten(-2)

    def blended(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Gate `[..., N, width]` and sum over N by weights `[..., N]`, `[..., width]`."""
        bundles = x.view(*x.shape[:-1], self.bundle, -1)
        blend: torch.Tensor = _GatedBlend.apply(bundles, self.bias, weights)  # type: ignore[no-untyped-call] # torch's own
        return blend.flatten(-2)


def _lengths(columns: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the norms of columns `[maps, size, 1]`, `[maps, 1, 1]`, of a single map `[]`; never 0."""
    single = [column for column in columns if len(column) == 1]
    found = iter(torch._foreach_norm(single) if single else ())
    norms = [
        next(found) if len(column) == 1 else torch.linalg.vector_norm(column, dim=1, keepdim=True)
        for column in columns
    ]
    torch._foreach_clamp_min_(norms, 1e-30)
    return tuple(norms)


@torch.no_grad()
def refresh_spectral(layers: Sequence[SpectralLinear], iterations: int = 1) -> None:
    """Scale every map of greater spectral norm than its bound back onto it, in place.

    The norm is that of power iteration, continued from the last call's vectors. It never
    exceeds the true norm, and trails it by what one step of an optimiser changes.

    Args:
        layers: Of one model.
        iterations: Steps of power iteration.
    """
    maps = [layer.matrices() for layer in layers]
    kept = lefts = [layer.left.unsqueeze(-1) for layer in layers]
    for _ in range(iterations):
        rights = [torch.bmm(matrix.mT, left) for matrix, left in zip(maps, lefts, strict=True)]
        images = [torch.bmm(matrix, right) for matrix, right in zip(maps, rights, strict=True)]
        lengths = _lengths(images)
        lefts = list(torch._foreach_div(images, lengths))
    scales = torch._foreach_div(_lengths(rights), lengths)
    torch._foreach_mul_(scales, [layer.bound for layer in layers])
    torch._foreach_clamp_max_(scales, 1.0)
    torch._foreach_mul_(maps, scales)
    torch._foreach_copy_(kept, lefts)
