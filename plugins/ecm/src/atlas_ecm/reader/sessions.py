"""A session: what was put before a model and what it answered, with where that stands."""

from __future__ import annotations

from attrs import field, frozen

from atlas.errors import BadInput

__all__ = ["ROLES", "Session", "Turn", "role_of"]

ROLES = {
    "user": "in",
    "human": "in",
    "prompt": "in",
    "system": "in",
    "developer": "in",
    "tool": "in",
    "assistant": "out",
    "model": "out",
    "ai": "out",
    "output": "out",
}
"""Speakers by the name that files give them: `in` is put before the model, `out` is what it answers."""


def _well_formed(text: str) -> str:
    """Return the text with U+FFFD for lone surrogates, which JSON can spell and no encoding can write."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@frozen
class Turn:
    """What one speaker said; `answer` where that is the model."""

    answer: bool
    text: str = field(repr=False, converter=_well_formed)


@frozen
class Session:
    """One conversation.

    Attributes:
        id: Unique in its folder.
        file: Path below the folder, with `/`.
        line: Line of the file where it begins.
        turns: In order.
        model: The model, or empty where the file does not say.
        item: The stimulus item, or empty.
        left_out: Parts that are not text, such as images, and branches that were abandoned.
    """

    id: str
    file: str
    line: int
    turns: tuple[Turn, ...] = field(repr=False)
    model: str = ""
    item: str = ""
    left_out: int = 0

    @property
    def place(self) -> str:
        """`file:line`, for messages."""
        return f"{self.file}:{self.line}"

    @property
    def missing(self) -> str:
        """What it lacks: `question`, `answer`, `question and answer`, or nothing.

        Exports hold conversations that were opened and left. An empty answer is an answer.
        """
        found = {
            "question": any(turn.text.strip() for turn in self.turns if not turn.answer),
            "answer": any(turn.answer for turn in self.turns),
        }
        return " and ".join(name for name, there in found.items() if not there)


def role_of(name: object, where: str) -> bool:
    """Return whether a speaker of this name is the model.

    Raises:
        BadInput: The name is none that is known.
    """
    side = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if side is None:
        raise BadInput(f"unknown speaker {name!r}", where=where, fix=f"write one of {', '.join(ROLES)}")
    return side == "out"
