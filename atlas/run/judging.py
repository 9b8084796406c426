"""Judging a run's hypotheses once interpretation is open, and sealing what came out.

Those of the manifest's `declare` are judged together, once, as `hypotheses-judged`. One that somebody
thought of later is judged alone, as `hypothesis-explored`: its row says *exploratory*, and it never enters
the correction of the declared set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from atlas.errors import BadInput
from atlas.governance import GovernancePolicy, comparison_closed, interpretation_closed
from atlas.inference import caution, invert, untestable
from atlas.outcomes import FOLDER, SLICES, VERDICTS, verdicts
from atlas.randomness import RandomStreams, derive_seed
from atlas.record import RunView, canonical_json, spelled
from atlas.resampling import RESAMPLES
from atlas.run.comparing import Comparison, compared, in_words, require_both_sides, series_of
from atlas.run.journal import Journal
from atlas.run.stepper import effective_seed
from atlas.run.store import Deposit, Store
from atlas.tables import to_csv
from atlas.verdicts import Judgement, Trial, judge_all

__all__ = ["explore", "judge"]

_ID = re.compile(r"[a-z][a-z0-9_-]{0,39}")

Hypothesis = Mapping[str, Any]

_COMPLETE: dict[str, Any] = {"test": "permutation", "alpha": 0.05}
"""What a manifest says that was resolved before it had to."""


def judge(journal: Journal, store: Store, policy: GovernancePolicy | None) -> None:
    """Judge the declared hypotheses of a run, once; nothing is done where it declares none.

    Raises:
        BadInput: numpy is not installed, or a hypothesis fits no slices of the run.
    """
    view = journal.view()
    declared = [_COMPLETE | hypothesis for hypothesis in view.manifest.get("declare") or ()]
    event = view.last("declared")
    if not declared or event is None or view.last("hypotheses-judged") is not None:
        return
    rows, slices = _judged(view, policy, declared, "declared")
    store.seal_together(
        "hypotheses-judged",
        {"declared": event.seq + 1, "verdicts": {row["hypothesis"]: row["verdict"] for row in rows}},
        _deposits("hypotheses", rows, slices),
    )


def explore(journal: Journal, store: Store, policy: GovernancePolicy | None, hypothesis: Hypothesis) -> None:
    """Judge a hypothesis that was added to a run later, alone, labelled exploratory.

    Raises:
        BadInput: Interpretation is closed yet, its id is taken, its step has not finished, or see `judge`.
    """
    view = journal.view()
    name = hypothesis["id"]
    closed = interpretation_closed(view)
    if closed is not None:
        raise BadInput(f"hypotheses are closed: {closed}", fix=f"atlas status {view.run_id}")
    if not _ID.fullmatch(name):
        raise BadInput(f"{name!r} is no id", fix="a lower-case letter, then up to 39 of a-z, 0-9, - and _")
    if name in {row["hypothesis"] for row in verdicts(view)}:
        raise BadInput(f"{view.run_id} has a hypothesis {name!r} already", fix="choose another id")
    step = str(hypothesis["quantity"]).partition(".")[0]
    known = {f"{owner}.{quantity.quantity}" for owner, quantity in view.quantities()}
    if hypothesis["quantity"] not in known:
        offered = sorted(item for item in known if item.startswith(f"{step}.")) or sorted(known)
        raise BadInput(
            f"the run measured no {hypothesis['quantity']}", fix=f"name one of: {', '.join(offered)}"
        )
    if hypothesis["test"] == "bootstrap" and hypothesis.get("pair_by") is None:
        raise BadInput(
            "a bootstrap test is made of pairs alone", fix="add --pair-by ATTRIBUTE, or --test permutation"
        )
    apart = _kept_apart(view, hypothesis)
    if apart is not None:
        raise BadInput(f"models cannot be compared: {apart}", fix=f"atlas status {view.run_id}")
    require_both_sides(view, hypothesis)
    rows, slices = _judged(view, policy, [hypothesis], "exploratory")
    store.seal_together(
        "hypothesis-explored",
        {"hypothesis": spelled(dict(hypothesis)), "verdict": rows[0]["verdict"]},
        _deposits(f"exploratory-{name}", rows, slices),
    )


def _kept_apart(view: RunView, hypothesis: Hypothesis) -> str | None:
    """Return why the members of a series may not be held against each other, or None.

    Interpretation opens in a governed run also when a Read was skipped; a comparison of models does not.
    """
    step = str(hypothesis["quantity"]).partition(".")[0]
    return None if series_of(view.manifest, step) is None else comparison_closed(view)


def _deposits(name: str, rows: Sequence[Any], slices: Sequence[Any]) -> list[Deposit]:
    result = []
    for stem, schema, content in ((name, VERDICTS, rows), (f"slices/{name}", SLICES, slices)):
        result.append(Deposit(f"{FOLDER}/{stem}.csv", to_csv(schema, content), "table"))
        descriptor = canonical_json(schema.descriptor())
        result.append(Deposit(f"{FOLDER}/{stem}.schema.json", descriptor, "schema"))
    return result


def _judged(
    view: RunView, policy: GovernancePolicy | None, hypotheses: Sequence[Hypothesis], registered: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    comparisons = [_comparison(view, hypothesis) for hypothesis in hypotheses]
    streams = RandomStreams(derive_seed(effective_seed(view, policy), "hypotheses"))
    trials, tests = [], []
    for hypothesis, comparison in zip(hypotheses, comparisons, strict=True):
        sample, test = comparison.sample, hypothesis["test"]
        matters = float(hypothesis.get("smallest_effect") or 0.0)
        trials.append(Trial(sample, hypothesis["expect"], float(hypothesis["alpha"]), matters, test))
        generator = (
            None if untestable(sample, test) else streams.generator("hypothesis", name=hypothesis["id"])
        )
        tests.append(None if generator is None else invert(sample, test, generator))
    rows = [
        _row(hypothesis, registered, comparison, trial, judgement)
        for hypothesis, comparison, trial, judgement in zip(
            hypotheses, comparisons, trials, judge_all(trials, tests), strict=True
        )
    ]
    slices = [
        {
            "hypothesis": hypothesis["id"],
            "side": member.side,
            "slice": member.slice,
            "partner": member.partner,
            "value": quantity.value,
            "uncertainty": quantity.uncertainty,
            "uncertainty_kind": quantity.uncertainty_kind.value,
            "converged": quantity.converged,
        }
        for hypothesis, comparison in zip(hypotheses, comparisons, strict=True)
        for member, quantity in comparison.values
    ]
    return rows, slices


def _comparison(view: RunView, hypothesis: Hypothesis) -> Comparison:
    apart = _kept_apart(view, hypothesis)
    if apart is None:
        return compared(view, hypothesis)
    return Comparison((), hypothesis.get("pair_by") is not None, (f"models were not compared: {apart}",))


def _row(
    hypothesis: Hypothesis, registered: str, comparison: Comparison, trial: Trial, judged: Judgement
) -> dict[str, Any]:
    reason = untestable(trial.sample, trial.test)
    corrected = registered == "declared"
    row = {
        "hypothesis": hypothesis["id"],
        "registered": registered,
        "quantity": hypothesis["quantity"],
        "group": in_words(hypothesis["group"]),
        "against": in_words(hypothesis["against"]),
        "expect": hypothesis["expect"],
        "smallest_effect": hypothesis.get("smallest_effect"),
        "alpha": trial.alpha,
        "design": _design(hypothesis, trial),
        "n_group": len(trial.sample.group),
        "n_against": len(trial.sample.against),
        "effect": judged.effect,
        "unit": comparison.unit,
        "verdict": judged.verdict,
        "note": "; ".join(
            part
            for part in (
                reason,
                *comparison.notes,
                _fragile(comparison, trial, judged),
                caution(trial.sample) if reason is None else None,
            )
            if part
        ),
    }
    if reason is None:
        row |= {
            "low": judged.low,
            "high": judged.high,
            "coverage": judged.coverage,
            "p": judged.p,
            "p_holm": judged.p_holm if corrected else None,
            "p_opposite": judged.p_opposite,
            "p_opposite_holm": judged.p_opposite_holm if corrected else None,
            "measurement_bound": comparison.bound,
            "measurement_error": comparison.standard_error,
        }
    return row


def _design(hypothesis: Hypothesis, trial: Trial) -> str:
    sample = trial.sample
    first, second = len(sample.group), len(sample.against)
    every = 2**first if sample.paired else math.comb(first + second, first)
    if trial.test == "bootstrap":
        how = f"symmetric, studentised, {RESAMPLES} drawn"
    else:
        count = f"all {every}" if every <= RESAMPLES else f"{RESAMPLES} of {every}"
        how = f"{count} changes of sign" if sample.paired else f"studentised, {count} relabellings"
    if sample.paired:
        return f"{trial.test} of the differences of {first} pairs by {hypothesis['pair_by']}: {how}"
    return f"{trial.test} between {first} and {second} independent slices: {how}"


def _fragile(comparison: Comparison, trial: Trial, judged: Judgement) -> str:
    """Say so where the values' own errors could carry an end of the interval across what matters."""
    thresholds = {trial.smallest_effect, -trial.smallest_effect}
    if trial.expect != "different":
        thresholds = {trial.smallest_effect * (1 if trial.expect == "greater" else -1)}
    ends = [end for end in (judged.low, judged.high) if end is not None]
    reach = comparison.bound + 1.96 * comparison.standard_error
    if reach > 0 and any(abs(end - threshold) <= reach for end in ends for threshold in thresholds):
        return "the values' own errors could change this verdict"
    return ""
