"""The Clean Injection Synthesis Protocol, version 1.1, as a governance policy of Atlas."""

from __future__ import annotations

__all__ = ["PROTOCOL"]

PROTOCOL = "1.1"
"""The protocol version that this distribution enforces."""
