"""The instrument `link-sheet`: where the four proxies stand against the declared reference."""

from __future__ import annotations

from typing import Any

from atlas.contracts import StepContext
from atlas.errors import BadInput
from atlas.quantities import Quantity
from atlas_lossyscape.links.comparison import Side, difference, relation, unusable
from atlas_lossyscape.links.references import Measured, Reference, declared_reference, measured_steps
from atlas_lossyscape.vocabulary import Proxy, vocabulary

__all__ = ["MAGNITUDES", "PROVISIONAL", "compare_proxies"]

PROVISIONAL = "PROVISIONAL"

MAGNITUDES = "eigenvalue"
"""The quantity that is ordered by magnitude, and compared so."""

_Row = dict[str, Any]


def compare_proxies(context: StepContext) -> None:
    """Compare each proxy's quantities with the reference, and leave what they mean blank.

    Raises:
        BadInput: Nothing that stands for a proxy was measured, or the reference cannot be used.
    """
    steps, reference = measured_steps(context.inputs), declared_reference(context)
    relations: list[_Row] = []
    references: list[_Row] = []
    for proxy in vocabulary().proxies:
        for measured in steps:
            for quantity in (q for q in measured.quantities if q.quantity == proxy.quantity):
                row, behind = _compare(proxy, measured, quantity, reference, context.params["share"])
                relations.append(row)
                references += behind
    if not relations:
        names = ", ".join(dict.fromkeys(proxy.quantity for proxy in vocabulary().proxies))
        raise BadInput(
            f"the steps that the link sheet sees measured none of {names}",
            where="sees",
            fix="let it see a curvature step",
        )
    for name, value in reference.facts.items():
        context.fact(name, value)
    context.table("relations", relations)
    context.table("references", references)


def _compare(
    proxy: Proxy, measured: Measured, quantity: Quantity, reference: Reference, share: float
) -> tuple[_Row, list[_Row]]:
    key = {
        "signal": proxy.id,
        "step": measured.step,
        "slice": quantity.slice,
        "index": 1 if quantity.index is None else quantity.index,
    }
    behind: list[_Row] = []
    sides: list[Side] = []
    own = unusable(quantity)
    found = reference.find(measured, quantity)
    for label, other in found if own is None else ():
        if unusable(other) is not None:
            continue
        apart = difference(quantity, other, magnitude=proxy.quantity == MAGNITUDES)
        sides.append(apart.side)
        behind.append(
            key
            | {
                "reference": label,
                "value": other.value,
                "uncertainty": other.uncertainty,
                "uncertainty_kind": other.uncertainty_kind.value,
                "difference": apart.value,
                "low": apart.low,
                "high": apart.high,
                "side": apart.side,
            }
        )
    note = own
    if own is None and not sides:
        note = "the reference holds no such value" if not found else "no value of the reference has an error"
    row = key | {
        "quantity": quantity.quantity,
        "value": quantity.value,
        "reference": reference.title,
        "count": len(sides),
        "above": sides.count("above"),
        "below": sides.count("below"),
        "relation": relation(sides, share),
        "toward": "high" if proxy.high else "low",
        "status": PROVISIONAL,
        "note": note,
    }
    return row, behind
