"""Which pairs of a stimulus a set of sessions covers: by this a run is a behavioural record."""

from __future__ import annotations

from collections.abc import Iterable

from atlas_ecm.claims import VERSIONS, load

__all__ = ["covered"]


def covered(items: Iterable[str]) -> tuple[str, ...]:
    """Return the pairs that sessions about these items cover, sorted.

    A pair of the BSA claims is covered where both its members were put. Any other item stands by its own id,
    unless there is white space in it, since a record lists its pairs as words.
    """
    given = set(items)
    found: set[str] = set()
    for release in map(load, VERSIONS):
        members = {pair: {claim.id for claim in both} for pair, both in release.pairs.items()}
        found |= {pair for pair, claims in members.items() if claims <= given}
        given -= set().union(*members.values())
    return tuple(sorted(found | {item for item in given if [item] == item.split()}))
