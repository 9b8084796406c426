"""Declared hypotheses: whether what they compare will be measured at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atlas.catalog import Offer
from atlas.manifest.draft import Draft
from atlas.manifest.wording import choices, show

__all__ = ["check_hypotheses", "check_selection"]


def check_hypotheses(draft: Draft, data: Mapping[str, Any], source: Offer | None) -> None:
    """Note hypotheses whose step, quantity or groups cannot appear in the run's results."""
    declared = data.get("declare")
    if not isinstance(declared, list):
        return
    instruments = {
        str(step.get("id")): draft.offers.get(("instruments", str(step.get("use"))))
        for step in (data["steps"] if isinstance(data.get("steps"), list) else ())
        if isinstance(step, dict)
    }
    stimulus = data.get("stimulus")
    seen: dict[str, int] = {}
    for index, hypothesis in enumerate(declared):
        if not isinstance(hypothesis, dict):
            continue
        at = ("declare", index)
        _check_id(draft, hypothesis.get("id"), index, seen)
        _check_quantity(draft, hypothesis.get("quantity"), instruments, (*at, "quantity"))
        group, against = hypothesis.get("group"), hypothesis.get("against")
        if isinstance(group, dict) and group and group == against:
            draft.wrong((*at, "against"), "`against` is the same as `group`", "name other slices")
        if not isinstance(stimulus, dict):
            if stimulus is None:
                draft.wrong(at, "there is no stimulus whose slices could be compared", "add `stimulus`")
            continue
        if "each" not in stimulus:
            draft.wrong(
                at,
                "the stimulus is one slice, there is nothing to compare",
                "divide it: add `each: ...` to `stimulus`",
            )
        known, pair_by = attributes(source), hypothesis.get("pair_by")
        if known and isinstance(pair_by, str) and pair_by not in known:
            draft.wrong((*at, "pair_by"), f"the items have no attribute `{pair_by}`", choices(pair_by, known))
        for side in ("group", "against"):
            if isinstance(hypothesis.get(side), dict):
                _check_side(draft, hypothesis[side], stimulus, source, (*at, side))


def check_selection(draft: Draft, stimulus: Any, source: Offer | None) -> None:
    """Note selections by attributes that the source's card does not have."""
    known = attributes(source)
    if not isinstance(stimulus, dict) or not known:
        return
    each, where = stimulus.get("each"), stimulus.get("where")
    if isinstance(each, str) and each not in (*known, "item"):
        draft.wrong(("stimulus", "each"), f"the items have no attribute `{each}`", choices(each, known))
    for name in where if isinstance(where, dict) else ():
        if name not in known:
            at = ("stimulus", "where", name)
            draft.wrong(at, f"the items have no attribute `{name}`", choices(name, known), key=True)


def attributes(source: Offer | None) -> tuple[str, ...]:
    """Return the attributes that a source's card names; empty where they depend on its input."""
    return tuple(source.details.get("attributes", ())) if source is not None else ()


def _check_id(draft: Draft, name: Any, index: int, seen: dict[str, int]) -> None:
    if isinstance(name, str) and name in seen:
        first = draft.document.place(("declare", seen[name], "id")).text
        draft.wrong(("declare", index, "id"), f"the id {show(name)} is taken, at {first}", "choose another")
    elif isinstance(name, str):
        seen[name] = index


def _check_quantity(
    draft: Draft, text: Any, instruments: Mapping[Any, Offer | None], at: tuple[str | int, ...]
) -> None:
    if not isinstance(text, str) or "." not in text:
        return
    step, _, quantity = text.partition(".")
    if step not in instruments:
        draft.wrong(at, f"there is no step `{step}`", choices(step, [str(name) for name in instruments]))
        return
    offer = instruments[step]
    known = tuple(offer.details.get("quantities", ())) if offer is not None else ()
    if known and quantity not in known:
        draft.wrong(at, f"the step `{step}` measures no `{quantity}`", choices(quantity, known))


def _check_side(
    draft: Draft,
    side: Mapping[str, Any],
    stimulus: Mapping[str, Any],
    source: Offer | None,
    at: tuple[str | int, ...],
) -> None:
    known = attributes(source)
    where = stimulus.get("where")
    for name, value in side.items():
        if known and name not in known:
            draft.wrong((*at, name), f"the items have no attribute `{name}`", choices(name, known), key=True)
        kept = where.get(name) if isinstance(where, dict) else None
        if kept is not None and value not in (kept if isinstance(kept, list) else [kept]):
            draft.wrong(
                (*at, name),
                f"`stimulus.where` leaves no item whose {name} is {show(value)}",
                f"add it to `where`, or compare one of: {show(kept)}",
            )
