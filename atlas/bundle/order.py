"""Whether a journal tells a story that the host could have written: gates before steps, and so on.

The rules are the host's own and hold under every policy. What a particular protocol asks beyond them
(which gates there must be, what an answer must say) is the policy's to judge, and shows in the tier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import define, field

from atlas.bundle.findings import Finding
from atlas.errors import BadInput
from atlas.governance import STAGES
from atlas.randomness import derive_seed
from atlas.record import JOURNAL, Event, RunView
from atlas.run.paths import check_path

__all__ = ["check_order", "check_seeds", "check_shapes"]

_STAGES = ("prepare", *STAGES)
_FIELDS: Mapping[str, Mapping[str, type]] = {
    "created": {"run_id": str, "atlas": str, "governed": bool},
    "sealed": {"path": str, "size": int, "sha256": str, "role": str},
    "declared": {"hypotheses": list},
    "hypotheses-judged": {"declared": int, "verdicts": dict},
    "hypothesis-explored": {"hypothesis": dict, "verdict": str},
    "record-linked": {"record": str, "head": str, "folder": str},
    "gate-opened": {"gate": str, "stage": str},
    "gate-answered": {"gate": str, "author": str, "path": str, "sha256": str},
    "gate-skipped": {"gate": str, "author": str, "reason": str},
    "amended": {"gate": str, "author": str, "path": str, "sha256": str},
    "target-fetched": {"target": str},
    "step-started": {"step": str, "attempt": int, "seed": str, "inputs": dict},
    "step-checked": {"step": str, "name": str, "passed": bool},
    "step-waiting": {"step": str},
    "step-finished": {"step": str, "attempt": int},
    "step-failed": {"step": str, "attempt": int},
    "stage-done": {"stage": str},
    "finished": {"tier": str},
    "abandoned": {"author": str, "reason": str},
}
_AFTER_THE_END = ("amended", "hypothesis-explored", "recovered", "sealed", "set-aside")
_OPENS_A_MODEL = ("step-started", "target-fetched")


def check_shapes(view: RunView) -> Iterator[Finding]:
    """Yield what keeps a journal from being read at all: events without their data, unsafe paths."""
    faults = list(_check_fields(view))
    yield from faults or _check_paths(view)


def _check_fields(view: RunView) -> Iterator[Finding]:
    for event in view.events:
        items = event.data.get("sealed", [])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            yield _at(event, "`sealed` is not a list of files")
            items = []
        wanted = [(event.data, _FIELDS.get(event.type, {})), *((i, _FIELDS["sealed"]) for i in items)]
        for data, fields in wanted:
            for name, kind in fields.items():
                if type(data.get(name)) is not kind:
                    yield _at(event, f"the event {event.type} has no {name}, or one of another type")
    if view.events[0].type != "created" or any(e.type == "created" for e in view.events[1:]):
        yield Finding(f"{JOURNAL}:1", "a journal begins with the event `created` and holds it once")


def _at(event: Event, what: str) -> Finding:
    return Finding(f"{JOURNAL}:{event.seq + 1}", what)


@define
class _Story:
    """What has happened up to a line."""

    sealed: dict[str, str] = field(factory=dict)
    open: dict[str, str] = field(factory=dict)
    passed: set[str] = field(factory=set)
    answered: set[str] = field(factory=set)
    waited: set[str] = field(factory=set)
    attempts: dict[str, int] = field(factory=dict)
    running: set[str] = field(factory=set)
    finished: set[str] = field(factory=set)
    stages: list[str] = field(factory=list)
    judged: bool = False
    ended: str | None = None


def check_order(view: RunView) -> Iterator[Finding]:
    """Yield every event that stands where the host would not have written it."""
    by_hand = not any(view.of("stage-done"))
    story = _Story()
    previous = ""
    for event in view.events:
        if event.time < previous:
            yield _at(event, "its time lies before that of the line above")
        previous = max(previous, event.time)
        if story.ended and event.type not in _AFTER_THE_END and "." not in event.type:
            yield _at(event, f"the event {event.type} comes after the run was {story.ended}")
        story.sealed |= {item["path"]: item["sha256"] for item in _items(event)}
        check = _CHECKS.get(event.type)
        if check is not None and not (by_hand and event.type.startswith("step-")):
            yield from (_at(event, what) for what in check(event.data, story))
        if event.type in _OPENS_A_MODEL:
            blocking = [gate for gate in story.open if gate not in story.passed]
            if blocking:
                yield _at(event, f"{event.type} stands before the answer to {', '.join(blocking)}")
            if "prepare" not in story.stages:
                yield _at(event, f"{event.type} stands before the run was prepared")
        if event.type in ("finished", "abandoned"):
            story.ended = event.type


def _items(event: Event) -> list[Mapping[str, Any]]:
    return [event.data] if event.type == "sealed" else event.data.get("sealed", [])


def _check_paths(view: RunView) -> Iterator[Finding]:
    seen: set[str] = set()
    for event in view.events:
        for item in _items(event):
            path = item["path"]
            try:
                check_path(path)
            except BadInput as error:
                yield _at(event, error.what)
            if path in seen:
                yield _at(event, f"{path} is sealed a second time")
            seen.add(path)


def _gate_opened(data: Mapping[str, Any], story: _Story) -> Iterator[str]:
    gate, stage = data["gate"], data["stage"]
    if gate in story.open:
        yield f"the gate {gate} is opened a second time"
    if gate not in story.waited:
        if stage == "interpret" and story.judged:
            yield f"the gate {gate} ought to hold back the verdicts, and hypotheses were judged before it"
        if stage == "measure" and story.attempts:
            yield f"the gate {gate} ought to hold back the measurement, and a step had started"
        before = dict(zip(STAGES, _STAGES, strict=False)).get(stage)
        if before is None:
            yield f"{stage} is no stage of a run"
        elif before not in story.stages:
            yield f"the gate {gate} is opened before the stage {before} was done"
    story.open[gate] = stage


def _gate_passed(data: Mapping[str, Any], story: _Story) -> Iterator[str]:
    gate = data["gate"]
    if gate not in story.open:
        yield f"the gate {gate} is passed without having been opened"
    if gate in story.passed:
        yield f"the gate {gate} is passed a second time"
    story.passed.add(gate)
    if "path" in data:
        story.answered.add(gate)
        yield from _same_file(data, story)


def _amended(data: Mapping[str, Any], story: _Story) -> Iterator[str]:
    if data["gate"] not in story.answered:
        yield f"{data['gate']} is amended, and it was never answered"
    yield from _same_file(data, story)


def _same_file(data: Mapping[str, Any], story: _Story) -> Iterator[str]:
    if story.sealed.get(data["path"]) != data["sha256"]:
        yield f"the text at {data['path']} is not sealed here with the digest that is named"


def _started(data: Mapping[str, Any], story: _Story) -> Iterator[str]:
    step = data["step"]
    if step in story.finished:
        yield f"step {step} is started after it had finished"
    last = story.attempts.get(step, 0)
    if data["attempt"] != last + 1:
        yield f"attempt {data['attempt']} of step {step} does not follow attempt {last}"
    story.attempts[step] = data["attempt"]
    story.running.add(step)
    for path, sha256 in data["inputs"].items():
        if story.sealed.get(path) != sha256:
            yield f"step {step} is given {path}, which is not sealed before it with that digest"


def _ended(data: Mapping[str, Any], story: _Story) -> Iterator[str]:
    step = data["step"]
    if step not in story.running:
        yield f"step {step} ends without having started"
    if "attempt" in data and data["attempt"] != story.attempts.get(step):
        yield f"step {step} ends another attempt than it began"
    story.running.discard(step)


def _finished(data: Mapping[str, Any], story: _Story) -> Iterator[str]:
    yield from _ended(data, story)
    story.finished.add(data["step"])


def _waiting(data: Mapping[str, Any], story: _Story) -> Iterator[str]:
    yield from _ended(data, story)
    story.waited.add(data["step"])


def _checked(data: Mapping[str, Any], story: _Story) -> Iterator[str]:
    if data["step"] not in story.running:
        yield f"a check of step {data['step']} is recorded while it does not run"


def _stage_done(data: Mapping[str, Any], story: _Story) -> Iterator[str]:
    stage = data["stage"]
    expected = _STAGES[len(story.stages)] if len(story.stages) < len(_STAGES) else "no further stage"
    if stage != expected:
        yield f"the stage {stage} is done, expected {expected}"
    waiting = [gate for gate in story.open if gate not in story.passed]
    if waiting:
        yield f"the stage {stage} is done while {', '.join(waiting)} waits for an answer"
    story.stages.append(stage)


def _judged(data: Mapping[str, Any], story: _Story) -> Iterator[str]:
    if "measure" not in story.stages:
        yield "hypotheses are judged before the measurement was done"
    waiting = [gate for gate in story.open if gate not in story.passed]
    if waiting:
        yield f"hypotheses are judged while {', '.join(waiting)} waits for an answer"
    if "declared" in data and story.judged:
        yield "the declared hypotheses are judged a second time"
    story.judged = story.judged or "declared" in data


def _run_finished(data: Mapping[str, Any], story: _Story) -> Iterator[str]:
    if story.stages and "close" not in story.stages:
        yield "the run is finished before its last stage was done"


_CHECKS = {
    "gate-opened": _gate_opened,
    "gate-answered": _gate_passed,
    "gate-skipped": _gate_passed,
    "amended": _amended,
    "step-started": _started,
    "step-checked": _checked,
    "step-waiting": _waiting,
    "step-failed": _ended,
    "step-finished": _finished,
    "stage-done": _stage_done,
    "hypotheses-judged": _judged,
    "hypothesis-explored": _judged,
    "finished": _run_finished,
}


def check_seeds(view: RunView) -> Iterator[Finding | str]:
    """Yield, for each started step, the answer that its seed is bound to, or what is wrong with it.

    A bound seed is derived from the journal's head right after an answer, so the random numbers that
    it gives could not be known before that answer was sealed.
    """
    declared = view.manifest.get("seed")
    if not isinstance(declared, int) or view.events[0].data.get("repeats"):
        return
    stages = {event.data["gate"]: event.data["stage"] for event in view.of("gate-opened")}
    answers = [e for e in view.of("gate-answered") if stages.get(e.data["gate"]) == "measure"]
    heads = {answer.data["gate"]: view.head_after(answer).sha256 for answer in answers}
    for event in view.of("step-started"):
        step = event.data["step"]
        bound = {
            str(derive_seed(derive_seed(declared, head), f"step {step}")): gate
            for gate, head in heads.items()
        }
        seed = event.data["seed"]
        if seed in bound:
            yield f"the seed of step {step} is derived from the journal as {bound[seed]} was sealed"
        elif seed != str(derive_seed(declared, f"step {step}")):
            yield _at(event, f"the seed of step {step} follows neither from the manifest nor from an answer")
