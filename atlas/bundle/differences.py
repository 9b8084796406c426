"""What two runs were given and ran on, and where that differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from atlas.bundle.comparison import check_open
from atlas.record import RunView

__all__ = ["Difference", "environment", "inputs"]

_OF_THE_MOMENT = ("seconds", "memory.", "products.seconds")
"""Beginnings of facts that differ each time and are no input."""


@frozen
class Difference:
    """One thing that is not the same in two runs; None where a run lacks it."""

    what: str
    first: str | None
    second: str | None


def inputs(first: RunView, second: RunView, steps: Mapping[str, str]) -> tuple[Difference, ...]:
    """Return what differs in what two runs were given: manifest, seeds, stimulus, models, linked records.

    Args:
        first: A run.
        second: Another.
        steps: The second run's step for each of the first's that it is held against.

    Raises:
        BadInput: See `check_open`.
    """
    check_open((first, second))
    ours, theirs = (dict(_given(view)) for view in (first, second))
    for mine, other in steps.items():
        name = mine if mine == other else f"{mine} / {other}"
        ours |= {f"step {name}: {key}": value for key, value in _of_step(first, mine).items()}
        theirs |= {f"step {name}: {key}": value for key, value in _of_step(second, other).items()}
    return _apart(ours, theirs)


def environment(first: RunView, second: RunView, steps: Mapping[str, str]) -> tuple[Difference, ...]:
    """Return what differs in what two runs ran on and with: machine, Python, plugins, distributions.

    Args:
        first: A run.
        second: Another.
        steps: The second run's step for each of the first's that it is held against.

    Raises:
        BadInput: See `check_open`.
    """
    check_open((first, second))
    renamed = {other: mine for mine, other in steps.items()}
    return _apart(dict(_surroundings(first, {})), dict(_surroundings(second, renamed)))


def _apart(ours: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[Difference, ...]:
    return tuple(
        Difference(key, ours.get(key), theirs.get(key))
        for key in dict.fromkeys((*ours, *theirs))
        if ours.get(key) != theirs.get(key)
    )


def _given(view: RunView) -> Iterator[tuple[str, str]]:
    own = {key: value for key, value in view.manifest.items() if key != "steps"}
    yield from _flat(own, "")
    path = "stimulus/items.jsonl"
    if path in view.artifacts:
        for line in view.read(path).splitlines():
            item = json.loads(line)
            yield (
                f"stimulus item {item['id']}",
                f"{item['text']} {json.dumps(item['attributes'], sort_keys=True)}",
            )
    for event in view.of("record-linked"):
        yield f"behavioural record {event.data['record']}", event.data["head"]


def _of_step(view: RunView, step: str) -> dict[str, str]:
    """Return what one step was given: its entry in the manifest, its seed, and the facts that it stated."""
    entries = [entry for entry in view.manifest.get("steps", ()) if entry["id"] == step]
    found = dict(_flat({k: v for k, v in entries[0].items() if k != "id"}, "")) if entries else {}
    seeds = [event.data["seed"] for event in view.of("step-started") if event.data["step"] == step]
    found |= {"seed": seeds[-1]} if seeds else {}
    path = f"raw/{step}/facts.json"
    facts = json.loads(view.read(path)) if path in view.artifacts else {}
    return found | {f"{k} (stated)": v for k, v in facts.items() if not k.startswith(_OF_THE_MOMENT)}


def _surroundings(view: RunView, renamed: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what stands under `environment/`, the files of steps by the names that `renamed` gives them."""
    yield "atlas", str(view.events[0].data["atlas"])
    for path in sorted(view.artifacts):
        folder, _, name = path.partition("/")
        if folder != "environment":
            continue
        text = view.text(path)
        if name.endswith(".json"):
            data, stem = json.loads(text), name.removesuffix(".json")
            yield from _flat(data["plugins"] if stem == "plugins" else data, renamed.get(stem, stem))
        else:
            yield from (
                (f"{name.removesuffix('.txt')} {line.partition('==')[0]}", line) for line in text.split()
            )


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the leaves of nested mappings and lists by dotted path, as JSON but for texts."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, (Mapping, list)) for item in value):
        for number, item in enumerate(value):
            yield from _flat(item, f"{path}[{number}]")
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)
