"""Text as it is, with the characters that hide or reorder others written out."""

from __future__ import annotations

import unicodedata

__all__ = ["visible"]

_KEPT = frozenset("\n\t\u200c\u200d")
"""Line breaks and tabs, and the two joiners that Persian, Hindi and emoji are written with."""
_HIDING = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def visible(text: str) -> str:
    r"""Write control, direction, zero-width and surrogate characters as U+202E in angle quotes."""
    return "".join(
        f"\u2039U+{ord(c):04X}\u203a" if c not in _KEPT and unicodedata.category(c) in _HIDING else c
        for c in text.replace("\r\n", "\n")
    )
