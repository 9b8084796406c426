"""The stimulus of a run: items selected by the manifest, divided into slices, and sealed as they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atlas.contracts import Slice, StimulusItem
from atlas.errors import BadInput
from atlas.host import Host
from atlas.manifest.model import source_params

__all__ = ["decode", "divide", "encode", "gather"]


def gather(host: Host, entry: Mapping[str, Any], folder: Path) -> tuple[StimulusItem, ...]:
    """Return the items that the entry selects, in the source's order.

    Raises:
        BadInput: An id is used twice, or `where` selects nothing; the message lists the values that
            the attribute takes.
    """
    source = host.load("stimuli", entry["use"])
    params = source_params("stimuli", entry, host.catalog.find("stimuli", entry["use"]))
    items = tuple(source.items(params, folder))
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise BadInput(f"two stimulus items have the id {item.id!r}", where="stimulus")
        seen.add(item.id)
    selected = tuple(item for item in items if _matches(item, entry.get("where") or {}))
    if not selected:
        attributes = {name for item in items for name in item.attributes}
        values = {
            name: sorted({item.attributes.get(name, "") for item in items})[:12]
            for name in sorted(attributes)
        }
        raise BadInput(
            "the stimulus selects no item",
            where="stimulus.where",
            fix="; ".join(f"{name}: {', '.join(taken)}" for name, taken in values.items()) or "add items",
        )
    return selected[: entry.get("limit") or None]


def _matches(item: StimulusItem, where: Mapping[str, Any]) -> bool:
    for name, wanted in where.items():
        allowed = wanted if isinstance(wanted, list) else [wanted]
        if item.attributes.get(name) not in [str(value) for value in allowed]:
            return False
    return True


def divide(items: Sequence[StimulusItem], each: str | None) -> tuple[Slice, ...]:
    """Divide items into slices by an attribute, each by itself (`item`), or into the one slice `all`.

    Raises:
        BadInput: An item does not have the attribute.
    """
    groups: dict[str, list[StimulusItem]] = {}
    for item in items:
        key = "all" if each is None else item.attributes.get(each, item.id if each == "item" else None)
        if key is None:
            raise BadInput(
                f"item {item.id!r} has no attribute {each!r}",
                where="stimulus.each",
                fix=f"its attributes: {', '.join(sorted(item.attributes)) or 'none'}",
            )
        groups.setdefault(key, []).append(item)
    return tuple(
        Slice(
            key,
            tuple(members),
            {
                name: value
                for name, value in members[0].attributes.items()
                if all(member.attributes.get(name) == value for member in members)
            },
        )
        for key, members in groups.items()
    )


def encode(items: Iterable[StimulusItem]) -> bytes:
    """Write items as JSON lines, the form in which they are sealed."""
    return b"".join(
        json.dumps(
            {"id": item.id, "text": item.text, "attributes": dict(item.attributes)}, sort_keys=True
        ).encode("ascii")
        + b"\n"
        for item in items
    )


def decode(data: bytes) -> tuple[StimulusItem, ...]:
    """Read what `encode` wrote."""
    return tuple(StimulusItem(**json.loads(line)) for line in data.splitlines())
