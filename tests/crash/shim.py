"""Stands between a program and its operating system: sees every call that changes the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

CALLS = ("write", "fsync", "ftruncate", "link", "rename", "unlink", "mkdir", "rmdir", "open")
REAL = {name: getattr(os, name) for name in CALLS}
Meddle = Callable[[str, tuple[Any, ...], Callable[[], Any]], Any]
"""Told the call's name, its arguments and how to carry it out; returns its result."""


def install(meddle: Meddle) -> None:
    """Pass every mutating call of this process through `meddle`."""

    def wrap(name: str) -> Callable[..., Any]:
        real = REAL[name]

        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **kwargs)
            return meddle(name, args, lambda: real(*args, **kwargs))

        return call

    for name in CALLS:
        setattr(os, name, wrap(name))


def remove() -> None:
    """Give the process its real calls back."""
    for name, real in REAL.items():
        setattr(os, name, real)
