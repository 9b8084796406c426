"""Transcripts as people keep them: a text or Markdown file a session, each speaker's name before its turn."""

from __future__ import annotations

import re
from collections.abc import Iterator

from atlas.errors import BadInput
from atlas_ecm.reader.lines import TextFile
from atlas_ecm.reader.sessions import ROLES, Session, Turn, role_of

__all__ = ["read_transcript"]

_NAMES = "|".join(ROLES)
_MARK = re.compile(
    rf"(?:(?P<plain>{_NAMES})[ \t]*:"
    rf"|\*\*(?P<bold>{_NAMES})(?::\*\*|\*\*[ \t]*:)"
    rf"|\#{{1,6}}[ \t]+(?P<heading>{_NAMES})[ \t]*:?[ \t]*$)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"[ ]{0,3}(`{3,}|~{3,})")
_HEAD = re.compile(r"(model|item)[ \t]*=[ \t]*(\S.*?)\s*$", re.IGNORECASE)


def read_transcript(file: TextFile) -> Iterator[Session]:
    """Yield the one session of a file.

    A turn begins at a line that starts with a speaker's name and a colon (`User:`, `**Assistant:**`), or is a
    heading of that name alone (`## Human`), outside fenced code; it reaches to the next. Before the
    first turn stand blank lines or `model = NAME` and `item = NAME`.

    Raises:
        BadInput: There is other text before the first turn, or no whole session.
    """
    turns: list[Turn] = []
    pieces: list[str] = []
    facts: dict[str, str] = {}
    answer: bool | None = None
    fence, first = "", 1
    for number, line in enumerate(file.lines(), start=1):
        fenced = _FENCE.match(line)
        if fenced and not fence:
            fence = fenced.group(1)
        elif fenced and fenced.group(1).startswith(fence) and line.strip() == fenced.group(1):
            fence = ""
        mark = None if fence else _MARK.match(line)
        if mark is None and answer is None:
            head = _HEAD.match(line)
            if head is None and line.strip():
                raise BadInput(
                    "text before the first speaker",
                    where=f"{file.name}:{number}",
                    fix="begin each turn with its speaker and a colon, such as `User:` and `Assistant:`",
                )
            if head is not None:
                facts[head.group(1).lower()] = head.group(2)
        elif mark is None:
            pieces.append(line)
        else:
            if answer is None:
                first = number
            else:
                turns.append(Turn(answer, "".join(pieces).strip()))
            answer = role_of(mark.group(mark.lastgroup or 0), f"{file.name}:{number}")
            pieces = [line[mark.end() :]]
    if answer is None:
        raise BadInput(
            "no speaker is named",
            where=f"{file.name}:1",
            fix="begin each turn with its speaker and a colon, such as `User:` and `Assistant:`",
        )
    turns.append(Turn(answer, "".join(pieces).strip()))
    yield Session(file.name, file.name, first, tuple(turns), facts.get("model", ""), facts.get("item", ""))
