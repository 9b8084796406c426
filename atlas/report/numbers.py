"""How a measured number is written for people: as many digits as its uncertainty leaves meaning."""

from __future__ import annotations

import math
from decimal import Decimal

from atlas.quantities import Quantity, UncertaintyKind

__all__ = ["TIMES", "format_interval", "format_number", "format_quantity", "has_no_scatter"]

TIMES = "\N{MULTIPLICATION SIGN}"

_MOST_DIGITS = 7
"""More digits than this are not read; an uncertainty below them is written apart."""
_PLAIN = range(-3, 6)
"""Powers of ten that are written out; others as a factor `10^n`."""


def format_number(value: float, digits: int = 4) -> str:
    """Write a number with so many significant digits: `1234`, `0.05123`, `3.200 x 10^-8`."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    power = _power(value, digits)
    return _write(Decimal(repr(value)), power - digits + 1, power if power not in _PLAIN else 0)


def format_quantity(quantity: Quantity) -> str:
    """Write a quantity with its uncertainty and without its unit.

    `114.1171 ± 0.0003`, `(1.23 ± 0.06) x 10^-7`, `12.3 (11.9 to 13.4)` for an interval that is not
    symmetric, `62` for what is exact, `3.2 (no error stated)`, `undefined`. The uncertainty has one
    significant digit, two where the first is 1 or 2, and the value ends where the uncertainty does.
    """
    value, uncertainty = quantity.value, quantity.uncertainty
    if value is None:
        return "undefined"
    if quantity.uncertainty_kind is UncertaintyKind.UNCERTIFIED:
        return f"{format_number(value)} (no error stated)"
    if quantity.low is not None and quantity.high is not None:
        below, above = value - quantity.low, quantity.high - value
        if abs(below - above) > 0.05 * max(abs(below), abs(above)):
            return _lopsided(value, quantity.low, quantity.high)
    if not uncertainty:
        return _exact(value)
    return _with_error(value, uncertainty)


def format_interval(quantity: Quantity) -> str:
    """Write a quantity's interval: `95% 4312 to 5345`, `2.138 to 1000` for bounds, empty without one."""
    if quantity.low is None or quantity.high is None:
        return ""
    level = "" if quantity.uncertainty_kind is UncertaintyKind.RESIDUAL_BOUND else "95% "
    return f"{level}{format_number(quantity.low)} to {format_number(quantity.high)}"


def has_no_scatter(quantity: Quantity) -> bool:
    """Return whether all samples gave the same, so that their standard error says nothing."""
    return quantity.uncertainty_kind is UncertaintyKind.STANDARD_ERROR and quantity.uncertainty == 0


def _exact(value: float) -> str:
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    number, times, factor = format_number(value, _MOST_DIGITS).partition(f" {TIMES}")
    return f"{number.rstrip('0').rstrip('.')}{times}{factor}" if "." in number else f"{number}{times}{factor}"


def _power(value: float, digits: int) -> int:
    """Return the power of ten of a number as it is written with so many digits: 9.996 -> 1 with 3."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])


def _last_place(uncertainty: float) -> int:
    """Return the power of ten of the last digit that the uncertainty leaves meaning."""
    leading = f"{uncertainty:.1e}"
    return int(leading.partition("e")[2]) - (1 if leading[0] in "12" else 0)


def _write(value: Decimal, place: int, power: int) -> str:
    """Write a number up to the digit at 10^place, divided by 10^power."""
    shown = value.quantize(Decimal((0, (1,), place)))
    factor = f" {TIMES} 10^{power}" if power else ""
    return f"{abs(shown) if not shown else shown.scaleb(-power):f}{factor}"


def _with_error(value: float, uncertainty: float) -> str:
    place = _last_place(uncertainty)
    power = max(_power(uncertainty, 2), _power(value, _MOST_DIGITS) if value else place)
    if power - place >= _MOST_DIGITS:
        return f"{format_number(value, _MOST_DIGITS)} (± {format_number(uncertainty, 1)})"
    exponent = 0 if power in _PLAIN and place < 3 else power
    shown = _write(Decimal(repr(value)), place, exponent).partition(" ")[0]
    error = _write(Decimal(repr(uncertainty)), place, exponent).partition(" ")[0]
    return f"({shown} ± {error}) {TIMES} 10^{exponent}" if exponent else f"{shown} ± {error}"


def _lopsided(value: float, low: float, high: float) -> str:
    place = _last_place(max(high - low, 0.0) / 2)
    power = _power(max(abs(value), abs(low), abs(high)), _MOST_DIGITS)
    place = max(place, power - _MOST_DIGITS + 1)
    exponent = 0 if power in _PLAIN and place < 3 else power
    shown, *ends = (
        _write(Decimal(repr(number)), place, exponent).partition(" ")[0] for number in (value, low, high)
    )
    factor = f" {TIMES} 10^{exponent}" if exponent else ""
    return f"{shown} ({ends[0]} to {ends[1]}){factor}"
