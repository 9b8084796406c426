"""The success criteria of a curvature run, evaluated on its record; they inform and lower no tier."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from atlas.governance import Condition
from atlas.quantities import Quantity, UncertaintyKind
from atlas.record import RunView
from atlas_cisp.links import PROVISIONAL, SIGNED, signals
from atlas_cisp.order import Order, place
from atlas_cisp.tiers import linked

__all__ = ["success_criteria"]

_RUN_ID = re.compile(r"[A-Z0-9]{2,12}-[A-Z]{2,4}-\d{8}-\d{3,}")
_EIGENVALUES = ("eigenvalue", "lambda_")
_PACKAGE = ("manifest.yaml", "manifest.resolved.yaml")


def success_criteria(view: RunView, options: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Return the six criteria in the order in which a run meets them.

    Args:
        view: The run.
        options: Its manifest's `governance` entry.
    """
    order = Order(view)
    found = [(step, q) for step, q in view.quantities() if q.quantity.startswith(_EIGENVALUES)]
    return (
        _stable(found),
        _loss_checked(order, {step for step, _ in found}),
        _package(view),
        _reads_first(order),
        _links(view),
        Condition("run linked to a behavioural record", *_met(linked(view, options))),
    )


def _met(condition: Condition) -> tuple[bool, str]:
    return condition.met, condition.evidence


def _stable(found: list[tuple[str, Quantity]]) -> Condition:
    name = "stable eigenvalues without numerical errors"
    if not found:
        return Condition(name, False, "no eigenvalue is recorded")
    faults = [f"{step}: {_label(q)} {fault}" for step, q in found if (fault := _fault(q))]
    return Condition(
        name, not faults, "; ".join(faults[:5]) or f"{len(found)} eigenvalues, all converged and certified"
    )


def _label(quantity: Quantity) -> str:
    index = "" if quantity.index is None else f"[{quantity.index}]"
    return f"{quantity.quantity}{index} of {quantity.slice}"


def _fault(quantity: Quantity) -> str | None:
    if not quantity.converged:
        return "did not converge"
    if quantity.uncertainty_kind is UncertaintyKind.UNCERTIFIED:
        return "carries no error bound"
    return f"is undefined: {quantity.note}" if quantity.value is None else None


def _loss_checked(order: Order, steps: set[str]) -> Condition:
    name = "loss sanity check passed before the Hessian"
    if not steps:
        return Condition(name, False, "no step recorded an eigenvalue")
    evidence = []
    for step in sorted(steps):
        checks = [
            e for e in order.view.of("step-checked") if e.data["step"] == step and "loss" in e.data["name"]
        ]
        if not checks:
            return Condition(name, False, f"{step} recorded no check of its loss")
        newest = {e.data["name"]: e for e in checks}.values()
        failed = next((e for e in newest if not e.data["passed"]), None)
        if failed is not None:
            return Condition(name, False, f"{step}: {failed.data['detail']} ({place(failed)})")
        evidence.append(
            f"{step}: {len(newest)} passed, the first: {checks[0].data['detail']} ({place(checks[0])})"
        )
    return Condition(name, True, "; ".join(evidence))


def _package(view: RunView) -> Condition:
    name = "reproducibility package complete and named as the run id"
    missing = [path for path in _PACKAGE if path not in view.artifacts]
    missing += ["environment/"] if not any(p.startswith("environment/") for p in view.artifacts) else []
    missing += ["raw/"] if not any(p.startswith("raw/") for p in view.artifacts) else []
    if missing:
        return Condition(name, False, f"not sealed: {', '.join(missing)}")
    if not _RUN_ID.fullmatch(view.run_id):
        return Condition(name, False, f"{view.run_id!r} is no INSTRUMENT-LINEAGE-YYYYMMDD-SEQ")
    folders = (view.root.name, view.root.parent.name)  # a packed bag holds the run in its folder `data`
    if view.run_id not in folders:
        return Condition(name, False, f"the folder is named {view.root.name}, the run {view.run_id}")
    return Condition(name, True, f"{view.run_id}: {len(view.artifacts)} sealed files, head {view.head}")


def _reads_first(order: Order) -> Condition:
    name = "Reads #0 and #1 sealed before any comparison"
    reads = {gate: order.answered(gate) for gate in ("read-0", "read-1")}
    for gate, answer in reads.items():
        if answer is None:
            return Condition(name, False, order.missing(gate))
        early = next((e for e in order.interpreting if e.seq < answer.seq), None)
        if early is not None:
            return Condition(name, False, f"step {early.data['step']} came before {gate} ({place(early)})")
    return Condition(name, True, "; ".join(order.sealed(a) for a in reads.values() if a is not None))


def _links(view: RunView) -> Condition:
    name = f"all link entries {PROVISIONAL} or signed with a Tier A record"
    signed = {e.data["signal"]: e for e in view.of(SIGNED)}
    wrong = [
        f"{s} cites {e.data['record']} of Tier {e.data['tier']}"
        for s, e in signed.items()
        if e.data["tier"] != "A"
    ]
    states = ", ".join(
        f"{s.id} {'signed with ' + str(signed[s.id].data['record']) if s.id in signed else PROVISIONAL}"
        for s in signals()
    )
    return Condition(name, not wrong, "; ".join(wrong) or states)
