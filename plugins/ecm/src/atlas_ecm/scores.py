"""What follows from a set of scores: means per tier, gaps within pairs, spread, and the detection of foils.

Intervals are percentile bootstrap intervals (Efron and Tibshirani 1993, chapter 13) over the pairs of a
tier, drawn with replacement; the models are taken as they are, since three of them are no sample of all
models. With nine to twelve pairs such an interval is somewhat short: 89 to 91% coverage measured, for 95%
asked (README). The draws are seeded by the digest of the answers, so that nobody can choose them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attrs import frozen

from atlas.quantities import Quantity, UncertaintyKind
from atlas.randomness import RandomStreams
from atlas_ecm.answers import Answer, Answers, standard_error
from atlas_ecm.claims import TIERS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RESAMPLES", "Score", "derive", "mean_over_pairs"]

RESAMPLES = 10_000
"""Bootstrap samples behind each interval."""


@frozen
class Score:
    """A quantity and what it is of; empty where that does not divide it."""

    quantity: Quantity
    tier: str
    truth: str = ""
    pair: str = ""
    claim_id: str = ""
    model: str = ""

    def as_record(self) -> dict[str, Any]:
        """Return the row of the `bsa-scores` table."""
        q = self.quantity
        return {
            "quantity": q.quantity,
            "tier": self.tier,
            "truth": self.truth or None,
            "pair": self.pair or None,
            "claim_id": self.claim_id or None,
            "model": self.model or None,
            "value": q.value,
            "uncertainty": q.uncertainty,
            "uncertainty_kind": q.uncertainty_kind.value,
            "low": q.low,
            "high": q.high,
            "num_samples": q.num_samples,
            "note": q.note or None,
        }


def derive(answers: Answers) -> tuple[Score, ...]:
    """Compute every derived score, in the order tiers, then pairs, then claims."""
    tiers = [tier for tier in TIERS if any(e.claim.tier == tier for e in answers.entries)]
    streams = RandomStreams(int(answers.sha256[:16], 16))
    return tuple(
        score
        for part in (_tiers, _pairs, _claims)
        for tier in tiers
        for score in part(answers, tier, streams)
    )


def _members(answers: Answers, tier: str) -> dict[str, tuple[str, str]]:
    """Return (reference member, other member) by pair: the true one first, `a` where both are disputed."""
    asked = set(answers.pairs)
    return {
        pair: (b.id, a.id) if b.truth == "true" else (a.id, b.id)
        for pair, (a, b) in answers.release.pairs.items()
        if a.tier == tier and pair in asked
    }


def _matrix(answers: Answers, claims: list[str]) -> NDArray[np.float64]:
    """Return scores `[models, claims]`, NaN where a model refused."""
    import numpy as np

    scores = {(e.model, e.claim.id): np.nan if e.score is None else e.score for e in answers.entries}
    return np.array([[scores[model, claim] for claim in claims] for model in answers.models])


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return the mean over an axis without the NaN; NaN where there is nothing else."""
    import numpy as np

    count = (~np.isnan(values)).sum(axis=axis)
    return np.where(count > 0, np.nansum(values, axis=axis) / np.maximum(count, 1), np.nan)


def _tiers(answers: Answers, tier: str, streams: RandomStreams) -> Iterator[Score]:
    import numpy as np

    members = _members(answers, tier)
    reference = _matrix(answers, [first for first, _ in members.values()])
    other = _matrix(answers, [second for _, second in members.values()])
    gaps = reference - other
    truths = {answers.release.by_id[c].truth for pair in members.values() for c in pair}
    parts: list[tuple[str, str, NDArray[np.float64]]] = [
        ("tier_mean", "", _mean(np.stack([reference, other]), 0)),
    ]
    if tier == "contested":
        parts.append(("gap_magnitude_mean", "", np.abs(gaps)))
    else:
        parts += [
            ("truth_mean", "true", reference),
            ("truth_mean", next(iter(truths - {"true"})), other),
            ("gap_mean", "", gaps),
        ]
    for name, truth, values in parts:
        for index, model in enumerate(("", *answers.models)):
            unit = _mean(values, 0) if model == "" else values[index - 1]
            yield Score(
                mean_over_pairs(name, unit, streams, f"{tier}/{truth}/{model}"), tier, truth, model=model
            )
    if tier == "foil":
        for model in ("", *answers.models):
            rows = slice(None) if model == "" else [answers.models.index(model)]
            area = _auc(reference[rows], other[rows], streams, f"{tier}/{model}")
            yield Score(area, tier, model=model)
    spreads = np.stack([_spread(reference), _spread(other)])
    yield Score(mean_over_pairs("spread_mean", _mean(spreads, 0), streams, tier), tier)


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sample standard deviation down each column, NaN for fewer than two scores."""
    import numpy as np

    count = (~np.isnan(values)).sum(axis=0)
    squares = np.nansum((values - _mean(values, 0)) ** 2, axis=0)
    return np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)


def mean_over_pairs(name: str, unit: NDArray[np.float64], streams: RandomStreams, key: str) -> Quantity:
    """Return the mean of `[pairs]` with its percentile interval."""
    import numpy as np

    unit = unit[~np.isnan(unit)]
    n = len(unit)
    if n < 2:
        return _too_few(name, unit)
    generator = streams.generator("bsa bootstrap", name=f"{name}/{key}")
    means = unit[generator.integers(n, size=(RESAMPLES, n))].mean(axis=1)
    return _interval(name, float(unit.mean()), means, n)


def _too_few(name: str, unit: NDArray[np.float64]) -> Quantity:
    """Return what can be said of one pair or none."""
    if len(unit) == 0:
        return Quantity(
            name, None, None, UncertaintyKind.UNDEFINED, num_samples=0, note="no pair has the scores for it"
        )
    return Quantity(
        name,
        float(unit[0]),
        None,
        UncertaintyKind.UNCERTIFIED,
        num_samples=1,
        note="one pair: no interval can be given",
    )


def _interval(name: str, value: float, draws: NDArray[np.float64], n: int) -> Quantity:
    """Return a value with the percentile interval of its bootstrap draws over `n` pairs."""
    import numpy as np

    low, high = (float(end) for end in np.percentile(draws, [2.5, 97.5]))
    return Quantity(
        name,
        value,
        (high - low) / 2,
        UncertaintyKind.INTERVAL_95,
        num_samples=n,
        low=low,
        high=high,
    )


def _auc(
    true: NDArray[np.float64], fabricated: NDArray[np.float64], streams: RandomStreams, key: str
) -> Quantity:
    """Return the area under the ROC curve of true against fabricated claims, mean over models.

    The area is the share of (true, fabricated) in which the true claim scores higher, ties counted half (Mann
    and Whitney 1947; Bamber 1975). A resampled pair brings both its members.

    Args:
        true: Scores of the true members, `[models, pairs]`.
        fabricated: Scores of the others, `[models, pairs]`.
        streams: Draws.
        key: Part of the draws' name.
    """
    import numpy as np

    name = "foil_auc"
    first, second = true[:, :, None], fabricated[:, None, :]
    wins = np.where(np.isnan(first - second), np.nan, (first > second) + 0.5 * (first == second))
    kernel = _mean(wins, 0)
    kept = ~(np.isnan(kernel).all(axis=0) & np.isnan(kernel).all(axis=1))
    kernel = kernel[np.ix_(kept, kept)]
    known, n = ~np.isnan(kernel), int(kept.sum())
    if n < 2:
        return _too_few(name, kernel[known])
    drawn = streams.generator("bsa bootstrap", name=f"{name}/{key}").integers(n, size=(RESAMPLES, n))
    counts = (drawn[:, :, None] == np.arange(n)).sum(axis=1)
    weights = ((counts @ known) * counts).sum(axis=1)
    sums = ((counts @ np.where(known, kernel, 0.0)) * counts).sum(axis=1)
    drawn_areas = sums[weights > 0] / weights[weights > 0]
    return _interval(name, float(kernel[known].mean()), drawn_areas, n)


def _exact(name: str, value: float, n: int, absence: str) -> Quantity:
    if math.isnan(value):
        return Quantity(name, None, None, UncertaintyKind.UNDEFINED, num_samples=n, note=absence)
    return Quantity(name, value, 0.0, UncertaintyKind.EXACT, num_samples=n)


def _pairs(answers: Answers, tier: str, streams: RandomStreams) -> Iterator[Score]:
    entries = {(entry.model, entry.claim.id): entry for entry in answers.entries}
    for pair, (reference, other) in _members(answers, tier).items():
        for model in answers.models:
            gap = _gap(entries[model, reference], entries[model, other])
            yield Score(gap, tier, pair=pair, model=model)


def _gap(reference: Answer, other: Answer) -> Quantity:
    """Return one model's gap; over wordings, if it was asked in several, as their differences vary."""
    if reference.score is None or other.score is None:
        return _exact("pair_gap", math.nan, 1, "the model refused a score")
    gaps = [first - second for first, second in zip(reference.wordings, other.wordings, strict=True)]
    error = standard_error(gaps)
    if error is None:
        return _exact("pair_gap", reference.score - other.score, 1, "")
    return Quantity(
        "pair_gap",
        statistics.fmean(gaps),
        error,
        UncertaintyKind.STANDARD_ERROR,
        num_samples=len(gaps),
        note="over wordings",
    )


def _claims(answers: Answers, tier: str, streams: RandomStreams) -> Iterator[Score]:
    import numpy as np

    for pair, members in _members(answers, tier).items():
        for claim_id in sorted(members):
            scores = _matrix(answers, [claim_id])
            count = int((~np.isnan(scores)).sum())
            spread = float(_spread(scores)[0])
            quantity = _exact("claim_spread", spread, count, "fewer than two models gave a score")
            yield Score(quantity, tier, answers.release.by_id[claim_id].truth, pair, claim_id)
