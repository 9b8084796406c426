"""A run's metadata and environment as label and value, taken from its sealed files and journal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from atlas.record import RunView

__all__ = ["environment", "metadata"]


def metadata(view: RunView) -> tuple[tuple[str, str], ...]:
    """Return what identifies a run: models, slice, seeds, versions, dates, journal head."""
    return tuple((label, value) for label, value in _metadata(view) if value)


def _metadata(view: RunView) -> Iterator[tuple[str, str]]:
    manifest = view.manifest
    created = view.events[0]
    yield "Run id", view.run_id
    yield "Manifest", f"{manifest.get('name', '')} (lineage {manifest.get('lineage', '')})"
    yield "Protocol", _protocol(manifest)
    yield "Steps", "\n".join(_step(step) for step in manifest.get("steps", ()))
    for name, target in (manifest.get("targets") or {}).items():
        yield f"Model {name}", str(target.get("id") or target.get("path") or target.get("use"))
        yield f"Checkpoint of {name}", _plain({k: v for k, v in target.items() if k != "id"})
    for event in view.of("target-fetched"):
        yield f"Opened with ({event.data['target']})", str(event.data["params"])
    yield from _weights(view)
    yield from _stimulus(view)
    yield "Hypotheses declared", "\n".join(_plain(entry) for entry in manifest.get("declare") or ()) or "none"
    yield "Base seed", f"{manifest.get('seed', '')} (policy: {manifest.get('seed_policy', '')})"
    yield "Effective seeds", "\n".join(_seeds(view)) or "known once Read #0 is sealed and a step has started"
    yield "Atlas", str(created.data.get("atlas", ""))
    yield "Created", created.time
    for gate, state in view.gates.items():
        if state.answered is not None:
            yield f"Sealed: {gate}", f"{state.answered.time} by {state.answered.data['author']}"
        if state.skipped is not None:
            yield f"Skipped: {gate}", f"{state.skipped.time} by {state.skipped.data['author']}"
    yield "Journal head of this copy", str(view.head)


def _step(step: Mapping[str, Any]) -> str:
    params = _plain(step.get("params") or {})
    return f"{step['id']}: {step['use']}" + (f" ({params})" if params else "")


def _protocol(manifest: Mapping[str, Any]) -> str:
    entry = manifest.get("governance")
    return f"{entry['use']} {entry['version']}" if isinstance(entry, Mapping) else "none"


def _plain(value: Any) -> str:
    """Spell a mapping on one line, `key: value, key: value`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return str(value)


def _weights(view: RunView) -> Iterator[tuple[str, str]]:
    for step in view.finished_steps():
        path = f"raw/{step}/facts.json"
        if path in view.artifacts:
            for name, value in json.loads(view.read(path)).items():
                if name.startswith("target."):
                    yield f"{step}: {name.removeprefix('target.')}", value


def _stimulus(view: RunView) -> Iterator[tuple[str, str]]:
    entry = view.manifest.get("stimulus")
    if not entry or "stimulus/items.jsonl" not in view.artifacts:
        return
    yield "Stimulus slice", _plain(entry)
    items = [json.loads(line) for line in view.read("stimulus/items.jsonl").splitlines()]
    pairs = dict.fromkeys(str(item["attributes"].get("pair", "")) for item in items)
    yield "Items", f"{len(items)}, sha256 {view.artifacts['stimulus/items.jsonl'].sha256}"
    yield "Pair ids", ", ".join(pair for pair in pairs if pair)
    if not any(pairs):
        yield "Item ids", ", ".join(item["id"] for item in items)
    for event in view.of("record-linked"):
        yield (
            "Behavioural record",
            f"{event.data['record']}, Tier {event.data['tier']}, head {event.data['head']}",
        )


def _seeds(view: RunView) -> Iterator[str]:
    for event in view.of("step-started"):
        yield f"{event.data['step']}, attempt {event.data['attempt']}: {event.data['seed']}"


def environment(view: RunView) -> tuple[tuple[str, str], ...]:
    """Return what the files sealed under `environment/` say, each file's digest before its content."""
    pairs: list[tuple[str, str]] = []
    for path, artifact in view.artifacts.items():
        if not path.startswith("environment/"):
            continue
        pairs.append((path, f"sha256 {artifact.sha256}"))
        if path == "environment/plugins.json":
            plugins = json.loads(view.read(path)).get("plugins", {})
            pairs += [(f"plugin {name}", _plain(pin)) for name, pin in plugins.items()]
        elif path.endswith(".json"):
            pairs += _entries(json.loads(view.read(path)))
    return tuple(pairs)


def _entries(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the entries of a file, those of one prefix such as `module.` on one line."""
    grouped: dict[str, dict[str, Any]] = {}
    for key, value in content.items():
        group, _, name = key.partition(".")
        if name:
            grouped.setdefault(group, {})[name] = value
        else:
            yield key, _plain(value)
    yield from ((group, _plain(values)) for group, values in grouped.items())
