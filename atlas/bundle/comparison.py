"""Runs held against each other: which may be, and which quantities of them are the same ones.

A quantity is what it is by the instrument that measured it, its name, index, unit and slice; what a manifest
calls the step does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from atlas.bundle.grade import grade
from atlas.errors import BadInput
from atlas.governance import comparison_closed
from atlas.quantities import Agreement, Quantity
from atlas.record import RunView

__all__ = ["Line", "check_open", "match_steps", "side_by_side", "unmatched"]


@frozen
class Line:
    """One quantity of several runs.

    Attributes:
        step: The first run's step that measured it.
        name: Quantity, with index and slice where it has them.
        values: What was measured, by run id, the first run's first; runs that lack it are absent.
        agreement: How well each other run agrees with the first, by run id.
    """

    step: str
    name: str
    values: dict[str, Quantity] = field(factory=dict)
    agreement: dict[str, Agreement] = field(factory=dict)

    def as_record(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {
            "step": self.step,
            "name": self.name,
            "values": {run: quantity.as_record() for run, quantity in self.values.items()},
            "agreement": {run: agreement.value for run, agreement in self.agreement.items()},
        }


def check_open(views: Iterable[RunView]) -> None:
    """Refuse runs that may not be held against others yet; whoever compares runs calls this first.

    Raises:
        BadInput: A governed run's Read #0 or Read #1 is not sealed.
    """
    for view in views:
        closed = comparison_closed(view)
        if closed is not None:
            raise BadInput(f"{view.run_id} cannot be compared: {closed}", fix=f"atlas status {view.run_id}")


def match_steps(first: RunView, other: RunView, declared: Mapping[str, str]) -> dict[str, str]:
    """Return, for steps of the first run, the other's step that does the same.

    Declared pairs come first, then steps of the same id and instrument, then an instrument's only step that
    is left on both sides. Where an instrument has several left, none of them is matched.

    Raises:
        BadInput: A declared step is in neither run, or in the wrong one.
    """
    ours, theirs = _instruments(first), _instruments(other)
    for names, steps, view in ((declared, ours, first), (declared.values(), theirs, other)):
        for step in names:
            if step not in steps:
                measured = ", ".join(steps) or "none"
                raise BadInput(f"{view.run_id} finished no step {step!r}", fix=f"its steps are: {measured}")
    matched = dict(declared)
    for step, instrument in ours.items():
        if step not in matched and theirs.get(step) == instrument and step not in matched.values():
            matched[step] = step
    for instrument in dict.fromkeys(ours.values()):
        left = [s for s, use in ours.items() if use == instrument and s not in matched]
        free = [s for s, use in theirs.items() if use == instrument and s not in matched.values()]
        if len(left) == len(free) == 1:
            matched[left[0]] = free[0]
    return matched


def unmatched(first: RunView, other: RunView, matched: Mapping[str, str]) -> tuple[str, ...]:
    """Return in words which steps with quantities found no counterpart, of both runs."""
    told = []
    for view, known in ((first, set(matched)), (other, set(matched.values()))):
        instruments = _instruments(view)
        told += [
            f"step {step} of {view.run_id} ({instruments[step]})"
            for step in dict.fromkeys(step for step, _ in view.quantities())
            if step not in known
        ]
    return tuple(told)


def _instruments(view: RunView) -> dict[str, str]:
    """Return the instrument of each finished step; of a record made by hand, the step's own name."""
    used = {step["id"]: step["use"] for step in view.manifest.get("steps", ())}
    return {step: used.get(step, step) for step in view.finished_steps()}


def side_by_side(
    views: Sequence[RunView], *, names: Iterable[str] = (), declared: Mapping[str, str] | None = None
) -> tuple[Line, ...]:
    """Return a line for each quantity of the first run that another has too.

    Args:
        views: Two runs or more.
        names: Quantities that are wanted; none for all.
        declared: Steps of the other runs by the first run's step that they are to stand beside.

    Raises:
        BadInput: See `check_open` and `match_steps`.
    """
    check_open(views)
    first, *others = views
    wanted, found = set(names), dict[tuple[str, str], Line]()
    for other in others:
        for one in grade(first, other, match_steps(first, other, declared or {})):
            if one.repeated is None or (wanted and one.recorded.quantity not in wanted):
                continue
            line = found.setdefault(
                (one.step, one.name), Line(one.step, one.name, {first.run_id: one.recorded})
            )
            line.values[other.run_id] = one.repeated
            line.agreement[other.run_id] = one.agreement
    return tuple(found.values())
