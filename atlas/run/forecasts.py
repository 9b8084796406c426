"""Which declared hypotheses a run can decide at all, told before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from atlas.catalog import Catalog
from atlas.contracts import Slice
from atlas.inference import MINIMUM, smallest_p
from atlas.manifest.targets import members as series_members
from atlas.run.comparing import SIDES, Side, in_words, members, series_of, series_slices
from atlas.verdicts import holm

__all__ = ["Forecast", "forecasts"]

_MOST = 60
"""Slices a side that a way out may ask for; no permutation test needs more."""


@frozen
class Forecast:
    """What is known of a hypothesis before its run.

    Attributes:
        hypothesis: Its id.
        what: What it compares, `12 slices against 9`, and how.
        obstacle: Why no outcome of its test can decide it; None where one can.
        fix: What to do about that.
        unchecked: Its quantity, where the instrument's card lists none, so that a wrong name is found only
            when it is missing.
    """

    hypothesis: str
    what: str
    obstacle: str | None = None
    fix: str | None = None
    unchecked: str | None = None

    def __str__(self) -> str:
        """Render on one line, with what to do."""
        text = f"hypothesis {self.hypothesis} ({self.what})"
        if self.obstacle is not None:
            text += f" CANNOT BE DECIDED: {self.obstacle}; {self.fix}"
        if self.unchecked is not None:
            text += f"; the card lists no quantities: whether {self.unchecked!r} will be one cannot be told"
        return text


@frozen
class _Sides:
    hypothesis: Mapping[str, Any]
    slices: tuple[Slice, ...]
    group: int
    against: int
    common: int

    @property
    def paired(self) -> bool:
        return self.hypothesis.get("pair_by") is not None

    @property
    def sizes(self) -> tuple[int, int]:
        return (self.common, self.common) if self.paired else (self.group, self.against)

    @property
    def testable(self) -> bool:
        return min(self.sizes) >= MINIMUM[self.hypothesis["test"]]

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that its test can give, both directions counted where both are asked for."""
        return self.p_of(self.sizes) if self.testable else 1.0

    def p_of(self, sizes: tuple[int, int]) -> float:
        one = smallest_p(sizes, paired=self.paired, test=self.hypothesis["test"])
        return min(1.0, one * (2 if self.hypothesis["expect"] == "different" else 1))


def forecasts(data: Mapping[str, Any], catalog: Catalog, slices: Sequence[Slice]) -> tuple[Forecast, ...]:
    """Return a forecast for each declared hypothesis of a resolved manifest.

    A hypothesis can be decided if Holm's method could reject it with every hypothesis of the set at the
    smallest p-value that its test can give: smaller p-values of others never stand in its way.

    Args:
        data: A resolved manifest's values.
        catalog: What is installed; a series of targets is named by its card.
        slices: The stimulus.

    Raises:
        BadInput: The groups of a hypothesis overlap, or its pairs are ambiguous.
    """
    declared = data.get("declare") or []
    sides = [_sides(hypothesis, _of_step(data, catalog, hypothesis, slices)) for hypothesis in declared]
    divisors, corrected = holm([s.smallest_p / s.hypothesis["alpha"] for s in sides])
    return tuple(
        evolve(
            _forecast(side, side.hypothesis["alpha"] / divisor, decidable=score <= 1 + 1e-12),
            unchecked=_unlisted(data, catalog, side.hypothesis["quantity"]),
        )
        for side, divisor, score in zip(sides, divisors, corrected, strict=True)
    )


def _unlisted(data: Mapping[str, Any], catalog: Catalog, quantity: str) -> str | None:
    """Return the quantity's name where the card of the step's instrument lists none."""
    step, _, name = quantity.partition(".")
    used = [catalog.find("instruments", one["use"]) for one in data["steps"] if one["id"] == step]
    return name if used and not used[0].details.get("quantities") else None


def _of_step(
    data: Mapping[str, Any], catalog: Catalog, hypothesis: Mapping[str, Any], slices: Sequence[Slice]
) -> tuple[Slice, ...]:
    target = series_of(data, str(hypothesis["quantity"]).partition(".")[0])
    if target is None:
        return tuple(slices)
    entry = data["targets"][target]
    labels = [member.label for member in series_members(entry, catalog.find("targets", entry["use"]))]
    return series_slices(slices, labels)


def _sides(hypothesis: Mapping[str, Any], slices: tuple[Slice, ...]) -> _Sides:
    found = members(hypothesis, slices)
    group, against = ([m.partner or m.slice for m in found if m.side == side] for side in SIDES)
    return _Sides(hypothesis, slices, len(group), len(against), len({*group} & {*against}))


def _forecast(sides: _Sides, level: float, *, decidable: bool) -> Forecast:
    name, test = str(sides.hypothesis["id"]), sides.hypothesis["test"]
    first, second = sides.sizes
    what = f"{first} pairs" if sides.paired else f"{first} slices against {second}"
    what = f"{what}, {test}"
    empty: Side | None = None if sides.group and sides.against else "against" if sides.group else "group"
    if empty is not None:
        wanted = sides.hypothesis[empty]
        obstacle = f"no slice is on the side `{empty}` ({in_words(wanted)})"
        return Forecast(name, what, obstacle, _offered(wanted, sides.slices))
    if not sides.testable:
        needed = f"a {test} test needs {MINIMUM[test]} {'pairs' if sides.paired else 'slices a side'}"
        fix = "add slices" if test == "permutation" else "write `test: permutation`, or add slices"
        return Forecast(name, what, needed, fix)
    shown = f"{what}, p from {sides.smallest_p:.2g} at a level of {level:.2g}"
    if decidable:
        return Forecast(name, shown)
    obstacle = "no outcome of its test reaches its level"
    return Forecast(name, shown, obstacle, f"{_enough(sides, level)}raise alpha, or declare fewer hypotheses")


def _offered(wanted: Mapping[str, Any], slices: Sequence[Slice]) -> str:
    """Say which values the slices have of the attributes that a side names."""
    parts = []
    for name in wanted:
        taken = sorted({part.attributes[name] for part in slices if name in part.attributes})
        shown = ", ".join(taken[:12]) + (", ..." if len(taken) > 12 else "")
        parts.append(f"{name} is {shown} in this stimulus" if taken else f"no slice has one {name}")
    return "; ".join(parts)


def _enough(sides: _Sides, level: float) -> str:
    """Say how many slices a side, or pairs, would do."""
    for count in range(max(sides.sizes), _MOST):
        if sides.p_of((count, count)) <= level * (1 + 1e-12):
            return f"take {count} {'pairs' if sides.paired else 'slices a side'}, "
    return ""
