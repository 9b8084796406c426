"""Frequencies of recorded signals, with errors: matrix pencil for free motion, autoregression under noise."""

from __future__ import annotations

import math

import numpy as np
from attrs import frozen

from atlas.errors import InstrumentFailed

__all__ = ["Observed", "autoregression", "component", "matrix_pencil"]


@frozen
class Observed:
    """A frequency that was read from a signal.

    Attributes:
        frequency: Radians a step, from 0 to pi.
        standard_error: Of the frequency: scatter between windows, or of the regression.
        damping: -log |z| a step.
    """

    frequency: float
    standard_error: float
    damping: float


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


def matrix_pencil(signal: np.ndarray, *, order: int = 2) -> Observed:
    """Return a real signal's strongest exponential, `[T]`, T >= 24; its error is the scatter of windows.

    Raises:
        InstrumentFailed: The signal is shorter, constant or not finite.
    """
    if signal.size < 24 or not np.all(np.isfinite(signal)) or np.ptp(signal) == 0:
        raise InstrumentFailed(
            "the recorded projection is no signal to fit", fix="record more steps, at a stable rate"
        )
    pole = complex(_poles(signal, order)[0])
    part = 2 * signal.size // 3
    starts = (0, (signal.size - part) // 2, signal.size - part)
    parts = [abs(float(np.angle(_poles(signal[s : s + part], order)[0]))) for s in starts]
    return Observed(abs(math.atan2(pole.imag, pole.real)), float(np.std(parts, ddof=1)), -math.log(abs(pole)))


def autoregression(signal: np.ndarray) -> Observed:
    """Return the frequency of a mode that white noise drives: least squares of x[t+1] on x[t] and x[t-1].

    The standard error is the regression's, carried through cos w = a / (2 sqrt(b)) to first order.

    Raises:
        InstrumentFailed: The fitted roots are real: the signal does not oscillate.
    """
    x = signal - signal.mean()
    design = np.stack([x[1:-1], -x[:-2]], axis=1)
    fit, _, _, _ = np.linalg.lstsq(design, x[2:], rcond=None)
    a, b = (float(v) for v in fit)
    if b <= 0 or a * a >= 4 * b:
        raise InstrumentFailed("the fitted roots are real: the signal does not oscillate")
    residual = x[2:] - design @ fit
    covariance = np.linalg.inv(design.T @ design) * float(residual @ residual) / (residual.size - 2)
    sine = math.sqrt(1 - a * a / (4 * b))
    slope = np.array([-1 / (2 * math.sqrt(b)), a / (4 * b**1.5)]) / sine
    error = math.sqrt(float(slope @ covariance @ slope))
    return Observed(math.acos(a / (2 * math.sqrt(b))), error, -0.5 * math.log(b))


def component(signal: np.ndarray, frequency: float) -> float:
    """Return the amplitude of one frequency in a signal whose length is a whole number of its periods."""
    phase = np.exp(-1j * frequency * np.arange(signal.size))
    return float(2 * abs(np.mean(signal * phase)))
