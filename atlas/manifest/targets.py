"""What a manifest's targets stand for: members of a series, and targets that parameters name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from atlas.catalog import Offer
from atlas.manifest.draft import Draft
from atlas.manifest.model import source_params
from atlas.manifest.structure import annotated, fill, schema_fault
from atlas.manifest.tree import Document, KeyPath
from atlas.manifest.wording import choices, show

__all__ = ["Member", "check_named_targets", "members", "named_targets", "settled"]


@frozen
class Member:
    """One target of a series, or a plain target, whose label is empty.

    Attributes:
        label: The varied value; of paths, as many last parts as tell them apart.
        params: What the target's source gets, defaults filled in.
    """

    label: str
    params: Mapping[str, Any]


def members(entry: Mapping[str, Any], offer: Offer) -> tuple[Member, ...]:
    """Return the targets that an entry of a resolved manifest stands for, in its order."""
    base = source_params("targets", entry, offer)
    if "series" not in entry:
        return (Member("", base),)
    ((name, values),) = entry["series"].items()
    params = [fill(offer.params, {**base, name: value}) for value in values]
    paths = any((name,) == at for at, _, _ in annotated(offer.params, params[0], "x-atlas-path"))
    return tuple(map(Member, _labels(values, paths=paths), params))


def _labels(values: Sequence[Any], *, paths: bool) -> list[str]:
    if not paths:
        return [value if isinstance(value, str) else json.dumps(value) for value in values]
    parts = [Path(value).parts for value in values]
    for length in range(1, max(map(len, parts))):
        ends = ["/".join(part[-length:]) for part in parts]
        if len(set(ends)) == len(set(values)):
            return ends
    return list(values)


def settled(draft: Draft, entry: Any, path: KeyPath) -> Any:
    """Check an entry of `targets` by its card, each member of a series like a plain target.

    Returns:
        The entry with the card's defaults filled in and its paths settled, those of the series too.
    """
    series = entry.get("series") if isinstance(entry, dict) else None
    if not isinstance(series, dict) or len(series) != 1 or draft.document.is_flawed((*path, "series")):
        return draft.source("targets", entry, path)
    ((name, values),) = series.items()
    at = (*path, "series", name)
    if not isinstance(values, list) or not values or any(isinstance(v, (dict, list)) for v in values):
        return entry  # the format's own schema says so
    if name in entry:
        draft.wrong((*path, name), f"`{name}` is given here and in `series`", "remove one of them", key=True)
        return entry
    before = len(draft.mistakes)
    found = []
    for index, value in enumerate(values):
        one = {key: item for key, item in entry.items() if key != "series"} | {name: value}
        aliased = evolve(draft, document=_placed(draft.document, (*at, index), at, (*path, name)))
        found.append(aliased.source("targets", one, path))
    offer = draft.offers.get(("targets", str(entry.get("use"))))
    result = {key: item for key, item in found[0].items() if all(one.get(key) == item for one in found)}
    result |= {"series": {name: [one[name] for one in found]}}
    if offer is not None and len(draft.mistakes) == before:
        _refuse_twins(draft, values, [member.label for member in members(result, offer)], at)
    return {**{key: result[key] for key in entry if key in result}, **result}


def _refuse_twins(draft: Draft, values: Sequence[Any], labels: Sequence[str], at: KeyPath) -> None:
    first: dict[str, int] = {}
    for index, label in enumerate(labels):
        if label in first:
            place = draft.document.place((*at, first[label])).text
            draft.wrong(
                (*at, index), f"the series holds {show(values[index])} twice, first at {place}", "remove one"
            )
        first.setdefault(label, index)


def _placed(document: Document, value: KeyPath, key: KeyPath, path: KeyPath) -> Document:
    """Return a document in which a parameter stands at `path` that a series writes at `value`."""
    return evolve(
        document,
        places={**document.places, path: document.place(value)},
        key_places={**document.key_places, path: document.place(key, key=True)},
        raw={**document.raw, **({path: document.raw[value]} if value in document.raw else {})},
        flawed=document.flawed | ({path} if document.is_flawed(value) else set()),
    )


def named_targets(offer: Offer, params: Any) -> tuple[str, ...]:
    """Return the other targets that an instrument's parameters name (`x-atlas-target: true`), sorted."""
    return tuple(sorted({name for _, name in _named(offer, params)}))


def _named(offer: Offer, params: Any) -> Iterator[tuple[KeyPath, str]]:
    if schema_fault(offer.params) is not None:
        return  # noted where the parameters are checked
    for at, value, _ in annotated(offer.params, params, "x-atlas-target"):
        if isinstance(value, str):
            yield at, value


def check_named_targets(draft: Draft, targets: Any, offer: Offer, params: Any, path: KeyPath) -> None:
    """Note parameters that name no target, or a series where one model is wanted.

    Args:
        draft: The manifest.
        targets: Its `targets`.
        offer: The instrument.
        params: Its parameters.
        path: Where they stand.
    """
    entries = targets if isinstance(targets, dict) else {}
    for at, name in _named(offer, params):
        if name not in entries:
            fix = choices(name, entries) if entries else "add it under `targets`"
            draft.wrong((*path, *at), f"there is no target `{name}`", fix)
        elif isinstance(entries[name], dict) and "series" in entries[name]:
            draft.wrong((*path, *at), f"the target `{name}` is a series", "name a target that is one model")
