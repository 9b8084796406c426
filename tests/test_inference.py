"""Resampling tests against scipy, exact enumeration and Student's t; verdicts against their intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from atlas.errors import BadInput
from atlas.inference import Inversion, Sample, Test, caution, invert, smallest_p, untestable
from atlas.verdicts import Expectation, Trial, holm, judge_all

GROUP = (3.1, 4.7, 2.2, 5.9, 4.1, 3.6)
AGAINST = (1.9, 3.3, 2.6, 0.8, 2.4)


def generator(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def sample(shift: float, *, paired: bool = False, seed: int = 1, sizes: tuple[int, int] = (12, 9)) -> Sample:
    draw = generator(seed).normal
    group = draw(shift, 1, sizes[0])
    return Sample(group, draw(0, 1, sizes[0] if paired else sizes[1]), paired)


def welch(first: np.ndarray, second: np.ndarray) -> float:
    """Return Welch's t as a normal deviate, by scipy's degrees of freedom and Wallace's formula."""
    found = stats.ttest_ind(first, second, equal_var=False)
    t, df = float(found.statistic), float(found.df)
    return math.copysign((8 * df + 1) / (8 * df + 3) * math.sqrt(df * math.log1p(t * t / df)), t)


def test_sign_changes_are_those_of_scipy() -> None:
    ours = invert(Sample(GROUP[:5], AGAINST, paired=True), "permutation", generator())

    # The same sign changes, all of them, so the p-values are equal up to the rounding of a quotient.
    for alternative, p in (("greater", ours.p_greater(0.0)), ("less", ours.p_less(0.0))):
        theirs = stats.permutation_test(
            (np.subtract(GROUP[:5], AGAINST),),
            lambda x: x.mean(),
            permutation_type="samples",
            alternative=alternative,
        )
        assert p == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize("null", [-0.5, 0.0, 0.4, 1.3])
@pytest.mark.parametrize("group", [GROUP, (1.9, 2.4, 2.4, 7.0, 3.3, 40.0)], ids=["apart", "ties, outlier"])
def test_relabellings_are_compared_by_their_own_standard_error(group: tuple[float, ...], null: float) -> None:
    """The p-value of every null difference is that of an enumeration of Welch's deviate."""
    ours = invert(Sample(group, AGAINST), "permutation", generator())

    pooled = np.array([value - null for value in group] + list(AGAINST))
    chosen = [list(c) for c in itertools.combinations(range(11), 6)]
    found = np.array([welch(pooled[c], np.delete(pooled, c)) for c in chosen])
    observed = found[0]  # the first combination is the data's own labelling
    # Ties of relabellings are equal up to the rounding of sums of eleven numbers.
    assert ours.p_greater(null) == (found >= observed - 1e-9).mean()
    assert ours.p_less(null) == (found <= observed + 1e-9).mean()


def test_drawn_relabellings_agree_with_scipy() -> None:
    given = sample(0.5)
    ours = invert(given, "permutation", generator()).p_greater(0.0)
    theirs = stats.ttest_ind(
        given.group,
        given.against,
        equal_var=False,
        alternative="greater",
        method=stats.PermutationMethod(n_resamples=9_999, rng=generator(2)),
    ).pvalue

    # Two Monte Carlo p-values, of 19,999 and 9,999 draws: five standard errors of their difference.
    assert ours == pytest.approx(theirs, abs=5 * math.sqrt(ours * (1 - ours) * (1 / 19_999 + 1 / 9_999)))


DESIGNS: tuple[tuple[Test, bool], ...] = (("permutation", False), ("permutation", True), ("bootstrap", True))


@pytest.mark.parametrize(("test", "paired"), DESIGNS)
def test_an_interval_ends_where_the_p_value_passes_its_level(test: Test, paired: bool) -> None:
    ours = invert(sample(0.6, paired=paired, sizes=(20, 9)), test, generator())
    low, high = ours.low(0.05), ours.high(0.05)
    assert low is not None
    assert high is not None

    assert ours.p_greater(low - 1e-8) <= 0.05 < ours.p_greater(low + 1e-8)
    assert ours.p_less(high + 1e-8) <= 0.05 < ours.p_less(high - 1e-8)


@pytest.mark.parametrize(("test", "paired"), DESIGNS)
def test_intervals_of_normal_samples_are_near_those_of_student(test: Test, paired: bool) -> None:
    given = sample(0.6, paired=paired, sizes=(60, 60))
    ours = invert(given, test, generator())
    if paired:
        found = stats.ttest_rel(given.group, given.against)
    else:
        found = stats.ttest_ind(given.group, given.against, equal_var=False)
    theirs = found.confidence_interval(0.9)

    # Both are first-order exact; with 60 values they differ by a few percent of the interval's width.
    width = theirs.high - theirs.low
    assert ours.low(0.05) == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high(0.05) == pytest.approx(theirs.high, abs=0.05 * width)


def test_equal_groups_give_no_evidence_either_way() -> None:
    ours = invert(Sample((2.0,) * 5, (2.0,) * 5), "permutation", generator())

    assert (ours.p_greater(0.0), ours.p_less(0.0)) == (1.0, 1.0)


def test_a_level_below_the_smallest_p_value_has_no_interval() -> None:
    ours = invert(Sample(GROUP[:3], AGAINST[:3]), "permutation", generator())

    assert smallest_p((3, 3), paired=False, test="permutation") == 1 / 20
    assert (ours.low(0.05) is None, ours.low(0.049) is None) == (False, True)


def test_a_spread_of_zero_decides_where_the_sides_are_apart() -> None:
    ours = invert(Sample((3.0,) * 4, (2.0,) * 3), "permutation", generator())

    assert (ours.p_greater(0.0), ours.p_less(0.0), ours.p_greater(1.0)) == (1 / 35, 1.0, 1.0)


def test_a_bootstrap_is_made_of_pairs_and_of_as_many_as_it_needs() -> None:
    few = sample(0.0, paired=True)

    assert untestable(few, "permutation") is None
    with pytest.raises(BadInput, match="needs 20 pairs, there are 12"):
        invert(few, "bootstrap", generator())
    with pytest.raises(BadInput, match="independent sides take a permutation test"):
        invert(sample(0.0, sizes=(30, 30)), "bootstrap", generator())


def test_values_that_no_shift_explains_are_remarked_on() -> None:
    long_tail = (0.1, 0.2, 0.2, 0.3, 0.4, 0.5, 6.0)
    level = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)

    assert "differences are skewed (2.0)" in (caution(Sample(long_tail, (0.0,) * 7, paired=True)) or "")
    assert "spreads differ" in (caution(Sample(long_tail, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6))) or "")
    assert caution(Sample(long_tail, [3 + value for value in long_tail])) is None
    assert caution(Sample(level, (0.0,) * 7, paired=True)) is None
    assert caution(Sample(level, [9 * value for value in level])) is None


@pytest.mark.parametrize(
    ("scores", "corrected"),
    [
        ((0.2, 0.4, 0.9), (0.6, 0.8, 0.9)),
        ((0.9, 0.1), (0.9, 0.2)),
        ((0.6, 0.2, 0.3), (0.6, 0.6, 0.6)),
        ((), ()),
    ],
)
def test_holm_multiplies_the_sorted_scores_and_never_lets_them_fall(
    scores: tuple[float, ...], corrected: tuple[float, ...]
) -> None:
    assert holm(scores)[1] == pytest.approx(corrected)


def test_after_the_first_that_stands_holm_divides_no_further() -> None:
    # 0.4 x 3 stands; 0.45 alone would fall at the next level, 0.45 x 2.
    assert holm((0.4, 0.45, 0.9))[0] == (3, 3, 3)


@pytest.mark.parametrize("paired", [False, True])
def test_without_an_effect_a_level_is_kept_exactly(paired: bool) -> None:
    """All labellings of fixed values are the null distribution: floor(alpha N) of N fall below alpha."""
    values = [0.3, -1.2, 2.5, 0.9, 4.1, -0.4, 1.7, 3.3]
    if paired:
        signs = itertools.product((1, -1), repeat=8)
        samples = [
            Sample([s * v for s, v in zip(sign, values, strict=True)], [0.0] * 8, True) for sign in signs
        ]
    else:
        chosen = itertools.combinations(range(8), 5)
        samples = [
            Sample([values[i] for i in c], [values[i] for i in range(8) if i not in c]) for c in chosen
        ]
    ps = [invert(one, "permutation", generator()).p_greater(0.0) for one in samples]

    assert sum(p <= 0.05 for p in ps) == math.floor(0.05 * len(samples))


EXPECTATIONS: tuple[Expectation, ...] = ("greater", "less", "different")


@pytest.mark.parametrize("matters", [0.0, 0.5])
@pytest.mark.parametrize("expect", EXPECTATIONS)
def test_the_verdict_can_be_read_off_the_interval(expect: Expectation, matters: float) -> None:
    """Over 30 sets of three trials, a verdict says where its interval lies relative to what matters."""
    seen = set()
    for seed in range(30):
        samples = [sample(shift, seed=3 * seed + n, sizes=(5, 4)) for n, shift in enumerate((-2, 0, 1.5))]
        trials = [Trial(given, expect, 0.1, matters) for given in samples]
        tests: list[Inversion | None] = [invert(given, "permutation", generator(seed)) for given in samples]
        for judged in judge_all(trials, tests):
            low = -math.inf if judged.low is None else judged.low
            high = math.inf if judged.high is None else judged.high
            if expect == "greater":
                beyond, short = low > matters, high < matters
            elif expect == "less":
                beyond, short = high < -matters, low > -matters
            else:
                beyond, short = low > matters or high < -matters, -matters < low and high < matters
            expected = "supported" if beyond else "contradicted" if short else "inconclusive"
            assert judged.verdict == expected
            seen.add(judged.verdict)
    assert seen >= {"supported", "inconclusive"}


def test_a_trial_that_cannot_be_tested_counts_in_the_set() -> None:
    given = sample(1.2)
    alone = judge_all([Trial(given, "greater", 0.05)], [invert(given, "permutation", generator())])
    joined = judge_all(
        [Trial(given, "greater", 0.05), Trial(Sample((), ()), "greater", 0.05)],
        [invert(given, "permutation", generator()), None],
    )

    assert joined[0].p_holm == 2 * alone[0].p_holm
    assert (joined[1].effect, joined[1].p, joined[1].verdict) == (None, 1.0, "inconclusive")
