"""What a plain scalar of a manifest means, without the surprises of YAML 1.1.

Whatever PyYAML would read as text stays text, so that a dumped manifest reads back the same. Forms that
YAML 1.1 turns into numbers that nobody meant (`12:30:45` is 45045, `0777` is 511) are refused.
"""

from __future__ import annotations

import math
import re

__all__ = ["NUMBER_1_2", "Refused", "plain_number", "read_plain"]

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_HEXADECIMAL = re.compile(r"[-+]?0x[0-9a-fA-F]+")
_ODD_BASE = re.compile(r"[-+]?(?:0[0-7_]+|0b[01_]+|0x[0-9a-fA-F_]+)")
_FLOAT = re.compile(r"(?:[-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
NUMBER_1_2 = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
"""A number to YAML 1.2 and to people, which YAML 1.1 may read as text: `1e-3`."""

_LIMIT = 2**63


class Refused(ValueError):
    """A scalar that cannot be used as it stands: `what`, and what to write instead in `fix`."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(what)


def read_plain(text: str) -> str | int | float | bool | None:
    """Return the value of a scalar written without quotes.

    Raises:
        Refused: YAML 1.1 reads it as something that was hardly meant, or it is no finite number of
            64 bits.
    """
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    quoted = f'write "{text}" in quotes if text was meant'
    if _NOT_FINITE.fullmatch(text):
        raise Refused(f"{text} is not a finite number", "write a finite number, or leave the key out")
    if _SEXAGESIMAL.fullmatch(text):
        raise Refused(f"YAML reads {text[:40]} as a number to the base 60", quoted)
    if _INTEGER.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        number = int(text.replace("_", ""), 16 if "x" in text else 10)
        if not -_LIMIT <= number < _LIMIT:
            raise Refused("the integer does not fit into 64 bits", "write a smaller number")
        return number
    if _ODD_BASE.fullmatch(text):
        raise Refused(
            f"YAML reads {text[:40]} as a number that is not decimal", f"write it in decimal, or {quoted}"
        )
    if _FLOAT.fullmatch(text):
        value = float(text.replace("_", ""))
        if not math.isfinite(value):
            raise Refused(f"{text[:40]} is beyond the range of a float", "write a smaller number")
        return value
    return text


def plain_number(text: str) -> str | None:
    """Return how to write a number that was read as text, or None if it is no number."""
    if not NUMBER_1_2.fullmatch(text):
        return None
    mantissa, _, exponent = text.lower().partition("e")
    if "." not in mantissa:
        mantissa += ".0" if exponent else ""
    elif mantissa.lstrip("+-").startswith("."):
        mantissa = mantissa.replace(".", "0.", 1)
    if not exponent:
        return mantissa
    return f"{mantissa}e{exponent if exponent[0] in '+-' else '+' + exponent}"
