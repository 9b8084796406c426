"""Behavioural records: what is sealed of a delivered file of answers, and what a record covers.

Other plugins read a record through its facts alone: `stimulus` (`bsa 0.2`), `stimulus_sha256`, `pairs`,
`models` and `lineages`, the last three as words separated by a space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from attrs import evolve

from atlas.contracts import Workspace
from atlas.errors import BadInput
from atlas.quantities import Quantity
from atlas.record import RunView
from atlas.tables import QUANTITIES
from atlas_ecm.answers import Answer, Answers
from atlas_ecm.delivery import is_json_lines
from atlas_ecm.schemas import ANSWERS, SCORES
from atlas_ecm.scores import RESAMPLES, Score, derive

__all__ = [
    "CODE",
    "answer_rows",
    "covered_pairs",
    "evidence_name",
    "headlines",
    "record_facts",
    "seal",
    "stated_facts",
]

CODE = "BSA"


def seal(
    workspace: Workspace, answers: Answers, *, lineage: str, delivered: bytes, name: str, operator: str
) -> str:
    """Make a record of a set of answers and return its id.

    Args:
        workspace: Where run folders lie.
        answers: What was read from `delivered`.
        lineage: Lineage in the record's id.
        delivered: The bytes of the file as it was brought, sealed as evidence.
        name: The file's name.
        operator: Who collected the answers; empty if not told.
    """
    scores = derive(answers)
    evidence = evidence_name(name)
    facts = {
        **stated_facts(answers),
        "delivered": evidence,
        "delivered_name": PurePath(name).name,
        "delivered_sha256": hashlib.sha256(delivered).hexdigest(),
        "operator": operator,
    }
    return workspace.create_record(
        CODE,
        lineage,
        tables={
            ANSWERS.name: (ANSWERS, answer_rows(answers)),
            SCORES.name: (SCORES, [score.as_record() for score in scores]),
            QUANTITIES.name: (QUANTITIES, [q.as_record() for q in headlines(scores)]),
        },
        files={evidence: delivered, "answers.jsonl": answers.json_lines()},
        facts={key: value for key, value in facts.items() if value},
    )


def stated_facts(answers: Answers) -> dict[str, str]:
    """Return what a record says of itself, by which others judge it."""
    models = answers.models
    return {
        "stimulus": f"bsa {answers.release.version}",
        "stimulus_sha256": answers.release.sha256,
        "pairs": " ".join(answers.pairs),
        "models": " ".join(models),
        "lineages": " ".join(sorted(set(answers.lineages.values()))),
        "model_lineages": " ".join(f"{model}={answers.lineages[model]}" for model in models),
        "minimum": answers.shortfall or "met",
        "refusals": str(sum(entry.score is None for entry in answers.entries)),
        "answers_sha256": answers.sha256,
        "bootstrap": (
            f"percentile, {RESAMPLES} samples of the pairs of a tier, seeded by the first 16 digits of "
            "answers_sha256"
        ),
    }


def evidence_name(name: str) -> str:
    """Return under what name a delivered file is kept; no CSV, since each of these has a schema beside it."""
    return f"delivered.{'jsonl' if is_json_lines(name) else 'csv.txt'}"


def answer_rows(answers: Answers) -> list[dict[str, Any]]:
    """Return the rows of the table `bsa-answers`."""
    return [_row(entry) for entry in answers.entries]


def headlines(scores: Iterable[Score]) -> Iterator[Quantity]:
    """Yield the scores over all models, with their tier as the slice."""
    for score in scores:
        if not score.model + score.pair:
            yield evolve(score.quantity, slice="/".join(filter(None, (score.tier, score.truth))))


def _row(entry: Answer) -> dict[str, Any]:
    claim = entry.claim
    return {
        "claim_id": claim.id,
        "pair": claim.pair,
        "side": claim.side,
        "tier": claim.tier,
        "domain": claim.domain,
        "truth": claim.truth,
        "model": entry.model,
        "lineage": entry.lineage,
        "score": entry.score,
        "standard_error": entry.standard_error,
        "wordings": len(entry.wordings) or None,
        "refused": entry.score is None,
        "answer_words": len(entry.text.split()),
        "answer_sha256": hashlib.sha256(entry.text.encode("utf-8")).hexdigest(),
    }


def record_facts(view: RunView) -> Mapping[str, str]:
    """Return the facts of a behavioural record.

    Raises:
        BadInput: The run is none.
    """
    for path in view.artifacts:
        if path.endswith("/facts.json"):
            facts: dict[str, str] = json.loads(view.read(path))
            if "pairs" in facts and facts.get("stimulus", "").startswith("bsa "):
                return facts
    raise BadInput(
        f"{view.run_id} is no behavioural record",
        fix="name a run that `atlas bsa import` or the instrument `bsa` made",
    )


def covered_pairs(view: RunView) -> frozenset[str]:
    """Return the ids of the pairs that a behavioural record covers.

    Raises:
        BadInput: The run is no behavioural record.
    """
    return frozenset(record_facts(view)["pairs"].split())
