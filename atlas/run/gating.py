"""Which gate comes next, and how a person's answer to it is sealed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.errors import BadInput, WaitingForHuman
from atlas.governance import Gate, GovernancePolicy, Stage, stage_reached
from atlas.run.store import Deposit, Store

if TYPE_CHECKING:
    from atlas.record import RunView
    from atlas.run.journal import Journal

__all__ = [
    "LARGEST_ANSWER",
    "amend",
    "answer",
    "ask",
    "next_gate",
    "open_gate",
    "reachable",
    "skip",
    "step_gate",
    "turn",
]

LARGEST_ANSWER = 2 * 2**20
"""Bytes beyond which nothing is sealed as the answer to a step."""


def step_gate(view: RunView, step: str) -> Gate:
    """Return the gate of a step that waits for a person, as its `step-waiting` event describes it."""
    event = next(e for e in reversed(view.events) if e.type == "step-waiting" and e.data["step"] == step)
    return Gate(
        id=step,
        title=f"Answer to step {step}",
        stage="interpret",
        path=f"answers/{step}.md",
        template="",
        guidance=f"{event.data['ask']}\n  The files to hand out are in {view.root / event.data['folder']}",
    )


def next_gate(view: RunView, policy: GovernancePolicy | None, stage: Stage) -> Gate | None:
    """Return the first gate of a stage that has been neither answered nor skipped."""
    gates = policy.gates() if policy is not None else ()
    for gate in gates:
        state = view.gates.get(gate.id)
        if gate.stage == stage and (state is None or not state.passed):
            return gate
    return None


def open_gate(journal: Journal, gate: Gate) -> None:
    """Journal that a gate is open, once."""
    if gate.id not in journal.view().gates:
        journal.append("gate-opened", {"gate": gate.id, "stage": gate.stage, "title": gate.title})


def ask(view: RunView, gate: Gate) -> WaitingForHuman:
    """Return the exception that ends the process at an open gate and says what to type next."""
    run = view.run_id
    if gate.id.startswith("read-"):
        number = gate.id.removeprefix("read-")
        command = f"atlas read {number} {run}"
    else:
        command = f"atlas answer {run} {gate.id}"
    return WaitingForHuman(
        f"{run} waits for a person: {gate.title}.\n  {gate.guidance}",
        fix=f"{command}   then: atlas resume {run}",
    )


def reachable(view: RunView, policy: GovernancePolicy | None) -> Gate | None:
    """Return the gate that may be answered now: that of the stage which the run has reached."""
    waiting = view.waiting_for
    if waiting is not None and any(e.data["step"] == waiting.id for e in view.of("step-waiting")):
        return step_gate(view, waiting.id)
    return next_gate(view, policy, stage_reached(view.stages_done))


def turn(view: RunView, policy: GovernancePolicy | None, gate_id: str) -> Gate:
    """Return a gate if it is the one to be answered now.

    Raises:
        BadInput: It is sealed already, it is another gate's turn or nobody's, or the run is over.
    """
    if view.state in ("done", "abandoned"):
        raise BadInput(f"{view.run_id} is {view.state}; its answers are final", fix="amend a Read instead")
    gate = reachable(view, policy)
    if gate is not None and gate.id == gate_id:
        return gate
    passed = view.gates.get(gate_id)
    if passed is not None and passed.passed:
        number = gate_id.removeprefix("read-")
        raise BadInput(
            f"{gate_id} is sealed already and stays as it is",
            fix=f"atlas read {number} {view.run_id} --amend" if number != gate_id else None,
        )
    whose = f"it is the turn of {gate.id}" if gate is not None else "no gate is to be answered now"
    raise BadInput(f"{gate_id} cannot be answered now: {whose}", fix=f"atlas status {view.run_id}")


def _decoded(data: bytes, what: str) -> str:
    """Return what a person wrote, with LF line ends.

    Raises:
        BadInput: It is not UTF-8, or empty.
    """
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"the {what} is not UTF-8 text: {error}", fix="save the file as UTF-8") from error
    if not text.strip():
        raise BadInput(f"the {what} is empty", fix="write it, save the file, then repeat the command")
    return text


def answer(
    journal: Journal,
    store: Store,
    policy: GovernancePolicy | None,
    gate_id: str,
    data: bytes,
    *,
    author: str,
    via: str,
    evidence: Path | None = None,
    override: str | None = None,
) -> None:
    """Review and seal an answer.

    Raises:
        BadInput: The gate is not the one to be answered now, the text is not UTF-8, or the policy has
            problems with it that were not overridden. Nothing is sealed then.
    """
    view = journal.view()
    gate = turn(view, policy, gate_id)
    if not author.strip():
        raise BadInput("an answer needs its author", fix='add --by "Your Name"')
    text = _decoded(data, "answer")
    is_step = any(e.data["step"] == gate.id for e in view.of("step-waiting"))
    if is_step:
        _check_brought(view, gate.id, text)
    problems = policy.review(gate.id, text, view) if policy is not None and not is_step else ()
    firm = [p for p in problems if not p.overridable]
    if firm or (problems and override is None):
        soft = [] if firm else list(problems)
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise BadInput(
            f"{gate.id} is not sealed yet:\n{listed}",
            fix="reword it and answer again"
            + ('; or sign it as it is, which lowers the tier: --override "REASON"' if soft else ""),
        )
    open_gate(journal, gate)
    if problems:
        journal.append(
            "override-signed",
            {
                "gate": gate.id,
                "author": author,
                "reason": override,
                "problems": [p.message for p in problems],
            },
        )
    deposits = [Deposit(gate.path, data, "read" if gate.id.startswith("read-") else "answer")]
    if evidence is not None:
        deposits.append(Deposit(f"evidence/{gate.id}-{evidence.name}", evidence, "evidence"))
    store.seal_together(
        "gate-answered",
        {
            "gate": gate.id,
            "author": author,
            "path": gate.path,
            "sha256": hashlib.sha256(data).hexdigest(),
            "via": via,
        },
        deposits,
    )


def _check_brought(view: RunView, step: str, text: str) -> None:
    """Refuse what cannot be an answer to a step, since a sealed one is never replaced.

    Raises:
        BadInput: It is no text, larger than `LARGEST_ANSWER`, or one of the files that were handed out.
    """
    size = len(text.encode("utf-8"))
    if size > LARGEST_ANSWER:
        raise BadInput(f"the answer has {size} bytes, more than {LARGEST_ANSWER}")
    if "\0" in text:
        raise BadInput("the answer holds NUL characters: it is no text file", fix="save it as UTF-8 text")
    for path in view.artifacts:
        if path.startswith(f"handouts/{step}/") and view.read(path).split() == text.encode("utf-8").split():
            raise BadInput(
                f"this is {path}, which was handed out, and no answer to it",
                fix="bring the model's first answer, whole and unchanged",
            )


def amend(
    journal: Journal,
    store: Store,
    policy: GovernancePolicy | None,
    gate_id: str,
    data: bytes,
    *,
    author: str,
) -> str:
    """Seal an addition to a sealed Read and return its path; the Read itself stays as it is.

    Raises:
        BadInput: There is no sealed Read of that name, the text is empty or not UTF-8, a person was
            handed the Read out to carry it to a model, or a step that is still to come would be given
            the text and the policy keeps it from models.
    """
    view = journal.view()
    state = view.gates.get(gate_id)
    if state is None or state.answered is None:
        raise BadInput(f"{gate_id} is not sealed, so there is nothing to amend")
    text = _decoded(data, "amendment")
    later = _to_be_given(view, gate_id)
    handed = next((e.data["step"] for e in view.of("step-waiting") if e.data["step"] in later), None)
    if handed is not None:
        raise BadInput(
            f"{gate_id} was handed out for step {handed}, whose answer is to what it said then",
            fix=f"bring that answer first: atlas answer {view.run_id} {handed}",
        )
    problems = policy.inspect({"the amendment": text}) if policy is not None and later else ()
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise BadInput(
            f"step {later[0]} would be given this amendment, so it is not sealed yet:\n{listed}",
            fix="reword it, or add it once that step has ended",
        )
    sealed = Path(str(state.answered.data["path"]))
    path = sealed.with_name(f"{sealed.stem}.amendment-{len(state.amendments) + 1}{sealed.suffix}").as_posix()
    store.seal_together(
        "amended",
        {"gate": gate_id, "author": author, "path": path, "sha256": hashlib.sha256(data).hexdigest()},
        [Deposit(path, data, "read")],
    )
    return path


def _to_be_given(view: RunView, gate_id: str) -> tuple[str, ...]:
    """Return the steps that see a gate's answer and have not ended."""
    ended = {*view.finished_steps(), *(gate.id for gate in view.gates.values() if gate.skipped is not None)}
    return tuple(
        step["id"]
        for step in view.manifest.get("steps", ())
        if view.state not in ("done", "abandoned")
        and step["id"] not in ended
        and any(item["from"] == gate_id for item in step.get("sees") or ())
    )


def _failed_interpretation(view: RunView, step: str) -> Gate | None:
    """Return a gate for an interpreting step whose last attempt failed, or whose package is not clean.

    A measurement is not skipped.
    """
    attempts = [e for e in view.of("step-started", "step-failed", "step-finished") if e.data["step"] == step]
    inspected = [e for e in view.of("inspected") if e.data["what"] == f"package of step {step}"]
    last = max([*attempts, *inspected], key=lambda event: event.seq, default=None)
    refused = last is not None and (last.type == "step-failed" or bool(last.data.get("problems")))
    if "measure" not in view.stages_done or not refused:
        return None
    return Gate(step, f"Answer to step {step}", "interpret", f"answers/{step}.md", "", "")


def skip(
    journal: Journal, policy: GovernancePolicy | None, gate_id: str, *, author: str, reason: str
) -> None:
    """Pass the gate whose turn it is without an answer, or an interpreting step that failed.

    Raises:
        BadInput: It is not that gate's turn, or no reason is given.
    """
    view = journal.view()
    gate = _failed_interpretation(view, gate_id) or reachable(view, policy)
    if gate is None or gate.id != gate_id:
        raise BadInput(f"{gate_id} cannot be skipped now", fix=f"atlas status {view.run_id}")
    if not reason.strip():
        raise BadInput("a skipped gate needs a reason", fix='add --reason "..."')
    open_gate(journal, gate)
    journal.append("gate-skipped", {"gate": gate_id, "author": author, "reason": reason})
