"""The report's section on the paired claims: tiers, gaps of the pairs, and the detection of foils."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from atlas.contracts import Fragment
from atlas_ecm.claims import TIERS
from atlas_ecm.schemas import SCORES
from atlas_ecm.sections.sessions import table
from atlas_ecm.sections.strips import Mark, Row, draw

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["render"]

_TITLES = {
    "tier_mean": "mean score of the tier",
    "truth_mean": "mean score of the claims that are",
    "gap_mean": "mean gap, true minus other",
    "gap_magnitude_mean": "mean size of the gap",
    "spread_mean": "spread across models",
    "foil_auc": "true above fabricated, share of pairs of claims",
}


def render(view: RunView, step: str) -> Fragment:
    """Render a step of the instrument `bsa`."""
    scores = view.tables(step)[SCORES.name]
    facts: dict[str, str] = json.loads(view.text(f"raw/{step}/facts.json"))
    count = len(facts["pairs"].split())
    lead = (
        f"{facts['stimulus']}, {count} pairs; models and lineages: {facts['model_lineages']}. "
        "Scores run from 0, certainly false, to 100, certainly true. Intervals are 95%, over pairs."
    )
    minimum = facts["minimum"]
    parts = [f"<p>{escape(lead)}</p>"]
    if minimum != "met":
        parts.append(f'<p class="warning">This record is {escape(minimum)}.</p>')
    parts.append(_tiers(scores, facts["models"].split()))
    parts.append(_gaps(scores))
    return Fragment("Paired claims: how likely models hold them to be", "\n".join(parts))


def _tiers(scores: Sequence[Mapping[str, Any]], models: Sequence[str]) -> str:
    whole = [row for row in scores if row["pair"] is None and row["claim_id"] is None]
    by_model = {(_of(row), row["model"] or ""): row for row in whole}
    shown = ["", *models] if len(models) > 1 else [""]

    def rows() -> Iterator[Sequence[str]]:
        for tier, quantity, truth in dict.fromkeys(map(_of, whole)):
            title = _TITLES[quantity] + (f" {truth}" if truth else "")
            cells = (_value(by_model.get(((tier, quantity, truth), model))) for model in shown)
            yield (escape(tier), escape(title), *map(escape, cells))

    heads = (
        "tier",
        "quantity",
        *(model or ("all models" if len(models) > 1 else models[0]) for model in shown),
    )
    return table(heads, rows())


def _of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["tier"], row["quantity"], row["truth"] or ""


def _value(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if row["value"] is None:
        return f"undefined: {row['note']}"
    ends = "" if row["low"] is None else f" ({row['low']:.3g} to {row['high']:.3g})"
    return f"{row['value']:.3g}{ends}"


def _gaps(scores: Sequence[Mapping[str, Any]]) -> str:
    found = [row for row in scores if row["quantity"] == "pair_gap" and row["value"] is not None]
    pairs = dict.fromkeys(
        (row["tier"], row["pair"]) for tier in TIERS for row in found if row["tier"] == tier
    )
    drawn = [
        Row(f"{pair} {tier}", tuple(Mark(r["value"], *_ends(r)) for r in found if r["pair"] == pair))
        for tier, pair in pairs
    ]
    if not drawn:
        return ""
    caption = (
        "Gap of each pair, a point for each model: the true member minus the other; in contested pairs a "
        "minus b. Bars are two standard errors over wordings, where a model was asked in several."
    )
    picture = draw(drawn, axis="gap, points of the scale", reference=0.0)
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def _ends(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    error = row["uncertainty"]
    if not error:
        return None, None
    return row["value"] - 2 * error, row["value"] + 2 * error
