"""Frequencies and dampings of signals, with errors: matrix pencil, or autoregression under noise."""

from __future__ import annotations

import math

import numpy as np
from attrs import frozen

from atlas.errors import InstrumentFailed

__all__ = ["Observed", "autoregression", "component", "from_repeats", "from_windows", "matrix_pencil"]

_SHORTEST = 24


@frozen
class Observed:
    """A frequency and a damping that were read from signals.

    Attributes:
        frequency: Radians a step, from 0 to pi.
        standard_error: Of the frequency.
        damping: -log |z| a step.
        damping_error: Its standard error.
    """

    frequency: float
    standard_error: float
    damping: float
    damping_error: float


def _poles(signal: np.ndarray, order: int) -> np.ndarray:
    """Poles and amplitudes of a sum of `order` exponentials (Hua and Sarkar 1990), strongest first."""
    length = signal.size
    span = length // 2
    rows = np.lib.stride_tricks.sliding_window_view(signal, span + 1)
    _, _, right = np.linalg.svd(rows, full_matrices=False)
    basis = right[:order].T
    poles = np.linalg.eigvals(np.linalg.pinv(basis[:-1]) @ basis[1:])
    powers = poles[None, :] ** np.arange(length)[:, None]
    amplitudes = np.linalg.lstsq(powers, signal.astype(complex), rcond=None)[0]
    energy = np.abs(amplitudes) ** 2 * np.sum(np.abs(powers) ** 2, axis=0)
    return np.asarray(poles[np.argsort(-energy)])


def matrix_pencil(signal: np.ndarray, *, order: int = 2) -> tuple[float, float]:
    """Return frequency and damping of the strongest exponential of a real signal `[T]`, T >= 24.

    Raises:
        InstrumentFailed: The signal is shorter, constant or not finite.
    """
    if signal.size < _SHORTEST or not np.all(np.isfinite(signal)) or np.ptp(signal) == 0:
        raise InstrumentFailed(
            "the recorded projection is no signal to fit", fix="record more steps, at a stable rate"
        )
    pole = complex(_poles(signal, order)[0])
    return abs(math.atan2(pole.imag, pole.real)), -math.log(abs(pole))


def from_repeats(signals: np.ndarray) -> Observed:
    """Read the mean of K repetitions of one motion, `[K, T]`, K >= 2; errors are the jackknife's over them.

    Where the motion alternates at every step, its frequency is known to pi / T and no better.
    """
    count, length = signals.shape
    frequency, damping = matrix_pencil(signals.mean(0))
    without = [matrix_pencil(np.delete(signals, k, axis=0).mean(0)) for k in range(count)]
    errors = math.sqrt(count - 1) * np.std(np.array(without), axis=0)
    least = math.pi / length if frequency == math.pi else 0.0
    return Observed(frequency, max(float(errors[0]), least), damping, float(errors[1]))


def from_windows(signal: np.ndarray, count: int) -> Observed:
    """Read `count` windows of a motion that goes on, `[T]`, one by one; errors are those of their mean.

    Where all of them alternate at every step, the frequency is known to pi / T and no better.
    """
    parts = np.array([matrix_pencil(part) for part in np.array_split(signal, count)])
    frequency, damping = (float(value) for value in parts.mean(0))
    errors = parts.std(0, ddof=1) / math.sqrt(count)
    least = math.pi / signal.size if np.all(parts[:, 0] == math.pi) else 0.0
    return Observed(frequency, max(float(errors[0]), least), damping, float(errors[1]))


def autoregression(signal: np.ndarray) -> Observed:
    """Return the mode that white noise drives: least squares of x[t+1] on x[t] and x[t-1].

    With Gaussian noise that is the likelihood's maximum given the first two values, and the errors, carried
    from the regression through cos w = a / (2 sqrt(b)) to first order, are the Cramer-Rao bound.

    Raises:
        InstrumentFailed: The fitted roots are real: the signal does not oscillate.
    """
    x = signal - signal.mean()
    design = np.stack([x[1:-1], -x[:-2]], axis=1)
    fit, _, _, _ = np.linalg.lstsq(design, x[2:], rcond=None)
    a, b = (float(v) for v in fit)
    if b <= 0 or a * a >= 4 * b:
        raise InstrumentFailed(
            "the fitted roots are real: the signal does not oscillate", fix="record more steps of the noise"
        )
    residual = x[2:] - design @ fit
    covariance = np.linalg.inv(design.T @ design) * float(residual @ residual) / (residual.size - 2)
    sine = math.sqrt(1 - a * a / (4 * b))
    slope = np.array([-1 / (2 * math.sqrt(b)), a / (4 * b**1.5)]) / sine
    error = math.sqrt(float(slope @ covariance @ slope))
    damping_error = math.sqrt(float(covariance[1, 1])) / (2 * b)
    return Observed(math.acos(a / (2 * math.sqrt(b))), error, -0.5 * math.log(b), damping_error)


def component(signal: np.ndarray, frequency: float) -> complex:
    """Return the complex amplitude of one frequency in a signal of a whole number of its periods."""
    phase = np.exp(-1j * frequency * np.arange(signal.size))
    return complex(2 * np.mean(signal * phase))
