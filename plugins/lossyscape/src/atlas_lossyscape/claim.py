"""The archaeological claim on one slice: are costly tokens in curved places, however rare?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from attrs import asdict

from atlas.quantities import Quantity
from atlas_lossyscape.correlation import Correlation, matched_spearman, partial_spearman, spearman
from atlas_lossyscape.matching import Matching, match_controls
from atlas_lossyscape.tokens import TokenMeasure

__all__ = ["claim_quantities", "token_rows"]

_TOO_FEW = "too few tokens, or ranks that do not differ"


def token_rows(measured: Sequence[TokenMeasure]) -> list[dict[str, Any]]:
    """Return the rows of the table `tokens`, each with its pair and role in it."""
    rows = [asdict(token) | {"pair": None, "role": None} for token in measured]
    bent, matching = _matched(measured)
    places = {id(token): number for number, token in enumerate(measured)}
    if matching is not None:
        for role, members in (("token", matching.stimulus), ("control", matching.control)):
            for pair, member in enumerate(members, start=1):
                rows[places[id(bent[member])]] |= {"pair": pair, "role": role}
    return rows


def claim_quantities(measured: Sequence[TokenMeasure], key: str) -> Iterator[Quantity]:
    """Yield the rank correlations of loss with curvature, and how well tokens and controls match.

    Args:
        measured: The slice's tokens; those without curvature are left out.
        key: The slice's.
    """
    bent, matching = _matched(measured)
    loss = np.array([token.loss for token in bent])
    curvature = np.array([token.curvature for token in bent], dtype=np.float64)
    plain = spearman(loss, curvature) if bent else None
    yield _correlation("perplexity_curvature", plain, key, "all tokens, as if independent")
    partial = partial_spearman(loss, curvature, _rarity(bent)) if bent else None
    yield _correlation("perplexity_curvature_partial", partial, key, "rank of rarity partialled out")
    half = 0 if matching is None else len(matching.stimulus) // 2
    for name, pairs, what in (
        ("perplexity_curvature_matched", slice(None), "all pairs"),
        ("perplexity_curvature_frequent", slice(half), "the pairs of more frequent tokens"),
        ("perplexity_curvature_rare", slice(half, None), "the pairs of rarer tokens"),
    ):
        found = None if matching is None else matched_spearman(loss, curvature, matching, pairs)
        words = f"{what}: token less control of nearest rarity and position"
        yield _correlation(name, found, key, words)
    if matching is not None:
        note = "mean gap of token and control in rank, of that of all pairs; 0 is a perfect match, 1 none"
        for name, gap in (
            ("matching_rarity_gap", matching.rarity_gap),
            ("matching_position_gap", matching.position_gap),
        ):
            yield Quantity(name, gap, 0.0, "exact", num_samples=len(matching.stimulus), slice=key, note=note)


def _matched(measured: Sequence[TokenMeasure]) -> tuple[list[TokenMeasure], Matching | None]:
    """Return the tokens that have a curvature, and their matching where there are two."""
    bent = [token for token in measured if token.curvature is not None]
    if len(bent) < 2:
        return bent, None
    position = np.array([token.position for token in bent], dtype=np.float64)
    return bent, match_controls(_rarity(bent), position)


def _rarity(tokens: Sequence[TokenMeasure]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return ranks by rarity: fewer occurrences, then a later entry of the vocabulary.

    The merges of byte pair encoding go by frequency, so that later entries are rarer.
    """
    order = sorted(range(len(tokens)), key=lambda i: (-tokens[i].count, tokens[i].token))
    rarity = np.empty(len(tokens))
    rarity[order] = np.arange(len(tokens), dtype=np.float64)
    return rarity


def _correlation(name: str, found: Correlation | None, key: str, what: str) -> Quantity:
    if found is None:
        return Quantity(name, None, None, "undefined", slice=key, note=f"{what}: {_TOO_FEW}")
    return Quantity(
        name,
        found.rho,
        max(found.high - found.rho, found.rho - found.low),
        "interval_95",
        num_samples=found.count,
        slice=key,
        low=found.low,
        high=found.high,
        note=f"Spearman, {what}",
    )
