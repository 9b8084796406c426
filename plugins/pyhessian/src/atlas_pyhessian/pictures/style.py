"""What the pictures of a spectrum share: a colour by sign, and numbers as they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["NEGATIVE", "OPEN", "POSITIVE", "Row", "colour", "number"]

Row = Mapping[str, Any]

POSITIVE, NEGATIVE, OPEN = "#1f5a99", "#b3471d", "#8a8a8a"


def colour(row: Row) -> str:
    """Return an eigenvalue's colour: by its sign where it is certified."""
    if not row["converged"]:
        return OPEN
    return POSITIVE if row["eigenvalue"] >= 0 else NEGATIVE


def number(value: float) -> str:
    """Write a number with a true minus sign."""
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")
