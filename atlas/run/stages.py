"""The order of a run: gates and steps, stage by stage, as far as they go.

    prepare -> gates `measure` -> measuring steps -> gates `interpret` -> verdicts on what was declared
            -> interpreting steps -> gates `close` -> finished

Every arrow is a line of the journal, so a run that was cut off anywhere goes on from its last line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atlas.contracts import Progress
from atlas.errors import BadInput, IntegrityBroken
from atlas.governance import STAGES, Condition, GovernancePolicy, Stage, TierReport
from atlas.host import Host
from atlas.manifest.model import in_order
from atlas.record import RunView
from atlas.run.gating import ask, next_gate, open_gate, step_gate
from atlas.run.journal import Journal
from atlas.run.judging import judge
from atlas.run.stepper import Stepper, resolve_sees
from atlas.run.store import Store

__all__ = ["advance", "check_sealed", "load_policy", "tier_of"]

UNGOVERNED = TierReport.of(
    (
        Condition(
            name="a governance policy holds the run",
            met=False,
            evidence="the manifest says governance: none",
            otherwise="C",
        ),
    )
)


def load_policy(host: Host, manifest: Mapping[str, Any]) -> GovernancePolicy | None:
    """Return the policy that a resolved manifest names, or None for `governance: none`."""
    options = manifest.get("governance", "none")
    if options == "none":
        return None
    policy: GovernancePolicy = host.load("governance", options["use"])(options)
    return policy


def tier_of(view: RunView, policy: GovernancePolicy | None) -> TierReport:
    """Compute a run's tier; without a policy it is C."""
    return UNGOVERNED if policy is None else policy.tier(view)


def advance(
    journal: Journal,
    store: Store,
    host: Host,
    policy: GovernancePolicy | None,
    progress: Progress,
    *,
    seeds: Mapping[str, int] | None = None,
) -> RunView:
    """Take a run as far as it goes and return it finished.

    Args:
        journal: The run's open journal.
        store: Its store.
        host: Where plugins come from.
        policy: What governs it, or None.
        progress: Where steps report.
        seeds: Step -> seed, where a recorded run is repeated.

    Raises:
        WaitingForHuman: A gate is open; the message says what to type.
        InstrumentFailed: A step failed; resuming tries it again.
        IntegrityBroken: A sealed file is not what it was.
        BadInput: The run was abandoned or never fully prepared.
    """
    view = journal.view()
    if view.state == "done":
        return view
    if view.state == "abandoned":
        raise BadInput(f"{view.run_id} was abandoned", fix="start a new run")
    if "prepare" not in view.stages_done:
        raise BadInput(
            f"{view.run_id} was cut off while it was being prepared; nothing was measured",
            fix="start it again with: atlas run MANIFEST",
        )
    check_sealed(view)
    stepper = Stepper(journal, store, host, policy, progress, seeds or {})
    steps = [(s, host.catalog.find("instruments", s["use"]).phase) for s in in_order(view.manifest["steps"])]
    for stage in STAGES:
        _pass_gates(journal, policy, stage)
        if stage in journal.view().stages_done:
            continue
        if stage == "interpret":
            judge(journal, store, policy)
        for step in (step for step, phase in steps if phase == stage):
            _take(step, stage, journal, policy, stepper)
        journal.append("stage-done", {"stage": stage})
    report = tier_of(journal.view(), policy)
    journal.append(
        "finished",
        {
            "tier": report.tier,
            "conditions": [
                {"name": c.name, "met": c.met, "evidence": c.evidence, "otherwise": c.otherwise}
                for c in report.conditions
            ],
        },
    )
    return journal.view()


def check_sealed(view: RunView) -> None:
    """Read every sealed file once.

    Raises:
        IntegrityBroken: One of them is gone or changed; the message names it.
    """
    for path in view.artifacts:
        view.read(path)
    for run_id, record in view.links().items():
        event = next(e for e in view.of("record-linked") if e.data["record"] == run_id)
        if str(record.head) != event.data["head"]:
            raise IntegrityBroken(
                "the linked record differs from what was linked", where=event.data["folder"]
            )
        check_sealed(record)


def _pass_gates(journal: Journal, policy: GovernancePolicy | None, stage: Stage) -> None:
    gate = next_gate(journal.view(), policy, stage)
    if gate is not None:
        open_gate(journal, gate)
        raise ask(journal.view(), gate)


def _take(
    step: Mapping[str, Any], stage: Stage, journal: Journal, policy: GovernancePolicy | None, stepper: Stepper
) -> None:
    view = journal.view()
    if step["id"] in {*view.finished_steps(), *(e.data["step"] for e in view.of("step-passed-over"))}:
        return
    if any(e.data["step"] == step["id"] for e in view.of("step-waiting")):
        open_gate(journal, step_gate(view, step["id"]))
        view = journal.view()
    gate = view.gates.get(step["id"])
    if gate is not None and gate.skipped is not None:
        return
    if gate is not None and not gate.passed:
        raise ask(view, step_gate(view, step["id"]))
    absent = _absent(view, step)
    if absent:
        journal.append("step-passed-over", {"step": step["id"], "absent": absent})
        return
    stepper.fetch_targets(step)
    if stage == "interpret" and policy is not None:
        _inspect(step, journal, policy)
    if not stepper.run(step):
        waiting = step_gate(journal.view(), step["id"])
        open_gate(journal, waiting)
        raise ask(journal.view(), waiting)


def _absent(view: RunView, step: Mapping[str, Any]) -> list[str]:
    """Return what a step sees that will never exist, because a person skipped it."""
    passed_over = {e.data["step"] for e in view.of("step-passed-over")}
    passed_over |= {name for name, gate in view.gates.items() if gate.skipped is not None}
    sources = [str(reference["from"]) for reference in step.get("sees") or ()]
    return [source for source in sources if source.partition(".")[0] in passed_over]


def _inspect(step: Mapping[str, Any], journal: Journal, policy: GovernancePolicy) -> None:
    """Let the policy look at everything that an interpreting step is about to be given."""
    view = journal.view()
    paths = resolve_sees(view, step)
    problems = policy.inspect({path: view.read(path).decode("utf-8", "replace") for path in paths})
    signed = {message for event in view.of("override-signed") for message in event.data["problems"]}
    found = [p for p in problems if p.message not in signed]
    journal.append(
        "inspected",
        {
            "what": f"package of step {step['id']}",
            "inputs": {path: view.artifacts[path].sha256 for path in paths},
            "problems": [p.message for p in problems],
        },
    )
    if found:
        listed = "\n".join(f"  - {problem}" for problem in found)
        raise BadInput(
            f"what step {step['id']} would be given is not clean:\n{listed}",
            fix=f'atlas skip {view.run_id} {step["id"]} --reason "..." ends the run without it',
        )
