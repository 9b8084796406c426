"""The hooks of the plugin; torch is imported when a step needs it."""

from __future__ import annotations

__all__: list[str] = []
