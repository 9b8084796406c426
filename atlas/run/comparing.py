"""The two sides of a hypothesis, as a run's record holds them: which slices, which values, which errors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from attrs import frozen

from atlas.contracts import Slice
from atlas.errors import BadInput
from atlas.inference import Sample
from atlas.quantities import Quantity, UncertaintyKind
from atlas.record import RunView
from atlas.run.stimulus import decode, divide

__all__ = [
    "Comparison",
    "Member",
    "compared",
    "in_words",
    "members",
    "require_both_sides",
    "series_of",
    "series_slices",
]

Side = Literal["group", "against"]
SIDES: tuple[Side, Side] = ("group", "against")


@frozen
class Member:
    """A slice on one side of a hypothesis; `partner` is its value of `pair_by`, empty where unpaired."""

    slice: str
    side: Side
    partner: str


@frozen
class Comparison:
    """What a hypothesis compares.

    Attributes:
        values: Each slice that has a value, with what was measured there; pairs in one order on both sides.
        paired: Whether slices of the two sides belong together.
        notes: What was left out and what the values lack, in words.
    """

    values: tuple[tuple[Member, Quantity], ...]
    paired: bool
    notes: tuple[str, ...]

    def side(self, side: Side) -> tuple[Quantity, ...]:
        """Return what was measured on one side."""
        return tuple(quantity for member, quantity in self.values if member.side == side)

    @property
    def sample(self) -> Sample:
        """The values alone."""
        group, against = ([q.value or 0.0 for q in self.side(side)] for side in SIDES)
        return Sample(group, against, self.paired)

    @property
    def unit(self) -> str:
        """The values' unit, empty where there are none."""
        return next((quantity.unit for _, quantity in self.values), "")

    @property
    def bound(self) -> float:
        """How far residual bounds together could move the difference of the means."""
        return math.fsum(
            math.fsum(_error(q) for q in part if q.uncertainty_kind is UncertaintyKind.RESIDUAL_BOUND)
            / len(part)
            for part in map(self.side, SIDES)
            if part
        )

    @property
    def standard_error(self) -> float:
        """Standard error that the values' own standard errors give the difference of the means."""
        kinds = (UncertaintyKind.STANDARD_ERROR, UncertaintyKind.INTERVAL_95)
        return math.sqrt(
            math.fsum(
                math.fsum(_error(q) ** 2 for q in part if q.uncertainty_kind in kinds) / len(part) ** 2
                for part in map(self.side, SIDES)
                if part
            )
        )


def _error(quantity: Quantity) -> float:
    error = quantity.uncertainty or 0.0
    return error / 1.96 if quantity.uncertainty_kind is UncertaintyKind.INTERVAL_95 else error


def in_words(attributes: Mapping[str, Any]) -> str:
    """Write a selection of slices for people: `tier contested`."""
    return ", ".join(f"{name} {value}" for name, value in attributes.items()) or "everything"


def series_of(manifest: Mapping[str, Any], step: str) -> str | None:
    """Return the name of the target that a step measures, where that is a series, else None."""
    named = {item["id"]: item.get("target") for item in manifest.get("steps") or ()}
    name = named.get(step)
    return name if name is not None and "series" in manifest["targets"][name] else None


def series_slices(slices: Sequence[Slice], labels: Iterable[str]) -> tuple[Slice, ...]:
    """Return the slices of a step that measures a series: each stimulus slice of each member.

    Their attributes are those of the stimulus slice, and `series` and `slice`: the member's label, its key.
    They are keyed as instruments record them: `LABEL: SLICE`, or `LABEL` where the stimulus is one slice.
    """
    return tuple(
        Slice(
            label if len(slices) == 1 else f"{label}: {part.key}",
            part.items,
            {**part.attributes, "series": label, "slice": part.key},
        )
        for label in labels
        for part in slices
    )


def _slices(view: RunView, step: str) -> tuple[Slice, ...]:
    """Return the slices of a run's step; none where the run has no stimulus."""
    entry = view.manifest.get("stimulus")
    if not entry:
        return ()
    slices = divide(decode(view.read("stimulus/items.jsonl")), entry.get("each"))
    target = series_of(view.manifest, step)
    if target is None:
        return slices
    opened = [e.data.get("member", "") for e in view.of("target-fetched") if e.data["target"] == target]
    return series_slices(slices, dict.fromkeys(filter(None, opened)))


def members(hypothesis: Mapping[str, Any], slices: Sequence[Slice]) -> tuple[Member, ...]:
    """Return the slices of both sides, in the stimulus's order.

    Raises:
        BadInput: A slice is on both sides, two slices of one side have the same partner, or one stimulus
            slice stands on both sides, of two members of a series, and is not paired with itself.
    """
    pair_by = hypothesis.get("pair_by")
    where = f"hypothesis {hypothesis['id']}"
    found = []
    for part in slices:
        sides = [side for side in SIDES if _matches(part, hypothesis[side])]
        if len(sides) == 2:
            raise BadInput(f"slice {part.key!r} is on both sides", where=where, fix="name groups that differ")
        if sides and pair_by is not None and pair_by not in part.attributes:
            raise BadInput(
                f"slice {part.key!r} has no one value of {pair_by!r} to be paired by",
                where=where,
                fix="divide the stimulus so that each slice has one: `each: item` puts every item apart",
            )
        found += [Member(part.key, side, part.attributes[pair_by] if pair_by else "") for side in sides]
    twice = [pair for pair, count in Counter((m.side, m.partner) for m in found).items() if count > 1]
    if pair_by is not None and twice:
        side, partner = twice[0]
        raise BadInput(f"two slices of `{side}` have {pair_by} {partner!r}", where=where)
    if pair_by is None:
        _refuse_twins(found, slices, where)
    return tuple(found)


def _refuse_twins(found: Sequence[Member], slices: Sequence[Slice], where: str) -> None:
    """Refuse to call sides independent that are the same texts, measured of two models."""
    shown = {
        part.key: part.attributes.get("slice") if "series" in part.attributes else None for part in slices
    }
    sides = [{shown.get(m.slice) for m in found if m.side == side} - {None} for side in SIDES]
    twins = sorted(str(key) for key in sides[0] & sides[1])
    if twins:
        raise BadInput(
            f"slice {twins[0]!r} is on both sides, of two members of the series: they are not independent",
            where=where,
            fix="pair them: `pair_by: slice`",
        )


def _matches(part: Slice, wanted: Mapping[str, Any]) -> bool:
    return all(part.attributes.get(name) == str(value) for name, value in wanted.items())


def require_both_sides(view: RunView, hypothesis: Mapping[str, Any]) -> None:
    """Refuse a hypothesis of which a side selects no slice of the run.

    Raises:
        BadInput: The message says which side, and what the slices have.
    """
    slices = _slices(view, str(hypothesis["quantity"]).partition(".")[0])
    present = {member.side for member in members(hypothesis, slices)}
    for side in ("group", "against"):
        if side not in present:
            pairs = sorted({f"{name}={value}" for part in slices for name, value in part.attributes.items()})
            raise BadInput(
                f"no slice of the run has {in_words(hypothesis[side])}",
                where=side,
                fix=f"slices have: {', '.join(pairs[:20])}" if pairs else "the run has no slices",
            )


def compared(view: RunView, hypothesis: Mapping[str, Any]) -> Comparison:
    """Return what a hypothesis compares in a run whose steps have been measured.

    A slice without a value is left out, with its partner where it has one, and a note says so.

    Raises:
        BadInput: See `members`; or the step has several values of the quantity for one slice.
    """
    step, _, name = str(hypothesis["quantity"]).partition(".")
    measured: dict[str, Quantity] = {}
    for owner, quantity in view.quantities():
        if (owner, quantity.quantity) == (step, name):
            if quantity.slice in measured:
                raise BadInput(
                    f"step {step} has several values of {name} for slice {quantity.slice!r}",
                    where=f"hypothesis {hypothesis['id']}",
                    fix="name a quantity that each slice has one of, such as lambda_max",
                )
            measured[quantity.slice] = quantity
    wanted = members(hypothesis, _slices(view, step))
    present = [member for member in wanted if _value(measured, member) is not None]
    paired = hypothesis.get("pair_by") is not None
    if paired:
        both = {m.partner for m in present if m.side == "group"} & {
            m.partner for m in present if m.side == "against"
        }
        present = sorted((m for m in present if m.partner in both), key=lambda m: m.partner)
    values = tuple((member, measured[member.slice]) for member in present)
    return Comparison(values, paired, tuple(_notes(wanted, values)))


def _value(measured: Mapping[str, Quantity], member: Member) -> float | None:
    return measured[member.slice].value if member.slice in measured else None


def _notes(wanted: Sequence[Member], values: Sequence[tuple[Member, Quantity]]) -> Iterator[str]:
    kept = {member for member, _ in values}
    for what, keys in (
        ("left out, without a value or a partner", [m.slice for m in wanted if m not in kept]),
        ("not converged", [m.slice for m, q in values if not q.converged]),
        (
            "no error stated",
            [m.slice for m, q in values if q.uncertainty_kind is UncertaintyKind.UNCERTIFIED],
        ),
    ):
        if keys:
            yield f"{what}: {', '.join(keys)}"
