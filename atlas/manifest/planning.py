"""What a manifest or a run will do: a line for each gate and step, and why it will run, or wait.

Reads cards and the journal; of plugins, only the governance policy is asked, for its gates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from attrs import frozen

from atlas.catalog import Catalog, Offer
from atlas.governance import STAGES, Gate, GovernancePolicy
from atlas.manifest.model import in_order, references
from atlas.manifest.structure import annotated
from atlas.manifest.targets import members, named_targets
from atlas.record import RunView

__all__ = ["PlanLine", "plan"]

Action = Literal["RUN", "DONE", "WAIT"]


@frozen
class PlanLine:
    """What will happen at one gate or step.

    Attributes:
        kind: `gate` or `step`.
        id: Its id.
        title: The gate's title, or the name of the instrument.
        action: `RUN`, `DONE` or `WAIT`.
        reason: Why: `new`, `sealed 3f9a1c20`, `gate read-0`, `failed before: ...`.
        needs: What it takes: `target lm`, `8 GB`, `network`.
        sees: What it may read.
    """

    kind: Literal["gate", "step"]
    id: str
    title: str
    action: Action
    reason: str
    needs: tuple[str, ...] = ()
    sees: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Render on one line."""
        text = f"{self.action:<4} ({self.reason})"
        text = f"{self.kind:<4}  {self.id:<16} {text:<28}  {self.title}"
        if self.needs:
            text += f"; needs {', '.join(self.needs)}"
        if self.sees:
            text += f"; sees {', '.join(self.sees)}"
        return text


def plan(
    data: Mapping[str, Any], catalog: Catalog, policy: GovernancePolicy | None, view: RunView | None
) -> tuple[PlanLine, ...]:
    """Return the plan of a resolved manifest, in the order in which things will happen.

    Args:
        data: A resolved manifest's values.
        catalog: What is installed.
        policy: What governs it, or None.
        view: The run as far as it got, or None before it began.

    Raises:
        BadInput, PluginFault: A plugin that the run names is not installed here, or broken.
    """
    gates = policy.gates() if policy is not None else ()
    steps = [(step, catalog.find("instruments", step["use"])) for step in in_order(data["steps"])]
    lines: list[PlanLine] = []
    blocked: str | None = None
    for stage in STAGES:
        for gate in (gate for gate in gates if gate.stage == stage):
            line = _gate(gate, view, blocked)
            blocked = blocked or (f"gate {gate.id}" if line.action == "WAIT" else None)
            lines.append(line)
        for step, offer in steps:
            if stage == offer.phase:
                line = _step(step, offer, catalog, view, blocked, data.get("targets") or {})
                blocked = blocked or (f"step {line.id}" if line.action == "WAIT" else None)
                lines.append(line)
    return tuple(lines)


def _gate(gate: Gate, view: RunView | None, blocked: str | None) -> PlanLine:
    state = view.gates.get(gate.id) if view is not None else None
    action: Action = "WAIT"
    reason = "for a person" if blocked is None else blocked
    if state is not None and state.answered is not None:
        action, reason = "DONE", f"sealed {_short(str(state.answered.data['sha256']))}"
    elif state is not None and state.skipped is not None:
        action, reason = "DONE", f"skipped by {state.skipped.data['author']}"
    return PlanLine("gate", gate.id, gate.title, action, reason)


def _step(
    step: Mapping[str, Any],
    offer: Offer,
    catalog: Catalog,
    view: RunView | None,
    blocked: str | None,
    targets: Mapping[str, Any],
) -> PlanLine:
    name = step["id"]
    action: Action
    gate = view.gates.get(name) if view is not None else None
    if view is not None and name in view.finished_steps():
        action, reason = "DONE", f"sealed {_digest(view, name)}"
    elif gate is not None and gate.skipped is not None:
        action, reason = "DONE", f"skipped by {gate.skipped.data['author']}"
    elif view is not None and any(e.data["step"] == name for e in view.of("step-passed-over")):
        action, reason = "DONE", "passed over: what it sees was skipped"
    elif gate is not None and not gate.passed:
        action, reason = "WAIT", "for a person's answer"
    elif blocked is not None:
        action, reason = "WAIT", blocked
    else:
        action, reason = "RUN", _history(view, name)
    return PlanLine(
        "step",
        name,
        offer.name,
        action,
        reason,
        tuple(_needs(step, offer, catalog, targets)),
        tuple(str(reference) for reference in references(step)),
    )


def _history(view: RunView | None, step: str) -> str:
    """Say why a step runs that has not finished."""
    if view is None:
        return "new"
    tried = [e for e in view.of("step-started", "step-failed", "step-waiting") if e.data["step"] == step]
    if not tried:
        return "new"
    last = tried[-1]
    if last.type == "step-failed":
        return f"failed before: {last.data['reason']}"
    return "answered" if last.type == "step-waiting" else "cut off before"


def _needs(
    step: Mapping[str, Any], offer: Offer, catalog: Catalog, targets: Mapping[str, Any]
) -> Sequence[str]:
    named = [
        catalog.find(kind, value)
        for _, value, kind in annotated(offer.params, step.get("params") or {}, "x-atlas-kind")
        if isinstance(value, str)
    ]
    wants = [item.details.get("needs", {}) for item in (offer, *named)]
    needs = [*_wanted(step, offer, catalog, targets)]
    memory = max((want.get("memory_gb", 0) for want in wants), default=0)
    if memory:
        needs.append(f"{memory:g} GB")
    if any(want.get("network") for want in wants):
        needs.append("network")
    return needs


def _wanted(
    step: Mapping[str, Any], offer: Offer, catalog: Catalog, targets: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the targets that a step opens, members of a series by label."""
    for name in (*filter(None, [step.get("target")]), *named_targets(offer, step.get("params") or {})):
        entry = targets[name]
        labels = [m.label for m in members(entry, catalog.find("targets", entry["use"]))]
        series = f" ({len(labels)}: {', '.join(labels)})" if "series" in entry else ""
        yield f"target {name}{series}"


def _digest(view: RunView, step: str) -> str:
    """Return the beginning of a digest over all that a step sealed, listed as `sha256sum` does."""
    sealed = sorted((a.path, a.sha256) for a in view.artifacts.values() if a.path.startswith(f"raw/{step}/"))
    listing = "".join(f"{sha256}  {path}\n" for path, sha256 in sealed)
    return _short(hashlib.sha256(listing.encode("utf-8")).hexdigest())


def _short(digest: str) -> str:
    return digest[:8]
