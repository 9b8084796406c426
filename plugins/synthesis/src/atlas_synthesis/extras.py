"""Packages that an adapter needs and the plugin does not install by itself, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from atlas.errors import BadInput

__all__ = ["library"]


def library(name: str, extra: str) -> Any:
    """Import a client, late.

    Raises:
        BadInput: It is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise BadInput(
            f"the adapter {extra!r} needs the package {name!r}, which is not installed",
            fix=f'pip install "atlas-synthesis[{extra}]"',
        ) from None
