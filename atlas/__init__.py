"""Atlas: a host for governed measurements, carried out by instruments that ship as plugins."""

from __future__ import annotations

__all__ = ["API", "__version__"]

__version__ = "0.1.0"

API = 1
"""Version of the plugin interface; a card states the one it was written for."""
