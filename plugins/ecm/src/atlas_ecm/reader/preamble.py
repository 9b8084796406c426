"""Preamble padding P: the words of an answer before it engages the task.

The rule, edition 3, for English. The beginning of the first answer is cut into clauses, up to the first
that engages the task by its form: yes or no, a refusal, a question back, a salutation, a quotation, code, a
heading, a list, a table, or whatever follows a colon at a line's end. Each clause before it is given
points: those of a lead into another, or else the sum over its marks, and more for a phrase that says what
the clause is for. The preamble is the beginning whose clauses have the greatest sum, the shortest one of
equals; there is none where no sum is above zero.

The points of the marks were fitted to marked transcripts and rounded, by `benchmarks/ecm_preamble.py`. The
last clause of an answer counts against it, unless a phrase says what it is for: an answer that says
anything engages. The rule is about wording: what a clause does it cannot know, which is why the span that
it took is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import frozen

from atlas_ecm.reader.clauses import Clause, clauses
from atlas_ecm.reader.marks import Asked, marks_of
from atlas_ecm.reader.phrases import engages, phrase_of

__all__ = ["EDITION", "POINTS", "REACH", "Judged", "Preamble", "judged", "preamble_of"]

EDITION = 3

REACH = 4096
"""Characters of an answer, and of a prompt, that are looked at."""

POINTS: dict[str, int] = {
    "any": 2, "first person": 4, "second person": 2, "courtesy": 1, "question": 3, "reply": 3, "model": 1,
    "esteem": 5, "debate": 2, "rare": -4, "common": -3, "figures": -4, "dense": -3, "empty": 2, "restates": 3,
    "intends": 2, "points": 3, "long debate": 2, "this": 3, "exclaims": 3, "announces": 1, "label": -1,
    "picture": 2, "impersonal": -5,
}  # fmt: skip
"""Points of each of `marks.MARKS`: four times the log odds that a logistic regression gives it, rounded."""

LEAD, STAGE, PHRASE, MOST = 24, -1, 6, 16
"""Points of a clause that leads into another, and of a stage direction; what a phrase adds, and is at least
worth; the most that any other clause can weigh either way, so that none outweighs all others."""

_SHAPES = ("empty", "exclaims", "announces", "label", "picture", "impersonal", "any")
_WORD = re.compile(r"\w")
_HEADING = re.compile(r"\*\*[^*\n]+(?::\*\*|\*\*:)\s*$")


@frozen
class Preamble:
    """What the rule took.

    Attributes:
        span: The text, as it stands, without white space around it; empty where nothing was taken.
        words: P.
        rules: What each clause of it is by the rule, in order: its lead, its phrase, or the mark with
            most points.
    """

    span: str
    words: int
    rules: tuple[str, ...]


@frozen
class Judged:
    """A clause with what the rule found in it.

    Attributes:
        clause: The clause.
        phrase: The phrase that says what it is for, or "".
        marks: How often it has each mark.
        last: Whether the answer ends with it.
    """

    clause: Clause
    phrase: str
    marks: dict[str, int]
    last: bool

    @property
    def points(self) -> int:
        """What it adds to the sum."""
        if self.clause.lead:
            return STAGE if self.clause.lead == "stage" else LEAD
        if self.last and not self.phrase:
            return -MOST
        points = sum(POINTS[name] * count for name, count in self.marks.items())
        if self.phrase:
            points = max(points, 0) + PHRASE
        return max(-MOST, min(MOST, points))

    @property
    def name(self) -> str:
        """What it is: its lead, its phrase, or the mark that gave most points, of wording before shape."""
        weight = {name: POINTS[name] * count for name, count in self.marks.items()}
        worded = max((name for name in weight if name not in _SHAPES), key=weight.__getitem__)
        shaped = max(_SHAPES, key=weight.__getitem__)
        return self.clause.lead or self.phrase or (worded if weight[worded] > 0 else shaped)


def preamble_of(answer: str, prompt: str = "") -> Preamble:
    """Return the preamble of an answer; of its first `REACH` characters, where it goes on longer.

    Args:
        answer: The first answer.
        prompt: What it answers; without it, no word of the answer is one that was asked.
    """
    total, best, end = 0, 0, 0
    rules, taken = list[str](), 0
    for one in judged(answer, prompt):
        rules.append(one.name)
        total += one.points
        if total > best:
            best, end, taken = total, one.clause.end, len(rules)
    span = answer[:end].strip()
    return Preamble(span, sum(1 for word in span.split() if _WORD.search(word)), tuple(rules[:taken]))


def judged(answer: str, prompt: str) -> Iterator[Judged]:
    """Yield the clauses of an answer's beginning until one engages the task by its form."""
    text, asked = _straight(answer), Asked.of(_straight(prompt))
    length, opens, announced = len(answer.rstrip()), True, False
    for clause in clauses(text, asked.keys):
        ends = not text[clause.end :].strip() or text[clause.end] == "\n"
        phrase = "" if clause.lead else phrase_of(clause.text, asked.keys, line_ends=ends)
        heading = not opens and _HEADING.match(clause.text)
        if announced or heading or (not clause.lead and engages(clause.text, asked.text, phrase)):
            return
        marks = marks_of(clause.text, asked, opens=opens, line_ends=ends)
        yield Judged(clause, phrase, marks, clause.end >= length)
        announced = ends and clause.text.rstrip(" *_").endswith(":")
        opens = opens and clause.lead in ("courtesy", "stage")


def _straight(text: str) -> str:
    return text[:REACH].replace("\u2019", "'")
