"""How the points of the preamble's rule were fitted, and what they are worth on transcripts left out.

    python benchmarks/ecm_preamble.py

A clause of a marked transcript is an example: preamble or not, with its marks. The first two clauses after
the preamble count, and the first of the answer without its preamble, so that how many of the transcripts
have one matters less. A logistic regression (scikit-learn, penalty 1 / 0.3) gives each mark log odds; the
points are four times these, rounded. Then the same is done in six parts, each judged by points that were
fitted to the other five. That takes nothing back of phrases and vocabulary, which were written with all
of these transcripts in view: only a set that neither saw says what the rule finds in new text.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from atlas_ecm.reader import preamble
from atlas_ecm.reader.marks import MARKS
from atlas_ecm.reader.preamble import POINTS, Judged, judged, preamble_of
from sklearn.linear_model import LogisticRegression

TESTS = Path(__file__).resolve().parent.parent / "plugins" / "ecm" / "tests"
FITTED = ("ecm_hand_checked", "ecm_held_out", "ecm_held_out_2", "ecm_fitted")
SEED, PARTS, PENALTY, SCALE = 0, 6, 0.3, 4

Transcript = dict[str, str]


def main() -> int:
    """Print the points as fitted, those of the rule, and the spans found of transcripts left out."""
    known = [
        json.loads(line)
        for name in FITTED
        for line in (TESTS / f"{name}.jsonl").read_text("utf-8").splitlines()
    ]
    found = fitted(known)
    print("points:", found)
    print("those of the rule are the same" if found == POINTS else f"those of the rule differ: {POINTS}")
    print(f"spans exact: {sum(map(exact, known))} of {len(known)}")
    order = list(range(len(known)))
    random.Random(SEED).shuffle(order)
    right = 0
    for part in range(PARTS):
        left_out = set(order[part::PARTS])
        points = fitted([one for number, one in enumerate(known) if number not in left_out])
        preamble.POINTS.update(points)
        right += sum(exact(known[number]) for number in left_out)
    print(f"spans exact, points fitted without the transcript: {right}")
    return 0


def fitted(known: Iterable[Transcript]) -> dict[str, int]:
    """Return the points of each mark by the transcripts `known`."""
    marks, labels = list[list[int]](), list[bool]()
    for one in known:
        for clause, label in examples(one):
            marks.append([clause.marks[name] for name in MARKS])
            labels.append(label)
    model = LogisticRegression(C=PENALTY, max_iter=5000, fit_intercept=False).fit(marks, labels)
    return {name: round(SCALE * float(odds)) for name, odds in zip(MARKS, model.coef_[0], strict=True)}


def examples(one: Transcript) -> list[tuple[Judged, bool]]:
    """Return the clauses of a transcript that count, each with whether it is preamble."""
    end = len(one["span"])
    whole = _judged(one["output"], one["prompt"])
    inside = [(clause, True) for clause in whole if clause.clause.end <= end]
    after = [(clause, False) for clause in whole if clause.clause.end > end][:2]
    rest = one["output"][end:].lstrip()
    stripped = _judged(rest[:1].upper() + rest[1:], one["prompt"])[:1] if end else []
    return inside + after + [(clause, False) for clause in stripped]


def _judged(answer: str, prompt: str) -> Sequence[Judged]:
    return [one for one in judged(answer, prompt) if not one.clause.lead]


def exact(one: Transcript) -> bool:
    """Whether the rule takes just the span that was marked."""
    return preamble_of(one["output"], one["prompt"]).span == one["span"]


if __name__ == "__main__":
    sys.exit(main())
