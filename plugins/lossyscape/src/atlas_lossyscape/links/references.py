"""What high and low are relative to, as the manifest says: other slices, other checkpoints, another run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from atlas.contracts import Slice, StepContext
from atlas.errors import BadInput
from atlas.governance import comparison_closed
from atlas.quantities import Quantity
from atlas.record import RunView, open_record
from atlas.tables import QUANTITIES, TableSchema, read_csv

__all__ = ["Measured", "Reference", "declared_reference", "measured_steps"]

_OTHERS = "others"
_SAME = ("engine", "operator", "parameter_filter")
"""Facts of a curvature step without which two of its numbers are not the same quantity."""


@frozen
class Measured:
    """What a step measured.

    Attributes:
        step: Its id.
        quantities: In their order.
        places: (checkpoint, stimulus slice) by the key of a quantity; an empty checkpoint for a lone target.
        facts: What it recorded of its settings.
    """

    step: str
    quantities: tuple[Quantity, ...]
    places: Mapping[str, tuple[str, str]]
    facts: Mapping[str, str]


@frozen
class Reference:
    """A reference that was declared.

    Attributes:
        title: For people.
        find: Returns (label, quantity) of what one quantity of a step is compared with.
        facts: What the record must hold of it.
    """

    title: str
    find: Callable[[Measured, Quantity], list[tuple[str, Quantity]]]
    facts: Mapping[str, str]


def measured_steps(inputs: Mapping[str, Path]) -> list[Measured]:
    """Return what the steps measured that a step sees, by the paths of their sealed tables.

    Raises:
        BadInput: None of them holds quantities.
    """
    found = []
    for path in sorted(inputs):
        folder, _, name = path.rpartition("/")
        if name != "quantities.csv":
            continue

        def text(file: str, folder: str = folder) -> bytes | None:
            copy = inputs.get(f"{folder}/{file}")
            return None if copy is None else copy.read_bytes()

        found.append(_measured(folder.removeprefix("raw/"), text))
    if not found:
        raise BadInput(
            "the link sheet sees no quantities",
            where="sees",
            fix="write `sees: [{from: STEP.raw}]`, with the step that measured the curvature",
        )
    return found


def declared_reference(context: StepContext) -> Reference:
    """Return the reference that the step's parameters declare.

    Raises:
        BadInput: It selects nothing, or a run that may not be compared yet.
    """
    declared: Mapping[str, Any] = context.params["reference"]
    if "slices" in declared:
        return _slices(declared["slices"], context.slices)
    if "checkpoints" in declared:
        return _checkpoints(declared["checkpoints"])
    return _run(Path(declared["run"]))


def _measured(step: str, text: Callable[[str], bytes | None]) -> Measured:
    rows = read_csv(QUANTITIES, text("quantities.csv") or b"", where=f"raw/{step}/quantities.csv")
    quantities = tuple(Quantity(**(row | {"note": row["note"] or ""})) for row in rows)  # type: ignore[arg-type]
    facts = json.loads(text("facts.json") or b"{}")
    series, schema = text("series.csv"), text("series.schema.json")
    places = {q.slice: ("", q.slice) for q in quantities}
    if series is not None and schema is not None:
        table = TableSchema.from_descriptor(json.loads(schema))
        rows = read_csv(table, series, where=f"raw/{step}/series.csv")
        many = len({row["slice"] for row in rows}) > 1
        for row in rows:
            label, part = str(row["label"]), str(row["slice"])
            places[f"{label}: {part}" if many else label] = (label, part)
    return Measured(step, quantities, places, facts)


def _matching(measured: Measured, quantity: Quantity, keys: Iterable[str]) -> list[tuple[str, Quantity]]:
    wanted = set(keys) - {quantity.slice}
    return [
        (other.slice, other)
        for other in measured.quantities
        if other.slice in wanted and (other.quantity, other.index) == (quantity.quantity, quantity.index)
    ]


def _slices(which: Any, slices: Sequence[Slice]) -> Reference:
    if which == _OTHERS:
        chosen, title = {part.key for part in slices}, "all other slices"
    else:
        chosen = {p.key for p in slices if all(p.attributes.get(n) in values for n, values in which.items())}
        title = "slices with " + ", ".join(f"{n}: {' or '.join(v)}" for n, v in which.items())
    if len(chosen | {part.key for part in slices}) < 2 or not chosen:
        raise BadInput(
            f"the reference ({title}) has no slice to compare with: the stimulus has {len(slices)}",
            where="reference.slices",
            fix="divide the stimulus by `each`, name attributes that its slices have, or take another run",
        )

    def find(measured: Measured, quantity: Quantity) -> list[tuple[str, Quantity]]:
        checkpoint = measured.places[quantity.slice][0]
        keys = [k for k, (label, part) in measured.places.items() if label == checkpoint and part in chosen]
        return _matching(measured, quantity, keys)

    return Reference(title, find, {"reference": title})


def _checkpoints(which: Any) -> Reference:
    title = "all other checkpoints" if which == _OTHERS else f"checkpoints {', '.join(which)}"

    def find(measured: Measured, quantity: Quantity) -> list[tuple[str, Quantity]]:
        labels = {label for label, _ in measured.places.values()} - {""}
        unknown = [] if which == _OTHERS else sorted(set(which) - labels)
        if unknown or not labels:
            raise BadInput(
                f"step {measured.step} measured no checkpoint {', '.join(unknown) or 'of a series'}",
                where="reference.checkpoints",
                fix=f"name some of {', '.join(sorted(labels))}" if labels else "give its target a `series`",
            )
        part = measured.places[quantity.slice][1]
        named = labels if which == _OTHERS else set(which)
        keys = [k for k, (label, own) in measured.places.items() if own == part and label in named]
        return _matching(measured, quantity, keys)

    return Reference(title, find, {"reference": title})


def _run(folder: Path) -> Reference:
    view = open_record(folder)
    closed = comparison_closed(view)
    if closed is not None:
        raise BadInput(
            f"{view.run_id} may not be compared with yet: {closed}",
            where="reference.run",
            fix="seal the Reads of that run first",
        )
    steps = {step: _measured(step, _reader(view, step)) for step in view.finished_steps()}

    def find(measured: Measured, quantity: Quantity) -> list[tuple[str, Quantity]]:
        other = steps.get(measured.step)
        if other is None:
            raise BadInput(
                f"{view.run_id} has no step {measured.step}",
                where="reference.run",
                fix=f"call the step as there: {', '.join(steps)}",
            )
        apart = [name for name in _SAME if measured.facts.get(name) != other.facts.get(name)]
        if apart:
            raise BadInput(
                f"step {measured.step} measured another quantity in {view.run_id}: {', '.join(apart)} differ",
                where="reference.run",
                fix="compare runs with equal settings",
            )
        found = [
            o
            for o in other.quantities
            if (o.quantity, o.index, o.slice) == (quantity.quantity, quantity.index, quantity.slice)
        ]
        return [(f"{view.run_id}, {o.slice}", o) for o in found]

    return Reference(
        f"run {view.run_id}",
        find,
        {"reference": f"run {view.run_id}", "reference.head": str(view.head)},
    )


def _reader(view: RunView, step: str) -> Callable[[str], bytes | None]:
    def text(file: str) -> bytes | None:
        path = f"raw/{step}/{file}"
        return view.read(path) if path in view.artifacts else None

    return text
