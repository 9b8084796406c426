"""Mistakes in a manifest: each with its place and its remedy, all of a file raised as one error."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

from atlas.errors import BadInput

__all__ = ["Mistake", "Place", "as_error"]

SHOWN = 60
"""How many mistakes one message lists; a file with more is not a manifest."""


@frozen(order=True)
class Place:
    """Where something was written.

    Attributes:
        order: Sorts places of one manifest: the file's lines first, then the command line.
        text: `file:line:column`, or the `--set` argument as it was typed.
    """

    order: tuple[int, int, int]
    text: str

    @classmethod
    def at(cls, file: str, line: int, column: int) -> Place:
        """Return a place in a file; line and column count from 1."""
        return cls((0, line, column), f"{file}:{line}:{column}")

    @classmethod
    def on_command_line(cls, argument: str) -> Place:
        """Return the place of a `--set` argument."""
        return cls((1, 0, 0), f"--set {argument}")

    def without_value(self) -> Place:
        """Return the place without the value that a `--set` argument gives, which may be a key."""
        return self if self.order[0] == 0 else Place(self.order, f"{self.text.partition('=')[0]}=...")


@frozen(order=True)
class Mistake:
    """One thing that is wrong, and what to write instead."""

    place: Place
    what: str
    fix: str = field(default="")

    def __str__(self) -> str:
        """Render as `file:line:column: what; fix`."""
        return f"{self.place.text}: {self.what}" + (f"; {self.fix}" if self.fix else "")


def as_error(mistakes: Iterable[Mistake]) -> BadInput:
    """Return one error that lists the mistakes in the order of the file."""
    lines = [str(mistake) for mistake in sorted(set(mistakes))]
    left = len(lines) - SHOWN
    if left > 0:
        lines = [*lines[:SHOWN], f"... and {left} more"]
    return BadInput("\n".join(lines))
