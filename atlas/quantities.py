"""A measured value with its uncertainty, and the comparison of two of them."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

from attrs import field, frozen, validators

__all__ = ["Agreement", "Quantity", "UncertaintyKind", "compare"]


class UncertaintyKind(str, Enum):
    """What the number in `uncertainty` is."""

    EXACT = "exact"
    """The value has no error beyond its own rounding: a count, a declared input."""
    RESIDUAL_BOUND = "residual_bound"
    """A bound: the true value lies within +- uncertainty (for an eigenvalue, ||Hv - lambda v||)."""
    STANDARD_ERROR = "standard_error"
    """One standard error of an unbiased estimate."""
    INTERVAL_95 = "interval_95"
    """Half the width of a 95% confidence interval; `low` and `high` where it is not symmetric."""
    UNCERTIFIED = "uncertified"
    """The method states no error; `uncertainty` is empty and the value is not to be relied on."""
    UNDEFINED = "undefined"
    """The quantity does not exist here; the value is empty and `note` says why."""


def _kind(value: str | UncertaintyKind) -> UncertaintyKind:
    return UncertaintyKind(value)


@frozen
class Quantity:
    """One measured number, never without its uncertainty.

    Attributes:
        quantity: Name in the field's terms, `lambda_max`, `trace`.
        value: The number in `unit`, or `None` where it is undefined.
        uncertainty: Non-negative, in `unit`; what it is stands in `uncertainty_kind`.
        uncertainty_kind: See `UncertaintyKind`.
        unit: UCUM-like unit or `1` for a pure number.
        converged: Whether the method met its own stopping rule before its budget ran out.
        num_matvecs: Matrix-vector products spent on it, shared ones included; `None` if none.
        num_samples: Probes, sessions or items behind it; `None` where that means nothing.
        index: Position among quantities of the same name (eigenvalue 1, 2, ...).
        slice: Key of the stimulus slice, `all` where the stimulus is not divided.
        low: Lower end of an asymmetric interval.
        high: Upper end of an asymmetric interval.
        note: A reason or caveat that must travel with the number.
    """

    quantity: str
    value: float | None
    uncertainty: float | None
    uncertainty_kind: UncertaintyKind = field(converter=_kind)
    unit: str = "1"
    converged: bool = True
    num_matvecs: int | None = None
    num_samples: int | None = None
    index: int | None = None
    slice: str = "all"
    low: float | None = None
    high: float | None = None
    note: str = field(default="", validator=validators.instance_of(str))

    def __attrs_post_init__(self) -> None:
        """Refuse a number without its error and an error without its number."""
        for name in ("value", "uncertainty", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self.quantity}: {name} is {number}, expected a finite number")
        kind = self.uncertainty_kind
        if kind is UncertaintyKind.UNDEFINED:
            if self.value is not None or not self.note:
                raise ValueError(f"{self.quantity}: an undefined quantity has no value, and a note")
        elif self.value is None:
            raise ValueError(f"{self.quantity}: a value is missing; use kind `undefined` and a note")
        elif kind is UncertaintyKind.UNCERTIFIED:
            if self.uncertainty is not None:
                raise ValueError(f"{self.quantity}: an uncertified value carries no uncertainty")
        elif self.uncertainty is None or self.uncertainty < 0:
            raise ValueError(f"{self.quantity}: {kind.value} needs a non-negative uncertainty")

    def as_record(self) -> dict[str, Any]:
        """Return the fields as plain values, in the order of the quantities table."""
        return {
            "quantity": self.quantity,
            "slice": self.slice,
            "index": self.index,
            "value": self.value,
            "uncertainty": self.uncertainty,
            "uncertainty_kind": self.uncertainty_kind.value,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "converged": self.converged,
            "num_matvecs": self.num_matvecs,
            "num_samples": self.num_samples,
            "note": self.note,
        }


class Agreement(str, Enum):
    """How well a repeated quantity agrees with the recorded one, best first."""

    IDENTICAL = "identical"
    NUMERICALLY_EQUAL = "numerically equal"
    STATISTICALLY_EQUAL = "statistically equal"
    DIFFERS = "differs"


def compare(recorded: Quantity, repeated: Quantity, *, scale: float, rtol: float) -> Agreement:
    """Grade a repeated measurement against the recorded one.

    Args:
        recorded: The quantity in the record.
        repeated: The same quantity, measured again.
        scale: Magnitude that `rtol` refers to: the largest |lambda| for eigenvalues, since small
            eigenvalues have no relative accuracy; the value itself elsewhere.
        rtol: Relative tolerance of the arithmetic: 1e-8 for float64, 1e-4 for float32 on one
            device, 1e-3 across devices.

    Returns:
        *identical* for equal numbers; *numerically equal* within `rtol * scale` or within the sum of
        two residual bounds; *statistically equal* within three combined standard errors (a 95%
        half-width counts as 1.96 of them); *differs* otherwise.
    """
    first, second = recorded.value, repeated.value
    if first is None or second is None:
        return Agreement.IDENTICAL if first is second else Agreement.DIFFERS
    if first == second:
        return Agreement.IDENTICAL
    gap = abs(first - second)
    bounds = [q.uncertainty or 0.0 for q in (recorded, repeated)]
    kinds = {recorded.uncertainty_kind, repeated.uncertainty_kind}
    tolerance = rtol * abs(scale)
    if kinds == {UncertaintyKind.RESIDUAL_BOUND}:
        tolerance = max(tolerance, sum(bounds))
    if gap <= tolerance:
        return Agreement.NUMERICALLY_EQUAL
    if kinds <= {UncertaintyKind.STANDARD_ERROR, UncertaintyKind.INTERVAL_95}:
        errors = [
            bound / 1.96 if q.uncertainty_kind is UncertaintyKind.INTERVAL_95 else bound
            for bound, q in zip(bounds, (recorded, repeated), strict=True)
        ]
        if gap <= 3.0 * math.hypot(*errors):
            return Agreement.STATISTICALLY_EQUAL
    return Agreement.DIFFERS
