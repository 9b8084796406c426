"""The link sheet: what the measured geometry may mean in the programme's vocabulary, and how sure that is.

An entry is PROVISIONAL until a Technician signs it with a behavioural record whose own journal ends in
Tier A. The sheet is closed until Read #1 is sealed. What is high or low is so relative to a reference that
was declared before; beside a value without one the sheet says that it is neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

from atlas.contracts import Workspace
from atlas.errors import BadInput
from atlas.quantities import Quantity, UncertaintyKind
from atlas.record import Event, RunView
from atlas_cisp.records import pairs_used, record_tier, shortfall

__all__ = [
    "PROVISIONAL",
    "SIGNED",
    "LinkEntry",
    "Measured",
    "Signal",
    "link_sheet",
    "shown",
    "sign",
    "signals",
]

PROVISIONAL = "PROVISIONAL"
SIGNED = "cisp.link-signed"

_RELATIONS = "link-relations"
"""Schema of the table by which a step says where values stand against the declared reference."""

_ALONE = "neither high nor low: no reference was declared for it"


@frozen
class Signal:
    """A geometric signal, the term that it may stand for, and the working hypothesis between them."""

    id: str
    signal: str
    term: str
    hypothesis: str
    quantities: tuple[str, ...]


@frozen
class Measured:
    """A value that a signal is about.

    Attributes:
        step: Step that measured it.
        quantity: One per slice and index.
        relation: In words, where it stands against the declared reference.
    """

    step: str
    quantity: Quantity
    relation: str

    def __str__(self) -> str:
        """Return the value with its place and its relation, for people."""
        q = self.quantity
        index = "" if q.index is None else f" {q.index}"
        return f"{self.step}, {q.slice}: {q.quantity}{index} = {shown(q)}; {self.relation}"


@frozen
class LinkEntry:
    """A line of a run's link sheet.

    Attributes:
        signal: What the line is about.
        measured: The run's values.
        signed: The event that took it out of PROVISIONAL, or None.
    """

    signal: Signal
    measured: tuple[Measured, ...]
    signed: Event | None

    @property
    def status(self) -> str:
        """`PROVISIONAL`, or who signed it with which record."""
        if self.signed is None:
            return PROVISIONAL
        data = self.signed.data
        return f"signed by {data['author']} with {data['record']} (Tier {data['tier']}, head {data['head']})"


@cache
def signals() -> tuple[Signal, ...]:
    """Return the signals of the link sheet, in its order."""
    data = yaml.safe_load(Path(__file__).with_name("link-sheet.yaml").read_text(encoding="utf-8"))
    return tuple(Signal(**{**entry, "quantities": tuple(entry["quantities"])}) for entry in data["signals"])


def link_sheet(view: RunView) -> tuple[LinkEntry, ...]:
    """Return the link sheet of a run.

    Raises:
        BadInput: Read #1 is not sealed, so nothing may be interpreted yet.
    """
    state = view.gates.get("read-1")
    if state is None or state.answered is None:
        raise BadInput(
            f"the link sheet of {view.run_id} is closed until Read #1 is sealed",
            fix=f"atlas read 1 {view.run_id}",
        )
    quantities, relations = tuple(view.quantities()), tuple(_relations(view))
    signed = {e.data["signal"]: e for e in view.of(SIGNED)}

    def about(signal: Signal) -> Iterator[Measured]:
        for step, q in quantities:
            if q.quantity in signal.quantities:
                place = (step, q.slice, 1 if q.index is None else q.index, q.quantity)
                yield Measured(step, q, "; ".join(told for at, told in relations if at == place) or _ALONE)

    return tuple(LinkEntry(signal, tuple(about(signal)), signed.get(signal.id)) for signal in signals())


def _relations(view: RunView) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield the place of each value that a step compared with its reference, and the outcome in words."""
    for step in view.finished_steps():
        for path in view.artifacts:
            name = path.removeprefix(f"raw/{step}/").removesuffix(".schema.json")
            if path != f"raw/{step}/{name}.schema.json" or json.loads(view.read(path))["name"] != _RELATIONS:
                continue
            for row in view.tables(step)[name]:
                told = f"{row['relation']} against {row['reference']}"
                if row["count"]:
                    told += f" (above {row['above']}, below {row['below']} of {row['count']})"
                yield (row["step"], row["slice"], row["index"], row["quantity"]), told


def shown(quantity: Quantity) -> str:
    """Return a quantity as a person reads it: value, uncertainty and what it is, and convergence."""
    if quantity.value is None:
        return f"undefined: {quantity.note}"
    text = f"{quantity.value:.6g}"
    if quantity.uncertainty is None:
        text += " (uncertified)"
    elif quantity.uncertainty_kind is not UncertaintyKind.EXACT:
        text += f" ± {quantity.uncertainty:.2g} ({quantity.uncertainty_kind.value.replace('_', ' ')})"
    if quantity.unit != "1":
        text += f" {quantity.unit}"
    return text if quantity.converged else f"{text}, not converged"


def sign(workspace: Workspace, run: str, signal: str, record: str, author: str) -> LinkEntry:
    """Take one entry out of PROVISIONAL and return it.

    Raises:
        BadInput: The sheet is closed, the signal unknown or signed already, nobody signs, or the record
            is not Tier A by its own journal or not about the run's pairs.
        IntegrityBroken: A file of the record differs from what was sealed.
    """
    view = workspace.view(run)
    entry = next((e for e in link_sheet(view) if e.signal.id == signal), None)
    if entry is None:
        raise BadInput(
            f"there is no signal {signal!r}", fix=f"choose one of: {', '.join(s.id for s in signals())}"
        )
    if entry.signed is not None:
        raise BadInput(f"{signal} is {entry.status} already")
    if not entry.measured:
        raise BadInput(f"{view.run_id} measured nothing that stands for {signal}")
    if not author.strip():
        raise BadInput("a signature needs a name", fix='add --by "Your Name"')
    evidence = workspace.view(record)
    tier = record_tier(evidence)
    if tier != "A":
        ends = f"ends in Tier {tier}" if tier is not None else "is not finished"
        raise BadInput(f"{evidence.run_id} {ends}; only a Tier A behavioural record lifts {PROVISIONAL}")
    gap = shortfall(evidence, pairs_used(view))
    if gap is not None:
        raise BadInput(f"{evidence.run_id} does not support {view.run_id}: {gap}")
    workspace.event(
        run,
        SIGNED,
        {
            "signal": signal,
            "record": evidence.run_id,
            "head": str(evidence.head),
            "tier": tier,
            "author": author.strip(),
        },
    )
    return next(e for e in link_sheet(workspace.view(run)) if e.signal.id == signal)
