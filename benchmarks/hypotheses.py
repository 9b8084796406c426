"""How often a declared hypothesis is called supported: where there is no effect, and where there is one.

    python benchmarks/hypotheses.py [--row ID] [--quick]

Each row simulates experiments of the shape that the BSA pairs give (12 slices against 9, or 12 pairs; 20
pairs for the bootstrap, which takes no fewer), judges them exactly as a run does, and counts: verdicts where
there is no effect, verdicts where there is one, and intervals that hold the true difference. Baselines: the
nominal level; for power, Student's t-test on the same samples (Welch's between independent sides), by scipy.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from attrs import frozen
from rows import RESULTS, result_row, write
from scipy import stats

from atlas.inference import Sample, Test, invert
from atlas.verdicts import Trial, judge_all

ALPHA = 0.05
SIZES = (12, 9)
SIMULATIONS = 1000
CLOSE = 4
"""Times as many where the smaller side spreads further: 1,000 leave open on which side of 0.07 it lies."""
SEED = 20261123

Values = Any
Noise = Callable[[np.random.Generator, int], Values]
Row = Callable[[str, int], dict[str, Any]]
Draw = Callable[[np.random.Generator, float], Sample]


def main() -> int:
    """Measure the rows that were asked for and write them beside what earlier runs wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--row", action="append", help="rows whose id begins so, such as hypotheses.false_positives"
    )
    parser.add_argument("--quick", action="store_true", help="50 simulations in place of 1,000")
    arguments = parser.parse_args()
    count = 50 if arguments.quick else SIMULATIONS
    chosen = [name for name in ROWS if name.startswith(tuple(arguments.row or [""]))]
    if not chosen:
        parser.error(f"no row {arguments.row!r}; rows are {', '.join(ROWS)}")
    for name in chosen:
        row = ROWS[name](name, count)
        write([row], RESULTS / ("hypotheses-quick.json" if arguments.quick else "hypotheses.json"))
        print(f"{row['id']}: {row['value']:.4g}, against {row['baseline']:.4g}", flush=True)
    return 0


def _normal(generator: np.random.Generator, count: int) -> Values:
    return generator.normal(0, 1, count)


def _log_normal(generator: np.random.Generator, count: int) -> Values:
    """Draw skewed values of mean 0, as curvatures are spread over pairs of claims."""
    return generator.lognormal(0, 1, count) - math.exp(0.5)


def _heavy(generator: np.random.Generator, count: int) -> Values:
    """Draw from Student's t of 3 degrees of freedom, which has a variance and no third moment."""
    return generator.standard_t(3, count)


def between(draw: Noise, spreads: tuple[float, float] = (1.0, 1.0)) -> Draw:
    """Return experiments of 12 values against 9, of one distribution but for their spreads."""

    def experiment(generator: np.random.Generator, shift: float) -> Sample:
        group, against = (s * draw(generator, n) for s, n in zip(spreads, SIZES, strict=True))
        return Sample(group + shift, against)

    return experiment


def pairs(draw: Noise, count: int) -> Draw:
    """Return experiments of pairs that share a part of spread 2; each member adds noise of its own."""

    def experiment(generator: np.random.Generator, shift: float) -> Sample:
        common = generator.normal(0, 2, count)
        first, second = (draw(generator, count) / math.sqrt(2) for _ in range(2))
        return Sample(common + first + shift, common + second, paired=True)

    return experiment


def one_sided(draw: Noise, count: int) -> Draw:
    """Return experiments of pairs of which one member varies; the differences are as skewed as it is."""

    def experiment(generator: np.random.Generator, shift: float) -> Sample:
        return Sample(draw(generator, count) + shift, np.zeros(count), paired=True)

    return experiment


@frozen
class Tally:
    """What came of simulated experiments, as shares of them: verdicts, intervals, and a t-test's."""

    supported: float
    contradicted: float
    covered: float
    t_test: float


@functools.cache
def simulated(draw: Draw, test: Test, shift: float, count: int) -> Tally:
    """Judge simulated experiments, as a run does, for `expect: greater`."""
    seen = np.zeros(4)
    for number in range(count):
        sample = draw(np.random.default_rng((SEED, number, round(100 * shift))), shift)
        inversion = invert(sample, test, np.random.default_rng((SEED, number, round(100 * shift), 1)))
        (judged,) = judge_all([Trial(sample, "greater", ALPHA, 0.0, test)], [inversion])
        assert judged.low is not None
        assert judged.high is not None
        if sample.paired:
            found = stats.ttest_rel(sample.group, sample.against, alternative="greater")
        else:
            found = stats.ttest_ind(sample.group, sample.against, equal_var=False, alternative="greater")
        holds = judged.low <= shift <= judged.high
        seen += [
            judged.verdict == "supported",
            judged.verdict == "contradicted",
            holds,
            found.pvalue <= ALPHA,
        ]
    return Tally(*map(float, seen / count))


def false_positives(draw: Draw, test: Test, what: str, aim: bool, name: str, count: int) -> dict[str, Any]:
    """Share of null simulations in which `greater` was supported."""
    tally = simulated(draw, test, 0.0, count)
    return _row(
        name,
        f"{what}, {test}: share of {count} null simulations supported at alpha {ALPHA} "
        f"({tally.contradicted:.3f} contradicted); a t-test rejected {tally.t_test:.3f}",
        tally.supported,
        ALPHA,
        "nominal",
        count,
        target="0.03 to 0.07" if aim else "none: the test's null does not hold",
        met=0.03 <= tally.supported <= 0.07 if aim else None,
    )


def coverage(draw: Draw, test: Test, what: str, aim: bool, name: str, count: int) -> dict[str, Any]:
    """Share of simulations in which the interval beside the verdict held the true difference.

    Moving all values of a side moves its interval as far, so one true difference stands for all.
    """
    tally = simulated(draw, test, 0.0, count)
    return _row(
        name,
        f"{what}, {test}: share of {count} intervals of 90% that hold the true difference",
        tally.covered,
        1 - 2 * ALPHA,
        "nominal",
        count,
        target="0.86 to 0.94" if aim else "none: the test's null does not hold",
        met=0.86 <= tally.covered <= 0.94 if aim else None,
    )


def family(name: str, count: int) -> dict[str, Any]:
    """Share of null simulations of three hypotheses in which any was supported."""
    hits, draw = 0, between(_normal)
    for number in range(count):
        samples = [draw(np.random.default_rng((SEED, number, 7, n)), 0.0) for n in range(3)]
        tests = [
            invert(sample, "permutation", np.random.default_rng((SEED, number, 8, n)))
            for n, sample in enumerate(samples)
        ]
        judged = judge_all([Trial(sample, "greater", ALPHA) for sample in samples], tests)
        hits += any(one.verdict == "supported" for one in judged)
    return _row(
        name,
        f"three declared hypotheses, permutation, Holm: share of {count} null simulations with any supported",
        hits / count,
        ALPHA,
        "nominal",
        count,
        target="0.03 to 0.07",
        met=0.03 <= hits / count <= 0.07,
    )


def power(draw: Draw, test: Test, what: str, shift: float, name: str, count: int) -> dict[str, Any]:
    """Share of simulations with an effect in which `greater` was supported."""
    tally = simulated(draw, test, shift, count)
    return _row(
        name,
        f"{what}, {test}: share of {count} simulations supported where the means differ by {shift:g} spreads",
        tally.supported,
        tally.t_test,
        f"t-test, scipy {importlib.metadata.version('scipy')}",
        count,
        target="reported",
        met=None,
    )


def _row(
    identifier: str,
    what: str,
    value: float,
    baseline: float,
    baseline_version: str,
    count: int,
    *,
    target: str,
    met: bool | None,
) -> dict[str, Any]:
    return result_row(
        identifier,
        what,
        value,
        sd=math.sqrt(value * (1 - value) / count),
        n=count,
        unit="1",
        baseline=baseline,
        baseline_version=baseline_version,
        target=target,
        met=met,
        packages=("atlas-host", "numpy", "scipy"),
    )


def _designs() -> Iterator[tuple[str, Draw, Test, str, bool]]:
    """Yield key, experiments, test, both in words, and whether the test's null is theirs."""
    noises = (("normal", _normal, "normal"), ("log_normal", _log_normal, "log-normal"), ("t3", _heavy, "t3"))
    for key, draw, name in noises:
        yield f"between.permutation.{key}", between(draw), "permutation", f"12 slices against 9, {name}", True
    for key, draw, name in noises[:2]:
        for group, against in ((1, 3), (3, 1)):
            end = f"spreads_{group}_{against}"
            yield (
                f"between.permutation.{end}" if draw is _normal else f"between.permutation.{key}.{end}",
                between(draw, (group, against)),
                "permutation",
                f"12 slices against 9, {name}, spreads {group} and {against}",
                draw is _normal,
            )
    tests: tuple[tuple[Test, int], ...] = (("permutation", 12), ("bootstrap", 20))
    for test, count in tests:
        for key, draw, name in noises:
            yield f"pairs.{test}.{key}", pairs(draw, count), test, f"{count} pairs, {name}", True
        what = f"{count} pairs whose differences are log-normal"
        yield f"pairs.{test}.skewed", one_sided(_log_normal, count), test, what, False


def _repeated(measure: Row, times: int, name: str, count: int) -> dict[str, Any]:
    return measure(name, times * count)


def _rows() -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for key, draw, test, what, aim in _designs():
        for kind, measure in (("false_positives", false_positives), ("coverage", coverage)):
            rows[f"hypotheses.{kind}.{key}"] = functools.partial(
                _repeated,
                functools.partial(measure, draw, test, what, aim),
                CLOSE if key == "between.permutation.spreads_1_3" else 1,
            )
    rows["hypotheses.false_positives.holm3"] = family
    for key, draw, test, what, aim in _designs():
        for shift in (0.5, 1.0, 1.5) if aim and "spreads" not in key else ():
            rows[f"hypotheses.power.{key}.{shift:g}"] = functools.partial(power, draw, test, what, shift)
    return rows


ROWS = _rows()


if __name__ == "__main__":
    sys.exit(main())
