"""Models' answers to the paired claims, checked against the release that was put to them."""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from attrs import field, frozen

from atlas.errors import BadInput
from atlas_ecm.claims import Claim, Release
from atlas_ecm.delivery import Row, decode, read_rows

__all__ = [
    "MINIMUM_LINEAGES",
    "MINIMUM_MODELS",
    "REFUSED",
    "Answer",
    "Answers",
    "in_order",
    "read_answers",
    "standard_error",
]

MINIMUM_MODELS = 3
MINIMUM_LINEAGES = 2

REFUSED = "refused"
"""What stands in the score column where the model gave no number; the raw answer must still be there."""

_SHOWN = 100
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,79}")
_LINEAGE = re.compile(r"[A-Za-z]{2,4}")
_NUMBER = re.compile(r"([+-]?[0-9]+)(?:[.,]([0-9]+))?")


def standard_error(values: Sequence[float]) -> float | None:
    """Return the standard error of a mean; None for fewer than two values."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


@frozen
class Answer:
    """One model's answer to one claim.

    Attributes:
        claim: What was asked about.
        model: The model.
        lineage: Its family.
        score: 0 to 100, or None where the model refused to give a number.
        text: The raw answer.
        wordings: The score in each wording of the question, of which `score` is the mean; empty for an answer
            brought by hand, which was asked for once.
    """

    claim: Claim
    model: str
    lineage: str
    score: float | None
    text: str
    wordings: tuple[float, ...] = ()

    @property
    def standard_error(self) -> float | None:
        """Standard error of the score over wordings; None for fewer than two."""
        return standard_error(self.wordings)


@frozen
class Answers:
    """A complete set: every model answered both members of every pair in it.

    Attributes:
        release: What was put to the models.
        entries: In the order of the release, then of the models' names.
        lineages: Lineage by model.
    """

    release: Release
    entries: tuple[Answer, ...] = field(repr=False)
    lineages: Mapping[str, str]

    @property
    def models(self) -> tuple[str, ...]:
        """The models, by name."""
        return tuple(sorted(self.lineages))

    @property
    def pairs(self) -> tuple[str, ...]:
        """Ids of the pairs that were answered, in the release's order."""
        return tuple(dict.fromkeys(entry.claim.pair for entry in self.entries))

    @property
    def shortfall(self) -> str:
        """What lacks to the minimum of three models of two lineages; empty if nothing does."""
        models, lineages = len(self.lineages), len(set(self.lineages.values()))
        if models >= MINIMUM_MODELS and lineages >= MINIMUM_LINEAGES:
            return ""
        return (
            f"below minimum: {models} model{'s' * (models != 1)} of {lineages} "
            f"lineage{'s' * (lineages != 1)}, where {MINIMUM_MODELS} models of {MINIMUM_LINEAGES} lineages "
            "are needed"
        )

    def json_lines(self) -> bytes:
        """Return the answers as canonical JSON lines: the same answers, the same bytes."""
        return b"".join(
            json.dumps(
                {
                    "claim_id": entry.claim.id,
                    "model": entry.model,
                    "lineage": entry.lineage,
                    "score": entry.score,
                    "answer": entry.text,
                    **({"wordings": list(entry.wordings)} if entry.wordings else {}),
                },
                sort_keys=True,
            ).encode("ascii")
            + b"\n"
            for entry in self.entries
        )

    @property
    def sha256(self) -> str:
        """Digest of `json_lines`, whatever form the answers were delivered in."""
        return hashlib.sha256(self.json_lines()).hexdigest()


def read_answers(data: bytes, name: str, release: Release, *, partial: bool = False) -> Answers:
    """Read a delivered file of answers.

    Args:
        data: The file's bytes.
        name: Its name, for messages; `.jsonl` is read as JSON lines, anything else as CSV.
        release: The release that was put to the models.
        partial: Accept pairs that no model answered. A pair that one model answered must be answered
            by all, both members.

    Raises:
        BadInput: Anything is wrong with it. The message lists every fault with line and column.
    """
    rows, faults = read_rows(decode(data, name), name)
    entries: dict[tuple[str, str], Answer] = {}
    places: dict[tuple[str, str], str] = {}
    lineages: dict[str, str] = {}
    for row in rows:
        answer = _answer(row, release, lineages, faults)
        if answer is None:
            continue
        key = (answer.claim.id, answer.model)
        if key in places:
            faults.append(f"{row.place}: {key[1]} answered {key[0]} already, at {places[key]}")
            continue
        entries[key], places[key] = answer, row.place
    if not faults:
        faults += _missing(name, set(entries), lineages, release, partial)
    if faults:
        raise BadInput(
            "\n".join(faults[:_SHOWN])
            + (f"\nand {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""),
            fix=f"{len(faults)} fault{'s' * (len(faults) != 1)}; correct the file and try again",
        )
    return in_order(release, entries.values(), lineages)


def in_order(release: Release, entries: Iterable[Answer], lineages: Mapping[str, str]) -> Answers:
    """Return a complete set of answers, put into its order."""
    order = {claim.id: number for number, claim in enumerate(release.claims)}
    ordered = sorted(entries, key=lambda entry: (order[entry.claim.id], entry.model))
    return Answers(release, tuple(ordered), dict(lineages))


def _answer(row: Row, release: Release, lineages: dict[str, str], faults: list[str]) -> Answer | None:
    """Return what a row holds; None if it is not filled in or faulty."""
    before = len(faults)
    claim = _claim(row, release, faults)
    score_cell, text = row.cells["score"], row.cells["answer"]
    blank = not str(score_cell).strip() and not text.strip()
    model, lineage = row.cells["model"].strip(), row.cells["lineage"].strip().upper()
    if blank and not model:
        return None
    if not _MODEL.fullmatch(model):
        faults.append(
            f"{row.at('model')}: {model!r} is no model name; use letters, digits and . _ : / + -, no spaces"
            if model
            else f"{row.at('model')}: the model is not named"
        )
    elif not _LINEAGE.fullmatch(lineage):
        faults.append(f"{row.at('lineage')}: {lineage!r} is no lineage; use two to four letters")
    elif lineages.setdefault(model, lineage) != lineage:
        faults.append(f"{row.at('lineage')}: {model} was of lineage {lineages[model]} above, here {lineage}")
    if blank:
        return None
    score = _score(row, faults)
    if not text.strip():
        faults.append(f"{row.at('answer')}: the raw answer is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        faults.append(f"{row.at('answer')}: the answer holds half of a surrogate pair")
    if len(faults) > before or claim is None:
        return None
    return Answer(claim, model, lineage, score, text)


def _claim(row: Row, release: Release, faults: list[str]) -> Claim | None:
    name = row.cells["claim_id"].strip()
    claim = release.by_id.get(name)
    if claim is None:
        close = get_close_matches(name.lower(), release.by_id, n=1)
        faults.append(
            f"{row.at('claim_id')}: {name!r} is no claim of bsa {release.version}"
            + (f"; did you mean {close[0]}?" if close else "")
        )
        return None
    prompt = " ".join(row.cells.get("prompt", "").split())
    if prompt and prompt != release.prompt(claim):
        faults.append(
            f"{row.at('prompt')}: this is not the prompt of {name} in bsa {release.version}; an answer to "
            "another text is no answer to this claim"
        )
    return claim


def _score(row: Row, faults: list[str]) -> float | None:
    cell = row.cells["score"]
    if isinstance(cell, (int, float)):
        value = float(cell)
    else:
        cell = cell.strip()
        if cell.lower() == REFUSED:
            return None
        match = _NUMBER.fullmatch(cell)
        if match is None:
            faults.append(
                f"{row.at('score')}: {cell!r} is no number from 0 to 100; write `{REFUSED}` if the model "
                "gave none"
                if cell
                else f"{row.at('score')}: the score is empty; write `{REFUSED}` if the model gave none"
            )
            return None
        if match[2] and len(match[2]) > 2:
            faults.append(f"{row.at('score')}: {cell!r} has more than two decimals: is it a thousand?")
            return None
        value = float(f"{match[1]}.{match[2] or 0}")
    if not 0 <= value <= 100:
        faults.append(f"{row.at('score')}: {cell} is outside 0 to 100")
    return value


def _missing(
    name: str, found: set[tuple[str, str]], lineages: Mapping[str, str], release: Release, partial: bool
) -> list[str]:
    if not found:
        return [f"{name}: no answer in the file"]
    touched = {claim_id[:-1] for claim_id, _ in found}
    wanted = [c.id for c in release.claims if not partial or c.pair in touched]
    faults = []
    for model in sorted(lineages):
        lacking = [claim_id for claim_id in wanted if (claim_id, model) not in found]
        if lacking:
            faults.append(
                f"{name}: {model} lacks {len(lacking)} claim{'s' * (len(lacking) != 1)}: {', '.join(lacking)}"
            )
    if faults and not partial and len(touched) < len(release.pairs):
        faults.append(
            f"{name}: to make a record of the {len(touched)} answered pairs alone, complete them for every "
            "model and add --partial"
        )
    return faults
