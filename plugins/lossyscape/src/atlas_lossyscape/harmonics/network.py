"""A small network with its loss, exact gradient, Hessian, and a minimum: what the experiment trains.

One hidden layer of tanh units on a regression, in float64. Hessian-vector products are complex steps through
the analytic gradient (Squire and Trapp 1998), exact to rounding.
"""

from __future__ import annotations

import math

import numpy as np
from attrs import frozen

from atlas.errors import InstrumentFailed

__all__ = ["Network", "eigenpairs", "hessian", "minimum"]

_STEP = 1e-20


@frozen(eq=False)
class Network:
    """Data and widths of the regression; parameters are one vector `[n]`.

    Attributes:
        inputs: `[N, D]`.
        targets: `[N]`.
        hidden: Units of the hidden layer.
        decay: Coefficient of decay/2 |theta|^2 in the loss.
    """

    inputs: np.ndarray
    targets: np.ndarray
    hidden: int
    decay: float = 0.0

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.hidden * (int(self.inputs.shape[1]) + 2) + 1

    def gradient(self, theta: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Return the gradient of 1/2 mean (weights * error^2) + decay/2 |theta|^2, real or complex `[n]`."""
        count, width = self.inputs.shape
        first = theta[: self.hidden * width].reshape(self.hidden, width)
        bias = theta[self.hidden * width : self.hidden * (width + 1)]
        second = theta[self.hidden * (width + 1) : -1]
        active = np.tanh(self.inputs @ first.T + bias)
        error = active @ second + theta[-1] - self.targets
        if weights is not None:
            error = error * weights
        error = error / count
        back = (error[:, None] * second) * (1 - active * active)
        parts = ((back.T @ self.inputs).ravel(), back.sum(0), active.T @ error, error.sum()[None])
        return np.concatenate(parts) + self.decay * theta


def hessian(network: Network, theta: np.ndarray) -> np.ndarray:
    """Return the Hessian of the network's loss, decay included, `[n, n]`."""
    columns = [network.gradient(theta + 1j * _STEP * unit).imag / _STEP for unit in np.eye(network.size)]
    matrix = np.stack(columns, axis=1)
    return np.asarray((matrix + matrix.T) / 2)


def eigenpairs(network: Network, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return eigenvalues (falling), eigenvectors in columns, and residual norms by products of their own."""
    values, vectors = np.linalg.eigh(hessian(network, theta))
    values, vectors = values[::-1], vectors[:, ::-1]
    residuals = []
    for value, vector in zip(values, vectors.T, strict=True):
        product = network.gradient(theta + 1j * _STEP * vector).imag / _STEP
        residuals.append(float(np.linalg.norm(product - value * vector)))
    return values, vectors, np.array(residuals)


def minimum(network: Network, theta: np.ndarray, *, steps: int = 2000) -> np.ndarray:
    """Return a minimum near `theta`: saddle-free Newton steps, damped while the gradient is long.

    Raises:
        InstrumentFailed: The gradient is not below 1e-10, or the Hessian not positive there.
    """
    for _ in range(steps):
        slope = network.gradient(theta)
        if np.linalg.norm(slope) < 1e-13:
            break
        values, vectors = np.linalg.eigh(hessian(network, theta))
        length = float(np.linalg.norm(slope))
        move = vectors @ ((vectors.T @ slope) / (np.abs(values) + length))
        theta = theta - move * min(1.0, 0.5 / max(float(np.linalg.norm(move)), 1e-300))
    lowest = float(np.linalg.eigvalsh(hessian(network, theta))[0])
    size = float(np.linalg.norm(network.gradient(theta)))
    if not (size < 1e-10 and lowest > 0 and math.isfinite(size)):
        raise InstrumentFailed(
            f"no minimum was reached: gradient {size:.1e}, lowest eigenvalue {lowest:.1e}",
            fix="take another seed, or more decay",
        )
    return theta
