"""Declared hypotheses: whether what they compare will be measured at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atlas.catalog import Offer
from atlas.manifest.draft import Draft
from atlas.manifest.targets import members
from atlas.manifest.wording import choices, show

__all__ = ["check_hypotheses", "check_selection"]

_OF_SERIES = ("series", "slice")
"""What a slice of a series has besides the attributes of its items: the member's label, the slice's key."""


def check_hypotheses(draft: Draft, data: Mapping[str, Any], source: Offer | None) -> None:
    """Note hypotheses whose step, quantity or groups cannot appear in the run's results."""
    declared = data.get("declare")
    if not isinstance(declared, list):
        return
    listed = data["steps"] if isinstance(data.get("steps"), list) else ()
    steps = {str(step.get("id")): step for step in listed if isinstance(step, dict)}
    seen: dict[str, int] = {}
    for index, hypothesis in enumerate(declared):
        if not isinstance(hypothesis, dict):
            continue
        at = ("declare", index)
        _check_id(draft, hypothesis.get("id"), index, seen)
        _check_quantity(draft, hypothesis.get("quantity"), steps, (*at, "quantity"))
        group, against = hypothesis.get("group"), hypothesis.get("against")
        if isinstance(group, dict) and group and group == against:
            draft.wrong((*at, "against"), "`against` is the same as `group`", "name other slices")
        if hypothesis.get("test") == "bootstrap" and "pair_by" not in hypothesis:
            draft.wrong(
                (*at, "test"),
                "a bootstrap test is made of pairs alone",
                "add `pair_by`, or write `test: permutation`",
            )
        _check_sides(
            draft, hypothesis, _series(draft, data, steps, hypothesis), data.get("stimulus"), source, at
        )


def _check_sides(
    draft: Draft,
    hypothesis: Mapping[str, Any],
    series: Mapping[str, tuple[str, ...]],
    stimulus: Any,
    source: Offer | None,
    at: tuple[str | int, ...],
) -> None:
    """Note sides that no slice is on.

    Args:
        draft: The manifest.
        hypothesis: One entry of `declare`.
        series: The target that the step measures and the labels of its members, where that is a series.
        stimulus: The manifest's entry.
        source: Offers the stimulus.
        at: Where the hypothesis stands.
    """
    if not isinstance(stimulus, dict):
        if stimulus is None:
            draft.wrong(at, "there is no stimulus whose slices could be compared", "add `stimulus`")
        return
    if "each" not in stimulus:
        fix = "divide it: add `each: ...` to `stimulus`"
        draft.wrong(at, "the stimulus is one slice, there is nothing to compare", fix)
    known, pair_by = attributes(source), hypothesis.get("pair_by")
    if known and isinstance(pair_by, str) and pair_by not in (*known, *(("slice",) if series else ())):
        draft.wrong((*at, "pair_by"), f"the items have no attribute `{pair_by}`", choices(pair_by, known))
    for side in ("group", "against"):
        wanted = hypothesis.get(side)
        if isinstance(wanted, dict):
            _check_member(draft, wanted, series, (*at, side))
            own = {name: value for name, value in wanted.items() if name not in _OF_SERIES}
            _check_side(draft, own if series else wanted, stimulus, source, (*at, side))


def _series(
    draft: Draft, data: Mapping[str, Any], steps: Mapping[str, Any], hypothesis: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Return the series of targets that the step of a hypothesis measures, with its labels; or nothing."""
    step = steps.get(str(hypothesis.get("quantity")).partition(".")[0], {})
    name, targets = step.get("target"), data.get("targets")
    entry = targets.get(name) if isinstance(targets, dict) and isinstance(name, str) else None
    if not isinstance(entry, dict) or "series" not in entry:
        return {}
    offer = draft.offers.get(("targets", str(entry.get("use"))))
    return {
        str(name): () if offer is None or draft.mistakes else tuple(m.label for m in members(entry, offer))
    }


def _check_member(
    draft: Draft,
    wanted: Mapping[str, Any],
    series: Mapping[str, tuple[str, ...]],
    at: tuple[str | int, ...],
) -> None:
    """Note a side that names no member of the series that is measured, or a member of none."""
    for target, labels in series.items():
        if "series" not in wanted:
            fix = f"add `series: ...`; {choices('', labels)}"
            draft.wrong(at, f"the step measures a series, and the side names no member of `{target}`", fix)
        elif labels and str(wanted["series"]) not in labels:
            what = f"the series `{target}` has no member {show(wanted['series'])}"
            draft.wrong((*at, "series"), what, choices(wanted["series"], labels))


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
    draft: Draft, text: Any, steps: Mapping[str, Mapping[str, Any]], at: tuple[str | int, ...]
) -> None:
    if not isinstance(text, str) or "." not in text:
        return
    step, _, quantity = text.partition(".")
    if step not in steps:
        draft.wrong(at, f"there is no step `{step}`", choices(step, steps))
        return
    offer = draft.offers.get(("instruments", str(steps[step].get("use"))))
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
