"""The instrument `bsa`: the paired claims put to local models, beside answers that a person brought.

Its run is a behavioural record like one that `atlas bsa import` makes, with the same tables and facts.
"""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atlas.contracts import StepContext, Target
from atlas.errors import BadInput
from atlas.quantities import Quantity
from atlas.randomness import RandomStreams
from atlas_ecm.answers import Answer, Answers, in_order, read_answers
from atlas_ecm.claims import VERSIONS, Claim, Release, load
from atlas_ecm.delivery import LARGEST
from atlas_ecm.likelihood import Question, Reading, read_answers_of
from atlas_ecm.records import answer_rows, evidence_name, headlines, stated_facts
from atlas_ecm.schemas import ANSWERS, READINGS, SCORES
from atlas_ecm.scores import derive, mean_over_pairs
from atlas_ecm.wordings import EDITION, FORMS, Wording

__all__ = ["measure"]

_DECIMALS = 4
"""Of a local score, in points: far below its standard error, and above what threads and batches change."""


def measure(context: StepContext) -> None:
    """Score the claims of the stimulus on every model of the target.

    Raises:
        BadInput: The file of answers is faulty, lacks a pair, or names a model that is measured here.
        InstrumentFailed: The stimulus is not whole claims in pairs, or the target no causal language model.
    """
    release, claims = _claims(context)
    wordings = FORMS[context.params["answers"]]
    entries: list[Answer] = []
    lineages: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    for label, target in context.targets():
        model = _name(label, target)
        if model in lineages:
            raise BadInput(f"two members of the target go by the name {model}", where="targets")
        lineages[model] = _lineage(context.params, label)
        found = _read(context, target, model, claims, wordings)
        entries += [_answer(claim, model, lineages[model], wordings, found) for claim in claims]
        rows += _rows(model, wordings, found)
        del target
    local = in_order(release, entries, lineages)
    answers = _with_brought(context, local)
    context.fact("wordings", f"{context.params['answers']}, edition {EDITION}")
    for name, value in stated_facts(answers).items():
        context.fact(name, value)
    context.attach("answers.jsonl", answers.json_lines())
    context.table(ANSWERS.name, answer_rows(answers))
    context.table(READINGS.name, rows)
    scores = derive(answers)
    context.table(SCORES.name, [score.as_record() for score in scores])
    for quantity in (*headlines(scores), *_of_wordings(local, rows)):
        context.record(quantity)


def _claims(context: StepContext) -> tuple[Release, tuple[Claim, ...]]:
    """Return the claims of the stimulus, checked to be those of a release, whole and in pairs."""
    items = [item for part in context.slices for item in part.items]
    release = next(
        (
            r
            for r in map(load, VERSIONS)
            if all(i.id in r.by_id and i.text == r.by_id[i.id].text for i in items)
        ),
        None,
    )
    context.check("claims", release is not None, f"{len(items)} items, each a claim of bsa {VERSIONS[-1]}")
    assert release is not None
    context.check(
        "whole claims",
        context.max_tokens is None,
        "the claims are put whole"
        if context.max_tokens is None
        else f"the stimulus cuts claims to {context.max_tokens} tokens; leave its max_tokens out",
    )
    ids = {item.id for item in items}
    lonely = [pair for pair, both in release.pairs.items() if len(ids & {claim.id for claim in both}) == 1]
    context.check(
        "pairs",
        not lonely,
        f"of {', '.join(lonely)} one member is left out" if lonely else f"{len(ids) // 2} whole pairs",
    )
    return release, tuple(claim for claim in release.claims if claim.id in ids)


def _name(label: str, target: Target) -> str:
    """Return a model's name as the record writes it: letters, digits and . _ : / + -."""
    name = label or target.facts.get("model", "model")
    return re.sub(r"[^A-Za-z0-9._:/+-]+", "-", name).strip("-._:/+")[-80:] or "model"


def _lineage(params: Mapping[str, Any], label: str) -> str:
    return str(params["lineages"].get(label, params["lineage"])).upper()


def _read(
    context: StepContext,
    target: Target,
    model: str,
    claims: tuple[Claim, ...],
    wordings: tuple[Wording, ...],
) -> dict[tuple[str, str], Reading]:
    """Return what a model makes of each claim in each wording."""
    task = target.facts.get("task", "unknown")
    context.check(f"task of {model}", task == "causal-lm", f"{task}; needed is a causal language model")
    asked = [(claim, wording) for claim in claims for wording in wordings]
    questions = [
        Question(f"{claim.id}, {wording.id}", wording.prompt(claim.text), tuple(wording.answers))
        for claim, wording in asked
    ]
    readings = read_answers_of(
        target,  # type: ignore[arg-type] # a causal language model offers its outputs
        questions,
        batch_size=context.params["batch_size"],
        report=lambda done: context.progress(f"claims put to {model}", done=done, total=len(questions)),
    )
    return {
        (claim.id, wording.id): reading for (claim, wording), reading in zip(asked, readings, strict=True)
    }


def _answer(
    claim: Claim,
    model: str,
    lineage: str,
    wordings: tuple[Wording, ...],
    found: Mapping[tuple[str, str], Reading],
) -> Answer:
    read = [found[claim.id, wording.id] for wording in wordings]
    scores = tuple(_points(wording, reading) for wording, reading in zip(wordings, read, strict=True))
    raw = {
        wording.id: {
            answer.strip(): round(p, 6)
            for answer, p in zip(wording.answers, reading.probabilities, strict=True)
        }
        for wording, reading in zip(wordings, read, strict=True)
    }
    mean = round(sum(scores) / len(scores), _DECIMALS)
    return Answer(claim, model, lineage, mean, json.dumps(raw), scores)


def _points(wording: Wording, reading: Reading) -> float:
    return round(reading.expect(tuple(wording.answers.values())), _DECIMALS)


def _rows(
    model: str, wordings: tuple[Wording, ...], found: Mapping[tuple[str, str], Reading]
) -> Iterator[dict[str, Any]]:
    by_id = {wording.id: wording for wording in wordings}
    for (claim_id, wording_id), reading in found.items():
        wording = by_id[wording_id]
        best = max(range(len(reading.probabilities)), key=reading.probabilities.__getitem__)
        yield {
            "claim_id": claim_id,
            "model": model,
            "wording": wording_id,
            "score": _points(wording, reading),
            "answer_mass": min(reading.mass, 1.0),
            "likeliest": tuple(wording.answers)[best].strip(),
        }


def _with_brought(context: StepContext, local: Answers) -> Answers:
    """Return the answers with those of a file that a person brought, about the same pairs."""
    given = context.params.get("brought")
    if given is None:
        return local
    path = Path(given)
    if path.stat().st_size > LARGEST:
        raise BadInput(f"larger than {LARGEST} bytes", where=path.name)
    data = path.read_bytes()
    brought = read_answers(data, path.name, local.release, partial=True)
    both = sorted(set(brought.models) & set(local.models))
    if both:
        raise BadInput(f"{', '.join(both)}: measured here and in the file", where=path.name)
    missing = [pair for pair in local.pairs if pair not in brought.pairs]
    if missing:
        raise BadInput(
            f"the file lacks {', '.join(missing[:5])}{', ...' * (len(missing) > 5)}, which are measured here",
            where=path.name,
            fix="have its models answer every pair of the stimulus, or select fewer pairs",
        )
    context.attach(evidence_name(path.name), data)
    context.fact("delivered_name", path.name)
    context.fact("delivered_sha256", hashlib.sha256(data).hexdigest())
    kept = [entry for entry in brought.entries if entry.claim.pair in local.pairs]
    return in_order(local.release, (*local.entries, *kept), {**local.lineages, **brought.lineages})


def _of_wordings(local: Answers, rows: list[dict[str, Any]]) -> Iterator[Quantity]:
    """Yield, over all local models, how much wordings matter and how likely the answers are at all."""
    import numpy as np

    streams = RandomStreams(int(local.sha256[:16], 16))
    masses: dict[str, list[float]] = {pair: [] for pair in local.pairs}
    for row in rows:
        masses[local.release.by_id[row["claim_id"]].pair].append(row["answer_mass"])
    deviations: dict[str, list[float]] = {pair: [] for pair in local.pairs}
    for entry in local.entries:
        deviations[entry.claim.pair].append(statistics.stdev(entry.wordings))
    for name, found in (("wording_sd", deviations), ("answer_mass", masses)):
        unit = np.array([statistics.fmean(values) for values in found.values()])
        yield mean_over_pairs(name, unit, streams, "all")
