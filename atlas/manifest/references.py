"""What steps see of each other and of the Reads, and in which order that is possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atlas.catalog import Offer
from atlas.manifest.draft import Draft
from atlas.manifest.model import Reference, Step
from atlas.manifest.structure import annotated, schema_fault
from atlas.manifest.wording import choices
from atlas.tables import QUANTITIES

__all__ = ["check_references"]

READS: Mapping[str, str] = {"read-0": "measure", "read-1": "interpret", "read-2": "close"}
"""The Reads, and the stage that each of them holds back."""


def tables(offer: Offer) -> tuple[str, ...]:
    """Return the names of the tables that an instrument writes."""
    return tuple(dict.fromkeys([QUANTITIES.name, *offer.details.get("outputs", {})]))


def check_references(draft: Draft, steps: Sequence[tuple[int, Step]], *, governed: bool) -> None:
    """Note every reference that cannot be met.

    Args:
        draft: The manifest.
        steps: The sound steps with their places in the manifest's list.
        governed: Whether there will be Reads.
    """
    by_id = {step.id: step for _, step in steps}
    everyone = _all_ids(draft)
    for index, step in steps:
        for number, reference in enumerate(step.sees):
            at = ("steps", index, "sees", number, "from")
            if reference.step is None:
                _check_read(draft, step, reference, at, governed)
            elif reference.step not in by_id:
                if reference.step not in everyone:
                    others = [name for name in by_id if name != step.id]
                    draft.wrong(at, f"there is no step `{reference.step}`", choices(reference.step, others))
            elif reference.step == step.id:
                draft.wrong(at, "a step cannot see its own results", "remove the reference")
            else:
                _check_part(draft, by_id[reference.step], reference, at)
                _check_order(draft, step, by_id, reference.step, at)
        _check_role(draft, index, step, by_id)
        _check_before(draft, index, step, by_id)


def _all_ids(draft: Draft) -> set[str]:
    steps = draft.document.data.get("steps")
    items = steps if isinstance(steps, list) else []
    return {str(item.get("id")) for item in items if isinstance(item, dict)}


def _check_read(
    draft: Draft, step: Step, reference: Reference, at: tuple[str | int, ...], governed: bool
) -> None:
    stage = READS.get(reference.part)
    if stage is None:
        draft.wrong(at, f"there is no {reference.part}", choices(reference.part, READS))
    elif not governed:
        draft.wrong(
            at,
            f"{reference.part} is written in governed runs only",
            "remove the reference, or name a policy under `governance`",
        )
    elif stage == "close":
        draft.wrong(at, f"{reference.part} is written after all steps", "remove the reference")
    elif stage == "interpret" and step.offer.phase == "measure":
        draft.wrong(
            at, f"{reference.part} is written after the measurements, of which this is one", "see read-0"
        )


def _check_part(draft: Draft, seen: Step, reference: Reference, at: tuple[str | int, ...]) -> None:
    known = ["raw", *tables(seen.offer), *(["answer"] if seen.offer.phase == "interpret" else [])]
    if reference.part not in known:
        draft.wrong(
            at,
            f"the step `{seen.id}` writes no `{reference.part}`",
            choices(str(reference), [f"{seen.id}.{part}" for part in known]),
        )


def _check_order(
    draft: Draft, step: Step, by_id: Mapping[str, Step], seen: str, at: tuple[str | int, ...]
) -> None:
    circle = _circle(by_id, step.id, seen)
    if circle:
        draft.wrong(at, f"steps see each other in a circle: {' -> '.join(circle)}", "remove one reference")
    elif by_id[seen].offer.phase == "interpret" and step.offer.phase == "measure":
        draft.wrong(at, f"`{seen}` interprets, so it runs after this measurement", "remove the reference")


def _circle(by_id: Mapping[str, Step], start: str, seen: str) -> list[str]:
    """Return the steps from `start` over `seen` back to `start`, or nothing."""
    pending = [[start, seen]]
    visited = set()
    while pending:
        way = pending.pop()
        if way[-1] == start:
            return way
        if way[-1] in visited or way[-1] not in by_id:
            continue
        visited.add(way[-1])
        pending += [[*way, r.step] for r in by_id[way[-1]].sees if r.step is not None]
    return []


def _check_role(draft: Draft, index: int, step: Step, by_id: Mapping[str, Step]) -> None:
    """Note what a step sees beyond its role, and what its role lacks.

    A card fixes what a role may see by `x-atlas-sees` on the parameter that names it: a list for each value,
    of `tables` (results of measurements), Reads, and `ROLE.answer` (the answer of a step of that role). All
    but Reads, which ungoverned runs do not have, must be there.
    """
    for role, rules in _roles(step):
        allowed = rules[role]
        kinds = [_kind(reference, by_id) for reference in step.sees]
        told = ", ".join(allowed) or "nothing of the run"
        for number, (reference, kind) in enumerate(zip(step.sees, kinds, strict=True)):
            if kind is not None and kind not in allowed:
                draft.wrong(
                    ("steps", index, "sees", number, "from"),
                    f"a step of role `{role}` may not see {reference}",
                    f"its role sees {told}; remove the reference",
                )
        lacking = [kind for kind in allowed if kind not in READS and kind not in kinds]
        if lacking:
            draft.wrong(
                ("steps", index),
                f"a step of role `{role}` is given no {' and no '.join(lacking)}",
                f"let it see {told}",
            )


def _check_before(draft: Draft, index: int, step: Step, by_id: Mapping[str, Step]) -> None:
    """Note a step that its instrument goes on from, by `needs: {steps: [...]}`, and that it does not see.

    Each instrument named there must have done exactly one of the steps whose `raw` is seen.
    """
    seen = [by_id[r.step] for r in step.sees if r.part == "raw" and r.step is not None and r.step in by_id]
    for use in step.offer.details.get("needs", {}).get("steps", ()):
        found = [other.id for other in seen if other.offer.name == use]
        if len(found) == 1:
            continue
        known = next((other.id for other in by_id.values() if other.offer.name == use), None)
        source = f"`{{from: {known}.raw}}`" if known else f"the `raw` of a step that uses `{use}`"
        draft.wrong(
            ("steps", index),
            f"{step.offer.name!r} goes on from one step that uses `{use}`, and `{step.id}` sees "
            f"{' and '.join(found) or 'none'}",
            f"{'remove one reference' if found else f'add {source}'} under `sees`",
        )


def _roles(step: Step) -> list[tuple[str, Mapping[str, Sequence[str]]]]:
    if schema_fault(step.offer.params) is not None:
        return []  # noted where the parameters are checked
    found = annotated(step.offer.params, step.params, "x-atlas-sees")
    return [(value, rules) for _, value, rules in found if isinstance(value, str) and value in rules]


def _kind(reference: Reference, by_id: Mapping[str, Step]) -> str | None:
    """Return what a reference is in the words of `x-atlas-sees`; None where it leads nowhere."""
    if reference.step is None:
        return reference.part
    seen = by_id.get(reference.step)
    if seen is None:
        return None
    if seen.offer.phase == "measure":
        return "tables"
    role = next((role for role, _ in _roles(seen)), seen.offer.name)
    return f"{role}.{reference.part}"
