"""Points of the ball shown in the plane: two principal directions of their logarithms, put on a disc."""

from __future__ import annotations

import numpy as np
from attrs import frozen

__all__ = ["Plane", "principal_plane", "radius_of"]


@frozen(eq=False)
class Plane:
    """Two directions at the origin, and their share of the spread.

    Attributes:
        axes: Orthonormal, `[2, D]`.
        share: Part of the points' variance that lies along them; 1 in two dimensions.
    """

    axes: np.ndarray
    share: float

    def place(self, tangents: np.ndarray) -> np.ndarray:
        """Return where logarithms `[N, D]` lie in the disc, `[N, 2]`.

        Each is projected onto the plane at the origin and mapped back, so that directions through the
        origin stay straight and no point moves outwards; distances between points are not kept.
        """
        flat = tangents @ self.axes.T
        norm = np.linalg.norm(flat, axis=1, keepdims=True)
        placed: np.ndarray = flat * (np.tanh(norm) / np.maximum(norm, 1e-12))
        return placed


def principal_plane(tangents: np.ndarray) -> Plane:
    """Return the plane through the origin along the two directions of most variance of `[N, D]`."""
    if tangents.shape[1] == 2:
        return Plane(np.eye(2), 1.0)
    _, lengths, axes = np.linalg.svd(tangents - tangents.mean(0), full_matrices=False)
    axes = axes[:2] if len(axes) > 1 else np.vstack([axes, np.zeros_like(axes)])
    signs = np.sign(axes[np.arange(2), np.abs(axes).argmax(1)])
    total = float((lengths**2).sum())
    share = float((lengths[:2] ** 2).sum()) / total if total else 1.0
    return Plane(axes * np.where(signs == 0, 1, signs)[:, None], share)


def radius_of(tangents: np.ndarray) -> np.ndarray:
    """Return the hyperbolic distances from the origin of logarithms `[N, D]`, `[N]`."""
    radius: np.ndarray = 2 * np.linalg.norm(tangents, axis=1)
    return radius
