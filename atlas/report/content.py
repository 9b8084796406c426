"""What a report says about a run, gathered from the sealed record and ready for the template."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from atlas.governance import interpretation_closed
from atlas.outcomes import verdicts
from atlas.quantities import Quantity, UncertaintyKind
from atlas.record import Event, GateState, RunView
from atlas.report.numbers import TIMES, format_interval, format_quantity, has_no_scatter
from atlas.report.verdicts import describe_effect, describe_errors

__all__ = ["Answer", "Check", "Item", "Row", "Step", "flatten", "gather"]

_KINDS = {
    UncertaintyKind.EXACT: "exact",
    UncertaintyKind.RESIDUAL_BOUND: "certain within this bound",
    UncertaintyKind.STANDARD_ERROR: "one standard error",
    UncertaintyKind.INTERVAL_95: "95% confidence interval",
    UncertaintyKind.UNCERTIFIED: "no error stated",
    UncertaintyKind.UNDEFINED: "does not exist here",
}


@frozen
class Row:
    """A quantity as its table shows it; the value is cut at its factor `10^n`."""

    name: str
    slice: str
    value: str
    power: str
    unit: str
    kind: str
    converged: bool
    work: str
    note: int | None
    """Number of its footnote below the table."""


@frozen
class Check:
    """A sanity check that an instrument made before it measured."""

    name: str
    passed: bool
    detail: str


@frozen
class Step:
    """A step: what was asked of which instrument, and what came of it."""

    id: str
    use: str
    summary: str
    claims: tuple[str, ...]
    params: tuple[tuple[str, str], ...]
    target: str
    state: str
    checks: tuple[Check, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    machine: tuple[tuple[str, str], ...]
    seed: str
    threads: str
    isolation: str
    seconds: str
    answer: str


@frozen
class Answer:
    """What a person wrote at a gate, or why they passed it by."""

    id: str
    title: str
    stage: str
    text: str
    author: str
    time: str
    via: str
    skipped: str
    amendments: tuple[tuple[str, str, str], ...]


@frozen
class Item:
    """A text that was put before the model."""

    id: str
    text: str
    attributes: str


def gather(view: RunView) -> dict[str, Any]:
    """Return the template's variables that come from the record alone.

    Raises:
        IntegrityBroken: A sealed file is not what was sealed.
    """
    steps = tuple(_steps(view))
    answers = tuple(_answer(view, state) for state in view.gates.values())
    governance = view.manifest.get("governance")
    declared = view.last("declared")
    return {
        "run_id": view.run_id,
        "name": str(view.manifest.get("name", "record collected by hand")),
        "state": view.state,
        "governed": view.governed,
        "by_hand": not view.manifest,
        "remarks": [str(note) for note in _json(view, "environment/plugins.json").get("notes", ())],
        "operator": str(governance.get("operator") or "") if isinstance(governance, Mapping) else "",
        "governance": flatten(governance) if isinstance(governance, Mapping) else (),
        "began": view.events[0].time,
        "ended": view.events[-1].time,
        "atlas": str(view.events[0].data.get("atlas", "")),
        "head": str(view.head),
        "steps": steps,
        "targets": [(name, flatten(entry)) for name, entry in (view.manifest.get("targets") or {}).items()],
        "items": tuple(_items(view)),
        "stimulus": flatten(view.manifest.get("stimulus") or {}),
        "hypotheses": [_hypothesis(h) for h in (declared.data["hypotheses"] if declared else ())],
        "before": [a for a in answers if a.stage == "measure"],
        "after": [a for a in answers if a.stage != "measure" and a.id not in {s.id for s in steps}],
        "overrides": [e.data for e in view.of("override-signed")],
        "records": [e.data for e in view.of("record-linked")],
        "plugins": _plugins(view),
        "environment": _environment(view, {s.id for s in steps}),
        "files": tuple(view.artifacts.values()),
        "journal": [(e.seq + 1, e.time, e.type, _subject(e)) for e in view.events],
        "verdicts": _verdicts(view) if interpretation_closed(view) is None else [],
        "closed": interpretation_closed(view),
        "times": TIMES,
    }


def flatten(value: Mapping[str, Any], prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Return nested settings as (dotted name, text), in their order."""
    result: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            result += flatten(item, f"{name}.")
        else:
            result.append(
                (name, item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, default=str))
            )
    return tuple(result)


def _json(view: RunView, path: str) -> dict[str, Any]:
    if path not in view.artifacts:
        return {}
    data = json.loads(view.read(path))
    return data if isinstance(data, dict) else {}


def _steps(view: RunView) -> Iterator[Step]:
    entries = {step["id"]: step for step in view.manifest.get("steps") or ()}
    finished = {e.data["step"]: e for e in view.of("step-finished")}
    started = {e.data["step"]: e for e in view.of("step-started")}
    failed = {e.data["step"]: e for e in view.of("step-failed")}
    instruments = _json(view, "environment/plugins.json").get("instruments", {})
    quantities: dict[str, list[Quantity]] = {}
    for step, quantity in view.quantities():
        quantities.setdefault(step, []).append(quantity)
    for step in dict.fromkeys([*entries, *finished]):
        entry, start, end = entries.get(step, {}), started.get(step), finished.get(step)
        card = instruments.get(entry.get("use"), {})
        if end is not None:
            state = "finished"
        elif step in view.gates and view.gates[step].skipped:
            state = "skipped"
        elif step in view.gates and not view.gates[step].passed:
            state = "waiting for a person"
        elif step in failed:
            state = f"failed: {failed[step].data.get('message') or failed[step].data.get('reason', '')}"
        else:
            state = "not taken yet" if start is None else "begun"
        answer = f"raw/{step}/answer.md"
        footnotes = tuple(dict.fromkeys(q.note for q in quantities.get(step, ()) if q.note))
        yield Step(
            id=step,
            use=str(entry.get("use", "")),
            summary=str(card.get("summary", "")),
            claims=tuple(str(claim) for claim in card.get("claims", ())),
            params=flatten(entry.get("params") or {}),
            target=str(entry.get("target") or ""),
            state=state,
            checks=tuple(
                Check(e.data["name"], e.data["passed"], str(e.data.get("detail", "")))
                for e in view.of("step-checked")
                if e.data["step"] == step and (start is None or e.seq > start.seq)
            ),
            rows=tuple(_row(quantity, footnotes) for quantity in quantities.get(step, ())),
            footnotes=footnotes,
            facts=flatten(_json(view, f"raw/{step}/facts.json")),
            machine=flatten(_json(view, f"environment/{step}.json")),
            seed=str(start.data["seed"]) if start is not None else "",
            threads=str(start.data.get("threads", "")) if start is not None else "",
            isolation=str(start.data.get("isolation", "")) if start is not None else "",
            seconds=_duration(str(end.data.get("seconds", ""))) if end is not None else "",
            answer=_text(view, answer) if answer in view.artifacts else "",
        )


def _row(quantity: Quantity, footnotes: tuple[str, ...]) -> Row:
    value, _, power = format_quantity(quantity).partition(f" {TIMES} 10^")
    products = [] if quantity.num_matvecs is None else [f"{quantity.num_matvecs} products"]
    samples = [] if quantity.num_samples is None else [f"{quantity.num_samples} samples"]
    return Row(
        name=quantity.quantity if quantity.index is None else f"{quantity.quantity} {quantity.index}",
        slice=quantity.slice,
        value=value,
        power=power,
        unit="" if quantity.unit == "1" else quantity.unit,
        kind="; ".join(part for part in (_kind(quantity), format_interval(quantity)) if part),
        converged=quantity.converged,
        work=", ".join(products + samples),
        note=footnotes.index(quantity.note) + 1 if quantity.note else None,
    )


def _duration(seconds: str) -> str:
    """Write a journal's seconds for people: `61.2` -> `1 min 1 s`."""
    try:
        minutes, rest = divmod(round(float(seconds)), 60)
    except (ValueError, OverflowError):
        return seconds
    return f"{minutes} min {rest} s" if minutes else f"{float(seconds):.2g} s"


def _text(view: RunView, path: str) -> str:
    return view.read(path).decode("utf-8-sig", errors="backslashreplace")


def _answer(view: RunView, state: GateState) -> Answer:
    event = state.answered or state.skipped
    data = event.data if event is not None else {}
    return Answer(
        id=state.id,
        title=str(state.opened.data.get("title", state.id)),
        stage=str(state.opened.data["stage"]),
        text=_text(view, state.answered.data["path"]) if state.answered is not None else "",
        author=str(data.get("author", "")),
        time=event.time if event is not None else "",
        via=str(data.get("via", "")),
        skipped=str(data.get("reason", "")) if state.answered is None else "",
        amendments=tuple(
            (str(e.data["author"]), e.time, _text(view, e.data["path"])) for e in state.amendments
        ),
    )


def _items(view: RunView) -> Iterator[Item]:
    path = "stimulus/items.jsonl"
    for line in view.read(path).splitlines() if path in view.artifacts else ():
        entry = json.loads(line)
        attributes = ", ".join(f"{key}: {value}" for key, value in sorted(entry["attributes"].items()))
        yield Item(entry["id"], entry["text"], attributes)


def _hypothesis(data: Mapping[str, Any]) -> str:
    def group(value: Any) -> str:
        if not isinstance(value, Mapping):
            return str(value)
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "everything"

    if {"id", "quantity", "group", "against", "expect"} <= set(data):
        level = f", to be tested at {data['alpha']}" if "alpha" in data else ""
        if "smallest_effect" in data:
            level += f"; a difference matters from {data['smallest_effect']}"
        return (
            f"{data['id']}: {data['quantity']} for {group(data['group'])} is expected to be "
            f"{data['expect']} than for {group(data['against'])}{level}."
        )
    return ", ".join(f"{key}: {value}" for key, value in flatten(data))


def _verdicts(view: RunView) -> list[dict[str, str]]:
    return [
        {
            "id": row["hypothesis"],
            "verdict": row["verdict"],
            "later": "" if row["registered"] == "declared" else "exploratory: added later, not corrected for",
            "claim": f"{row['quantity']} for {row['group']} is {row['expect']} than for {row['against']}",
            "effect": describe_effect(row),
            "design": row["design"],
            "errors": describe_errors(row),
        }
        for row in verdicts(view)
    ]


def _plugins(view: RunView) -> list[tuple[str, str, str]]:
    pins = _json(view, "environment/plugins.json").get("plugins", {})
    return [
        (name, f"{pin.get('distribution', '')} {pin.get('version', '')}", str(pin.get("card_sha256", "")))
        for name, pin in sorted(pins.items())
    ]


def _environment(view: RunView, steps: set[str]) -> list[tuple[str, str]]:
    result: list[tuple[str, str]] = []
    for path in sorted(view.artifacts):
        name = path.removeprefix("environment/").removesuffix(".json")
        if path in (f"environment/{name}.json",) and name not in steps | {"plugins"}:
            result += flatten(_json(view, path))
    return result


def _subject(event: Event) -> str:
    """Return what an event is about, for the journal's list."""
    data = event.data
    for name in ("gate", "step", "stage", "record", "path", "target", "tier", "run_id", "what"):
        if name in data:
            return str(data[name])
    return ""


def _kind(quantity: Quantity) -> str:
    return "every sample gave this" if has_no_scatter(quantity) else _KINDS[quantity.uncertainty_kind]
