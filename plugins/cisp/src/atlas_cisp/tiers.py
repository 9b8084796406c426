"""The fidelity tier: each condition of the protocol, decided by the record.

| not met | the run falls to |
| --- | --- |
| governed; sanitisation sheet; Read #0 before any model file; a behavioural record; a measurement | C |
| everything else: order, isolation, clean packages, Reads #1 and #2, the synthesis | B |
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from atlas.errors import IntegrityBroken
from atlas.governance import Condition, Tier, TierReport
from atlas.record import Event, RunView
from atlas_cisp import PROTOCOL
from atlas_cisp.gates import SANITISATION, complete
from atlas_cisp.order import Order, place
from atlas_cisp.plan import plan_problems, role_of
from atlas_cisp.records import is_record, linked_records

__all__ = ["tier_report"]

OUTPUT_BEGUN = "output begun"
"""Name of the check that a step journals when the first byte of a model's output has come."""


def tier_report(view: RunView, options: Mapping[str, Any]) -> TierReport:
    """Compute the tier of a run.

    Args:
        view: The run; it may be unfinished, and then has the tier that it supports so far.
        options: Its manifest's `governance` entry.
    """
    order = Order(view)
    return TierReport.of(
        (
            _governed(view),
            _answered_first(
                order, SANITISATION, "the sanitisation sheet was completed before any model file"
            ),
            _answered_first(order, "read-0", "Read #0 was sealed before any model file"),
            _declared_first(order),
            linked(view, options),
            _measured(order),
            _environment(order),
            _isolated(order),
            _planned(order),
            _clean(order),
            _asked_once(order),
            _unsigned(view),
            read_1_in_order(order),
            _synthesis(order, options),
            _read_2_last(order),
        )
    )


def _condition(name: str, otherwise: Tier, met: bool, evidence: str) -> Condition:
    return Condition(name=name, met=met, evidence=evidence, otherwise=otherwise)


def _governed(view: RunView) -> Condition:
    entry = view.manifest.get("governance", "none")
    met = view.governed and isinstance(entry, Mapping) and entry.get("use") == "cisp"
    evidence = (
        f"manifest.resolved.yaml and {place(view.events[0])}" if met else "the manifest names no governance"
    )
    return _condition("the run is governed by this protocol", "C", met, evidence)


def _answered_first(order: Order, gate: str, name: str) -> Condition:
    answer, touch = order.answered(gate), order.touch
    if answer is None:
        return _condition(name, "C", False, order.missing(gate))
    if touch is not None and answer.seq > touch.seq:
        late = f"{order.sealed(answer)}, after {touch.type} ({place(touch)})"
        return _condition(name, "C", False, late)
    gaps = [p for p in complete(gate, _text(order.view, answer)) if not p.overridable]
    if gaps:
        return _condition(name, "C", False, f"{answer.data['path']}: {gaps[0].message}")
    return _condition(name, "C", True, order.sealed(answer))


def _text(view: RunView, answer: Event) -> str:
    path = str(answer.data["path"])
    try:
        return view.read(path).decode("utf-8")
    except (KeyError, UnicodeDecodeError) as error:
        raise IntegrityBroken("a sealed answer cannot be read", where=path) from error


def _declared_first(order: Order) -> Condition:
    name = "hypotheses were declared before any model file"
    wanted = order.view.manifest.get("declare") or ()
    touch = order.touch
    if not wanted:
        return _condition(name, "B", True, "the manifest declares none; Read #0 is the declaration")
    event = next(order.view.of("declared"), None)
    if event is None:
        return _condition(name, "B", False, f"{len(wanted)} in the manifest, none journaled")
    late = touch is not None and event.seq > touch.seq
    after = f", after {touch.type} ({place(touch)})" if late and touch is not None else ""
    return _condition(name, "B", not late, f"{len(wanted)} declared, {place(event)}{after}")


def linked(view: RunView, options: Mapping[str, Any]) -> Condition:
    """Decide whether a behavioural record covers the stimulus used: one that is named, or the run itself."""
    name = "the stimulus slice is linked to a behavioural record"
    named = [str(options[key]) for key in ("bsa_record", "ecm_record") if options.get(key)]
    if not named and is_record(view, finished := _measuring(view)):
        return _condition(name, "C", True, f"the run is one itself: {', '.join(finished)} states its pairs")
    if not named:
        return _condition(name, "C", False, "the manifest names neither bsa_record nor ecm_record")
    records = linked_records(view)
    if not records:
        return _condition(name, "C", False, f"{', '.join(named)}: not found when the run was prepared")
    sound = next((r for r in records if r.fault is None), None)
    if sound is None:
        return _condition(name, "C", False, "; ".join(f"{r.record}: {r.fault}" for r in records))
    evidence = f"{sound.record}, head {sound.head}, {place(sound.event)}"
    return _condition(name, "C", True, evidence + (f"; the record is {sound.caveat}" if sound.caveat else ""))


def _measuring(view: RunView) -> tuple[str, ...]:
    """Return the measuring steps that ended with a result."""
    measuring = {e.data["step"] for e in Order(view).measuring}
    return tuple(step for step in view.finished_steps() if step in measuring)


def _measured(order: Order) -> Condition:
    name = "the raw output was sealed by a step that ended with a validated result"
    ended = [
        e for e in order.view.of("step-finished") if order.measured is None or e.seq < order.measured.seq
    ]
    if order.measured is None or not ended:
        return _condition(name, "C", False, "no measuring step has ended yet")
    return _condition(name, "C", True, ", ".join(f"{e.data['step']}: {place(e)}" for e in ended))


def _environment(order: Order) -> Condition:
    name = "the environment was recorded before any model file"
    first = [p for e in _before(order) for p in _sealed_paths(e) if p.startswith("environment/")]
    digests = ", ".join(f"{path} sha256 {order.view.artifacts[path].sha256[:12]}" for path in first)
    return _condition(name, "B", bool(first), digests or "nothing was sealed under environment/")


def _before(order: Order) -> Iterator[Event]:
    end = order.touch
    return (e for e in order.view.events if end is None or e.seq < end.seq)


def _sealed_paths(event: Event) -> list[str]:
    entries = [event.data] if event.type == "sealed" else event.data.get("sealed", ())
    return [str(entry["path"]) for entry in entries]


def _isolated(order: Order) -> Condition:
    name = "every step ran in a process of its own"
    starts = (*order.measuring, *order.interpreting)
    inline = [e for e in starts if e.data["isolation"] != "process"]
    if inline:
        listed = ", ".join(f"{e.data['step']} ran {e.data['isolation']} ({place(e)})" for e in inline)
        return _condition(name, "B", False, listed)
    return _condition(
        name,
        "B",
        bool(starts),
        f"{len(starts)} starts, all isolation=process" if starts else "no step has started",
    )


def _planned(order: Order) -> Condition:
    name = "each step was given what the protocol lets it see"
    view = order.view
    interpreting = {e.data["step"] for e in order.interpreting}
    sees = {s["id"]: s for s in view.manifest.get("steps") or ()}
    started = {e.data["step"] for e in (*order.measuring, *order.interpreting)}
    plan = {**view.manifest, "steps": [s for key, s in sees.items() if key in started]}

    def phase(step: Mapping[str, Any]) -> str:
        return "interpret" if step["id"] in interpreting else "measure"

    faults = [p.message for p in plan_problems(plan, phase) if not p.overridable]
    faults += [f for e in order.interpreting for f in _strangers(e, role_of(sees.get(e.data["step"], {})))]
    faults += [
        f"step {e.data['step']} was given {p}"
        for e in order.measuring
        for p in e.data["inputs"]
        if not p.startswith("raw/")
    ]
    return _condition(
        name, "B", not faults, faults[0] if faults else "sees of the manifest and inputs of each start"
    )


_GIVEN: Mapping[str, tuple[str, ...]] = {
    "planner": ("stimulus/files/",),
    "prompt": ("raw/",),
    "analysis": ("raw/",),
    "synthesis": ("raw/", "reads/read-1."),
}
"""Beginnings of the paths that a step of each role may be given."""


def _strangers(start: Event, role: str) -> Iterator[str]:
    step = start.data["step"]
    for path in start.data["inputs"]:
        if not path.startswith((*_GIVEN[role], f"answers/{step}.")):
            yield f"step {step} was given {path} ({place(start)})"


def _clean(order: Order) -> Condition:
    name = "every package was inspected and holds no framework vocabulary"
    if not order.interpreting:
        return _condition(name, "B", False, "no package was made")
    for start in order.interpreting:
        shown = ("answers/", "stimulus/files/")  # a person's answer; the context, which a planner may hold
        given = {p: d for p, d in start.data["inputs"].items() if not p.startswith(shown)}
        seen = [e for e in order.view.of("inspected") if e.seq < start.seq and _covers(e, given)]
        if not seen:
            return _condition(
                name, "B", False, f"step {start.data['step']} started without an inspection ({place(start)})"
            )
        if seen[-1].data["problems"]:
            found = "; ".join(seen[-1].data["problems"])
            return _condition(name, "B", False, f"{seen[-1].data['what']}: {found} ({place(seen[-1])})")
    return _condition(name, "B", True, ", ".join(place(e) for e in order.view.of("inspected")))


def _covers(event: Event, given: Mapping[str, str]) -> bool:
    return all(event.data.get("inputs", {}).get(path) == digest for path, digest in given.items())


def _asked_once(order: Order) -> Condition:
    name = "no package was put before a model again after an output had begun"
    begun = [e for e in order.view.of("step-checked") if e.data["name"] == OUTPUT_BEGUN]
    first: dict[str, Event] = {}
    for event in begun:
        earlier = first.setdefault(event.data["step"], event)
        if earlier is not event:
            evidence = f"{event.data['step']}: output began at {place(earlier)} and again at {place(event)}"
            return _condition(name, "B", False, evidence)
    listed = ", ".join(f"{step}: {place(event)}" for step, event in first.items())
    return _condition(name, "B", True, listed or "no adapter asked a model by itself")


def _unsigned(view: RunView) -> Condition:
    name = "no problem was passed by a signature"
    signed = list(view.of("override-signed"))
    listed = "; ".join(
        f"{e.data['gate']}: {e.data['reason']} ({e.data['author']}, {place(e)})" for e in signed
    )
    return _condition(name, "B", not signed, listed or "no override in the journal")


def read_1_in_order(order: Order) -> Condition:
    """Decide whether Read #1 was sealed after the raw output and before anything interpreted it."""
    name = "Read #1 was sealed after the raw output and before any interpretation"
    answer, measured = order.answered("read-1"), order.measured
    if answer is None:
        return _condition(name, "B", False, order.missing("read-1"))
    if measured is None or answer.seq < measured.seq:
        return _condition(name, "B", False, f"{order.sealed(answer)}, before the raw output was sealed")
    early = next((e for e in order.interpreting if e.seq < answer.seq), None)
    if early is not None:
        return _condition(name, "B", False, f"{early.data['step']} interpreted before it ({place(early)})")
    gaps = complete("read-1", _text(order.view, answer))
    return _condition(name, "B", not gaps, gaps[0].message if gaps else order.sealed(answer))


def _synthesis(order: Order, options: Mapping[str, Any]) -> Condition:
    name = f"raw output and Read #1 were synthesised under version {PROTOCOL}"
    version = str(options.get("version"))
    if not order.synthesised:
        return _condition(name, "B", False, "no step that was given Read #1 has ended with a result")
    for end in order.synthesised:
        stated = _protocol(order.view, end) or version
        if stated != PROTOCOL:
            return _condition(
                name, "B", False, f"{end.data['step']} followed version {stated} ({place(end)})"
            )
    return _condition(name, "B", True, ", ".join(f"{e.data['step']}: {place(e)}" for e in order.synthesised))


def _protocol(view: RunView, end: Event) -> str | None:
    """Return the protocol version that a step's facts state, where they do."""
    path = f"raw/{end.data['step']}/facts.json"
    if path not in view.artifacts:
        return None
    stated = json.loads(view.read(path)).get("protocol")
    return None if stated is None else str(stated).removeprefix("v")


def _read_2_last(order: Order) -> Condition:
    name = "Read #2 was sealed after the synthesis"
    answer = order.answered("read-2")
    if answer is None:
        return _condition(name, "B", False, order.missing("read-2"))
    late = next((e for e in order.synthesised if e.seq > answer.seq), None)
    if late is not None or not order.synthesised:
        why = f"before {late.data['step']} ended ({place(late)})" if late else "but nothing was synthesised"
        return _condition(name, "B", False, f"{order.sealed(answer)}, {why}")
    gaps = complete("read-2", _text(order.view, answer))
    return _condition(name, "B", not gaps, gaps[0].message if gaps else order.sealed(answer))
