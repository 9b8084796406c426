"""A one-form learned as the sum of an exact, a co-exact and a harmonic part.

A reward's one-form R on the ball, or on the part of it where the states are, is `d Phi + delta Psi + eta`:
what a potential explains, what turns, and what runs around the holes of the atlas. Each part is what it is
called by construction. `delta Psi` of a two-form Psi is co-closed whatever Psi is; eta is a closed form of
the atlas' nerve plus the derivative `d chi` that makes it smallest, which makes it co-closed and tangential
at the edge. Psi is held to zero at the edge of the domain, by a factor that vanishes there: without an edge
condition the parts are not determined.

The codifferential in the metric `lambda^2` times the Euclidean one, for `(delta Psi)_j = -nabla^i Psi_ij`, is
`-lambda^(2 - D) sum_i d_i (lambda^(D - 4) Psi_ij)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from atlas_topoencoder.geometry import conformal_factor
from torch import nn

from atlas_worldmodel.nerve import Nerve

__all__ = ["HodgeCritic", "HodgeParts", "codifferential", "nerve_form", "sq_length"]

Weights = Callable[[torch.Tensor], torch.Tensor]
"""Maps points `[B, D]` to a partition of unity `[B, N]`, differentiably."""


class HodgeParts(NamedTuple):
    """Covectors at points, `[B, D]`, and the potential `[B]` of the first."""

    exact: torch.Tensor
    coexact: torch.Tensor
    harmonic: torch.Tensor
    potential: torch.Tensor

    @property
    def form(self) -> torch.Tensor:
        """Their sum."""
        return self.exact + self.coexact + self.harmonic


def sq_length(form: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return the squared length of covectors `[B, D]` in the metric, `|form|^2 / lambda^2`, `[B]`."""
    return form.square().sum(-1) / conformal_factor(z).squeeze(-1).square()


def codifferential(entries: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return `delta Psi` at points, `[B, D]`, differentiable in turn.

    Args:
        entries: `Psi_ij` for `i < j` in order, `[B, D (D - 1) / 2]`, as computed from `z`.
        z: Points `[B, D]` that require a gradient.
    """
    size = z.shape[-1]
    factor = conformal_factor(z)
    scaled = entries * factor ** (size - 4)
    rows = [z.new_zeros(z.shape[0]) for _ in range(size)]
    first, second = torch.triu_indices(size, size, 1).tolist()
    for number, (i, j) in enumerate(zip(first, second, strict=True)):
        (slope,) = torch.autograd.grad(scaled[:, number].sum(), z, create_graph=True)
        rows[j] = rows[j] - slope[:, i]
        rows[i] = rows[i] + slope[:, j]
    return torch.stack(rows, -1) * factor ** (2 - size)


def nerve_form(classes: torch.Tensor, weights: Weights, z: torch.Tensor) -> torch.Tensor:
    """Return `sum_ij c_ij w_i dw_j` for each class of a nerve, `[K, B, D]`, without a graph.

    Args:
        classes: Antisymmetric, `[K, N, N]`.
        weights: The partition of unity that the nerve was read from.
        z: Points `[B, D]`.
    """
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        shares = weights(at)
        drawn = torch.einsum("kij,bi->kbj", classes.to(shares), shares.detach())
        forms = []
        for one in drawn:
            (form,) = torch.autograd.grad((one * shares).sum(), at, retain_graph=True)
            forms.append(form)
    return torch.stack(forms) if forms else z.new_zeros(0, *z.shape)


class HodgeCritic(nn.Module):
    """A trunk with a scalar and a two-form head, and a harmonic head.

    The harmonic forms' correction sees the charts' weights too, since it has to undo their unevenness.

    Args:
        dimension: D.
        nerve: Of the atlas; without a hole the harmonic head is off.
        weights: The partition of unity that the nerve was read from.
        hidden: Widths of the trunk's layers.
        edge: Factor `[B]` at points `[B, D]` that vanishes at the edge of the domain; None without an edge.

    Attributes:
        strengths: The integral of the harmonic part around each cycle of the nerve, `[K]`.
    """

    classes: torch.Tensor

    def __init__(
        self,
        dimension: int,
        *,
        nerve: Nerve,
        weights: Weights,
        hidden: Sequence[int] = (64, 64),
        edge: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.trunk = _layers(dimension, hidden)
        self.scalar = nn.Linear(hidden[-1], 1)
        self.two_form = nn.Linear(hidden[-1], dimension * (dimension - 1) // 2)
        classes = nerve.classes
        self.register_buffer("classes", classes.to(torch.get_default_dtype()))
        self.correction = (
            nn.Sequential(_layers(dimension + nerve.size, hidden), nn.Linear(hidden[-1], len(classes)))
            if len(classes)
            else None
        )
        self.strengths = nn.Parameter(torch.zeros(len(classes)))
        self._weights, self._edge = weights, edge

    def forward(self, z: torch.Tensor) -> HodgeParts:
        """Return the parts at points `[B, D]`, differentiable by the parameters."""
        forms = self.harmonic_forms(z)
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            features = self.trunk(at)
            potential = self.scalar(features).squeeze(-1)
            (exact,) = torch.autograd.grad(potential.sum(), at, create_graph=True)
            entries = self.two_form(features) * conformal_factor(at).square()
            if self._edge is not None:
                entries = entries * self._edge(at).unsqueeze(-1)
            coexact = codifferential(entries, at)
        harmonic = torch.einsum("k,kbd->bd", self.strengths, forms.detach())
        return HodgeParts(exact, coexact, harmonic, potential)

    def harmonic_forms(self, z: torch.Tensor) -> torch.Tensor:
        """Return the form of each class with its correction `d chi`, `[K, B, D]`."""
        closed = nerve_form(self.classes, self._weights, z)
        if self.correction is None:
            return closed
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            values = self.correction(torch.cat((at, self._weights(at)), -1))
            slopes = [
                torch.autograd.grad(values[:, k].sum(), at, create_graph=True)[0] for k in range(len(closed))
            ]
        return closed + torch.stack(slopes)

    def fit_loss(
        self, form: torch.Tensor, z: torch.Tensor, volume: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the mean squared length of what the parts leave of a form `[B, D]`.

        Args:
            form: Covectors to be explained.
            z: Points `[B, D]`.
            volume: What a point stands for, `[B]`; None where the points are drawn by the volume.
        """
        return _mean(sq_length(self(z).form - form, z), volume)

    def harmonic_loss(self, z: torch.Tensor, volume: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean squared length of the harmonic forms, smallest where they are co-closed.

        Co-closed by that measure: with `volume` for points drawn in another way, by the volume's.
        """
        forms = self.harmonic_forms(z)
        if not len(forms):
            return z.new_zeros(())
        return torch.stack([_mean(sq_length(form, z), volume) for form in forms]).sum()


def _mean(values: torch.Tensor, volume: torch.Tensor | None) -> torch.Tensor:
    return values.mean() if volume is None else (values * volume).sum() / volume.sum()


def _layers(width: int, hidden: Sequence[int]) -> nn.Sequential:
    """Return linear layers of those widths, each with a tangent after it."""
    parts = [(nn.Linear(wide, wider), nn.Tanh()) for wide, wider in pairwise((width, *hidden))]
    return nn.Sequential(*(layer for pair in parts for layer in pair))
