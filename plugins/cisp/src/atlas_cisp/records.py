"""The behavioural record that a run hangs on: whether it is there, whole, and about the same pairs."""

from __future__ import annotations

import json
from collections.abc import Iterable

from attrs import frozen

from atlas.errors import AtlasError
from atlas.record import Event, RunView, open_record

__all__ = ["BehaviouralRecord", "is_record", "linked_records", "pairs_used", "record_tier", "shortfall"]


@frozen
class BehaviouralRecord:
    """A record as a run linked it.

    Attributes:
        record: Its run id.
        head: Its journal head when it was linked, `length:hash`.
        fault: Why it does not support the run, or None.
        caveat: What it says that it lacks, such as models, or nothing; it supports the run all the same.
        event: The run's `record-linked` event.
    """

    record: str
    head: str
    fault: str | None
    caveat: str
    event: Event


def pairs_used(view: RunView) -> frozenset[str]:
    """Return the ids of the pairs in a run's sealed stimulus; an item without a pair stands by its own id."""
    if "stimulus/items.jsonl" not in view.artifacts:
        return frozenset()
    items = (json.loads(line) for line in view.read("stimulus/items.jsonl").splitlines())
    return frozenset(item["attributes"].get("pair", item["id"]) for item in items)


def record_tier(record: RunView) -> str | None:
    """Return the tier that a record's own journal ends in; None if it is unfinished or abandoned."""
    end = record.last("finished")
    return None if end is None or record.last("abandoned") is not None else str(end.data["tier"])


def shortfall(record: RunView, used: frozenset[str]) -> str | None:
    """Return why a record does not support a run on these pairs, or None where it does.

    A record states the pairs that it covers as the fact `pairs`, words separated by a space.

    Raises:
        IntegrityBroken: A file of the record differs from what was sealed.
    """
    for path in record.artifacts:
        record.read(path)
    facts = [json.loads(record.read(p)) for p in record.artifacts if p.endswith("/facts.json")]
    stated = [str(entry["pairs"]) for entry in facts if "pairs" in entry]
    if not stated:
        return "it states no pairs, so it is no behavioural record"
    if not used:
        return "the run has no sealed stimulus that it could cover"
    left = sorted(used - {pair for pairs in stated for pair in pairs.split()})
    if left:
        more = ", ..." if len(left) > 5 else ""
        return f"it does not cover {', '.join(left[:5])}{more} ({len(left)} of {len(used)} pairs used)"
    return None


def is_record(view: RunView, steps: Iterable[str]) -> bool:
    """Return whether a run is itself a behavioural record of its stimulus: all these steps state its pairs.

    A run of which another step measures something else is none, since a record comes before what hangs on it.
    """
    used = pairs_used(view)
    paths = [f"raw/{step}/facts.json" for step in steps]
    stated = [
        json.loads(view.read(path)).get("pairs", "") if path in view.artifacts else "" for path in paths
    ]
    return bool(used and stated) and all(used <= set(str(pairs).split()) for pairs in stated)


def _check(view: RunView, event: Event, used: frozenset[str]) -> str | None:
    try:
        record = open_record(view.root / event.data["folder"])
        if str(record.head) != event.data["head"]:
            return f"its journal ends in {record.head}; linked was {event.data['head']}"
        if record.run_id != event.data["record"]:
            return f"its copy is of {record.run_id}"
        return shortfall(record, used)
    except AtlasError as error:
        return f"its copy is not whole: {error}"


def linked_records(view: RunView) -> tuple[BehaviouralRecord, ...]:
    """Return every record that the run linked, checked file by file against its journal."""
    used = pairs_used(view)
    return tuple(
        BehaviouralRecord(str(e.data["record"]), str(e.data["head"]), fault, _caveat(view, e, fault), e)
        for e in view.of("record-linked")
        for fault in (_check(view, e, used),)
    )


def _caveat(view: RunView, event: Event, fault: str | None) -> str:
    """Return what a sound record states as its `minimum` where it is not met."""
    if fault is not None:
        return ""
    record = open_record(view.root / event.data["folder"])
    facts = [json.loads(record.read(path)) for path in record.artifacts if path.endswith("/facts.json")]
    return "; ".join(str(entry["minimum"]) for entry in facts if entry.get("minimum", "met") != "met")
