"""What the protocol forbids in a manifest: who may see what, and in which isolation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from atlas.catalog import discover
from atlas.errors import AtlasError
from atlas.governance import Problem

__all__ = ["SEES", "WORDING", "installed_phase", "plan_problems", "role_of"]

Step = Mapping[str, Any]

SEES: Mapping[str, tuple[str, ...]] = {
    "planner": (),
    "prompt": ("planner.answer",),
    "analysis": ("prompt.answer", "raw"),
    "synthesis": ("raw", "read-1"),
}
"""What each role of the chain may see: raw output, Reads, and the answer of a step of another role."""
WORDING: Mapping[str, str] = {
    "planner": "programme context",
    "prompt": "the plan",
    "analysis": "the clean prompt and raw output",
    "synthesis": "raw output and Read #1",
}


def role_of(step: Step) -> str:
    """Return the role of an interpreting step; one that names none, or one of its own, synthesises."""
    role = (step.get("params") or {}).get("role")
    return role if isinstance(role, str) and role in SEES else "synthesis"


def _sources(step: Step) -> tuple[str, ...]:
    return tuple(str(entry["from"]) for entry in step.get("sees") or ())


def installed_phase() -> Callable[[Step], str]:
    """Return a function that tells a step's phase by its instrument's card; what it sees, without a card."""
    catalog = discover()

    def phase(step: Step) -> str:
        try:
            offer = catalog.find("instruments", step["use"])
        except AtlasError:
            sees_judgement = any(s.startswith("read-") or s.endswith(".answer") for s in _sources(step))
            return "interpret" if sees_judgement else "measure"
        return offer.phase

    return phase


def plan_problems(manifest: Mapping[str, Any], phase: Callable[[Step], str]) -> tuple[Problem, ...]:
    """Return what a resolved manifest does against the protocol.

    Problems that may be overridden are conditions that lower the tier; the others are refused.
    """
    steps = list(manifest.get("steps") or ())
    roles = {step["id"]: role_of(step) for step in steps if phase(step) == "interpret"}
    problems: list[Problem] = []
    for step in steps:
        where = f"steps.{step['id']}"
        if step.get("isolation", "process") != "process":
            problems.append(
                Problem(
                    f"step {step['id']} does not run in a process of its own (Tier B)",
                    where,
                    overridable=True,
                )
            )
        found = _interpreting_sees(step, roles) if step["id"] in roles else _measuring_sees(step, roles)
        problems += [Problem(message, f"{where}.sees") for message in found]
    synthesis = [s for s in steps if s["id"] in roles and "read-1" in _sources(s)]
    if not synthesis:
        problems.append(
            Problem("no step synthesises raw output and Read #1 (Tier B)", "steps", overridable=True)
        )
    problems += [
        Problem(
            f"step {s['id']} is given Read #1 but no raw output (Tier B)",
            f"steps.{s['id']}.sees",
            overridable=True,
        )
        for s in synthesis
        if set(_sources(s)) == {"read-1"}
    ]
    governance = manifest.get("governance")
    if isinstance(governance, Mapping) and not (governance.get("bsa_record") or governance.get("ecm_record")):
        problems.append(
            Problem(
                "no behavioural record is named (Tier C, if it is none itself): add bsa_record or ecm_record",
                "governance",
                overridable=True,
            )
        )
    return tuple(problems)


def _measuring_sees(step: Step, roles: Mapping[str, str]) -> Iterator[str]:
    for source in _sources(step):
        if source.startswith("read-"):
            yield f"a measuring step may not see {source}: judgement never enters a measurement"
        elif source.endswith(".answer") or source.partition(".")[0] in roles:
            yield f"a measuring step may not see {source}, which interprets"


def _interpreting_sees(step: Step, roles: Mapping[str, str]) -> Iterator[str]:
    own = role_of(step)
    for source in _sources(step):
        owner, _, part = source.partition(".")
        kind = f"{roles[owner]}.{part}" if owner in roles else owner if owner.startswith("read-") else "raw"
        if kind not in SEES[own] or (kind == "raw" and part == "answer"):
            yield f"the package of a step of role {own} holds {WORDING[own]} only, not {source}"
