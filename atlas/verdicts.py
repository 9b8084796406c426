"""What becomes of hypotheses: a set of trials decided together, with Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attrs import frozen

from atlas.inference import Inversion, Sample, Test

__all__ = ["Expectation", "Judgement", "Trial", "Verdict", "holm", "judge_all"]

Expectation = Literal["greater", "less", "different"]
Verdict = Literal["supported", "contradicted", "inconclusive"]

_REJECTED = 1 + 1e-12
"""Largest corrected score of a rejected hypothesis: 1, up to the rounding of a quotient."""


@frozen
class Trial:
    """A hypothesis as it is tested.

    Attributes:
        sample: The values.
        expect: How the group is expected to stand to the other side.
        alpha: Level of the test, for each of the two ways in which it can be decided.
        smallest_effect: Smallest difference that matters, in the values' unit; 0 for any.
        test: How resamples are drawn.
    """

    sample: Sample
    expect: Expectation
    alpha: float
    smallest_effect: float = 0.0
    test: Test = "permutation"


@frozen
class Judgement:
    """What came out of a trial.

    Attributes:
        effect: Difference of the means, group minus other side; None where one side is empty.
        low: Lower end of the interval by which it was decided; None where the test has none.
        high: Its upper end.
        coverage: Confidence level of that interval, its Holm correction included.
        p: p-value of "no effect that matters in the expected direction".
        p_holm: The same, corrected over the set.
        p_opposite: p-value of "an effect that matters, in the expected direction".
        p_opposite_holm: The same, corrected over the set.
        verdict: `supported` where `p_holm <= alpha`, `contradicted` where `p_opposite_holm <= alpha`.
    """

    effect: float | None
    low: float | None
    high: float | None
    coverage: float
    p: float
    p_holm: float
    p_opposite: float
    p_opposite_holm: float
    verdict: Verdict


def holm(scores: Sequence[float]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Correct p-values, each divided by its own level, over their set (Holm 1979).

    Returns:
        For each, the number of hypotheses that its level is divided by, and its corrected score, which is at
        most 1 exactly where the hypothesis is rejected. After the first that is not rejected the
        number no longer falls, so a score times its number says the same as the corrected one.
    """
    order = sorted(range(len(scores)), key=lambda i: scores[i])
    divisors, corrected = [0] * len(scores), [0.0] * len(scores)
    divisor, worst = len(scores), 0.0
    for rank, i in enumerate(order):
        if worst <= _REJECTED:
            divisor = len(scores) - rank
        worst = max(worst, scores[i] * divisor)
        divisors[i], corrected[i] = divisor, worst
    return tuple(divisors), tuple(corrected)


def judge_all(trials: Sequence[Trial], inversions: Sequence[Inversion | None]) -> tuple[Judgement, ...]:
    """Decide a set of trials together, each by its own inverted test.

    With m the smallest effect: `greater` is supported where "the difference is at most m" is rejected, and
    contradicted where "the difference is at least m" is; `less` mirrors it at -m; `different` is supported
    where the difference is shown to lie beyond m on either side, contradicted where it is shown to lie
    within. Each of the two decisions has level alpha after Holm's correction over the set. `low` and `high`
    are the ends at just these levels, so a verdict can be read off the interval alone: beyond m, short of m,
    or holding it. A trial without an inverted test counts in the set with p = 1.
    """
    ps = [_p_values(trial, inversion) for trial, inversion in zip(trials, inversions, strict=True)]
    for_, for_corrected = holm([p / trial.alpha for (p, _), trial in zip(ps, trials, strict=True)])
    opposite, opposite_corrected = holm([q / trial.alpha for (_, q), trial in zip(ps, trials, strict=True)])
    judgements = []
    for i, (trial, inversion) in enumerate(zip(trials, inversions, strict=True)):
        verdict: Verdict = "inconclusive"
        if for_corrected[i] <= _REJECTED:
            verdict = "supported"
        elif opposite_corrected[i] <= _REJECTED:
            verdict = "contradicted"
        below, above = _levels(trial, for_[i], opposite[i], verdict)
        judgements.append(
            Judgement(
                effect=trial.sample.effect,
                low=inversion.low(below) if inversion else None,
                high=inversion.high(above) if inversion else None,
                coverage=1 - below - above,
                p=ps[i][0],
                p_holm=min(1.0, for_corrected[i] * trial.alpha),
                p_opposite=ps[i][1],
                p_opposite_holm=min(1.0, opposite_corrected[i] * trial.alpha),
                verdict=verdict,
            )
        )
    return tuple(judgements)


def _p_values(trial: Trial, test: Inversion | None) -> tuple[float, float]:
    if test is None:
        return 1.0, 1.0
    matters = trial.smallest_effect
    if trial.expect == "greater":
        return test.p_greater(matters), test.p_less(matters)
    if trial.expect == "less":
        return test.p_less(-matters), test.p_greater(-matters)
    beyond = min(test.p_greater(matters), test.p_less(-matters))
    within = max(test.p_less(matters), test.p_greater(-matters)) if matters > 0 else 1.0
    return min(1.0, 2 * beyond), min(1.0, 2 * within)


def _levels(trial: Trial, divisor: int, opposite: int, verdict: Verdict) -> tuple[float, float]:
    """Return the levels of the interval's lower and upper end."""
    if trial.expect == "greater":
        return trial.alpha / divisor, trial.alpha / opposite
    if trial.expect == "less":
        return trial.alpha / opposite, trial.alpha / divisor
    used = {"supported": divisor, "contradicted": opposite, "inconclusive": max(divisor, opposite)}[verdict]
    return trial.alpha / (2 * used), trial.alpha / (2 * used)
