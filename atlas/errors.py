"""One family of errors, each with the exit code that the command line returns for it.

| code | meaning |
| --- | --- |
| 0 | done |
| 2 | bad input, a broken plugin or an unusable disk: nothing was started, or what was recorded is safe |
| 3 | not reproducible here |
| 4 | integrity broken: a sealed file or the journal is not what was sealed |
| 5 | an instrument failed |
| 75 | waiting for a human |
| 130 | interrupted (Ctrl-C); `atlas resume` goes on |
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AtlasError",
    "BadInput",
    "InstrumentFailed",
    "IntegrityBroken",
    "NotReproducible",
    "PluginFault",
    "WaitingForHuman",
]


class AtlasError(Exception):
    """An error with its place and its way out.

    Args:
        what: What is wrong, in one sentence.
        where: The place: `file:line:column`, a path, or a sheet and cell.
        who: The plugin, distribution and version at fault, where one is.
        fix: What to do or to type next.
    """

    exit_code: ClassVar[int] = 2

    def __init__(
        self, what: str, *, where: str | None = None, who: str | None = None, fix: str | None = None
    ) -> None:
        self.what = what
        self.where = where
        self.who = who
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        """Render as `where: what (who)` with the way out on a line of its own."""
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        if self.who is not None:
            text += f" ({self.who})"
        if self.fix is not None:
            text += f"\n  to do: {self.fix}"
        return text


class BadInput(AtlasError):
    """What the user gave cannot be used."""


class PluginFault(AtlasError):
    """A plugin is missing, broken, of another interface version, or not admitted."""


class NotReproducible(AtlasError):
    """A run cannot be repeated on this machine; the reason is in the message."""

    exit_code = 3


class IntegrityBroken(AtlasError):
    """A sealed file or the journal differs from what was sealed."""

    exit_code = 4


class InstrumentFailed(AtlasError):
    """A step ended without a validated result."""

    exit_code = 5


class WaitingForHuman(AtlasError):
    """A gate is open; the run goes on after a person has answered it."""

    exit_code = 75
