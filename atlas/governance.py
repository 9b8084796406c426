"""What a governance policy decides: gates, problems with what people wrote, and the tier.

The host runs the gates in order and keeps the record. It knows of no particular protocol; a policy
plugin says which gates there are, whether an answer may be sealed, and what the evidence supports.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from attrs import frozen

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = [
    "STAGES",
    "Condition",
    "Gate",
    "GovernancePolicy",
    "PolicyFactory",
    "Problem",
    "Stage",
    "Tier",
    "TierReport",
    "comparison_closed",
    "interpretation_closed",
    "stage_reached",
]

Stage = Literal["measure", "interpret", "close"]
"""What cannot begin before a gate is answered: the measuring steps, everything that interprets
their output, or the end of the run."""

STAGES: tuple[Stage, ...] = ("measure", "interpret", "close")
"""The stages in their order; what comes before the first is `prepare`."""

Tier = Literal["A", "B", "C"]


def stage_reached(done: Collection[str]) -> Stage:
    """Return the stage that a run is in whose `done` stages are over."""
    return next((stage for stage in STAGES if stage not in done), STAGES[-1])


def interpretation_closed(view: RunView) -> str | None:
    """Return why interpretation is closed, or None once it is open.

    In a governed run it opens when the measurement is done and each gate that stands before the
    interpreting steps is passed; in an ungoverned one when the measurement is done.
    """
    done = {event.data["stage"]: event.seq for event in view.of("stage-done")}
    if view.last("finished") or "interpret" in done:
        return None
    if "measure" not in done:
        return "the measurement is not finished"
    if not view.governed:
        return None
    waited = {event.data["step"] for event in view.of("step-waiting")}
    gates = [g for g in view.gates.values() if g.opened.data["stage"] == "interpret" and g.id not in waited]
    if all(gate.passed for gate in gates) if gates else _went_on(view, done["measure"]):
        return None
    title = gates[-1].opened.data.get("title", gates[-1].id) if gates else "the first Read of the output"
    return f"nobody has written down yet what they see in the numbers ({title})"


def comparison_closed(view: RunView) -> str | None:
    """Return why a run may not be put beside others, or None.

    Whatever compares runs or models asks this first: what a governed run measured is seen beside other
    numbers only once its Technician has written down what they expected (Read #0) and what they saw in it
    alone (Read #1).
    """
    if not view.governed:
        return None
    gates = {name: view.gates.get(name) for name in ("read-0", "read-1")}
    open_ = [name for name, gate in gates.items() if gate is None or gate.answered is None]
    return f"{' and '.join(open_)} of it is not sealed" if open_ else None


def _went_on(view: RunView, seq: int) -> bool:
    return any(event.seq > seq for event in view.of("step-started"))


@frozen
class Gate:
    """A place where the run stops until a person has answered in writing.

    Attributes:
        id: `read-0`; what `atlas read 0` and `atlas answer RUN read-0` name.
        title: For people.
        stage: What it holds back. Gates of one stage are asked in the policy's order.
        path: Where the sealed answer lies in the run folder, `reads/read-0.md`.
        template: The document that the person's editor opens with.
        guidance: One or two sentences: what is asked, and of whom.
        binds_seed: Seeds of later steps are derived from the journal head that seals this answer.
    """

    id: str
    title: str
    stage: Stage
    path: str
    template: str
    guidance: str
    binds_seed: bool = False


@frozen
class Problem:
    """Something in a text or plan that a policy does not accept."""

    message: str
    where: str | None = None
    overridable: bool = False

    def __str__(self) -> str:
        """Render as `where: message`."""
        return self.message if self.where is None else f"{self.where}: {self.message}"


@frozen
class Condition:
    """One condition, whether the record meets it, and the evidence either way.

    Attributes:
        name: In plain words.
        met: Whether it holds.
        evidence: The journal entries, digests or absences that decide it.
        otherwise: The tier that the run falls to where it does not hold; None for criteria that
            inform but do not lower.
    """

    name: str
    met: bool
    evidence: str
    otherwise: Tier | None = None


@frozen
class TierReport:
    """The highest tier that the record supports; computed, never set."""

    tier: Tier
    conditions: tuple[Condition, ...]

    @classmethod
    def of(cls, conditions: tuple[Condition, ...]) -> TierReport:
        """Compute the tier: A, lowered to the worst `otherwise` of the conditions not met."""
        fallen: list[Tier] = [c.otherwise for c in conditions if not c.met and c.otherwise]
        return cls(max(fallen, default="A"), conditions)


class GovernancePolicy(Protocol):
    """One protocol of how findings are produced; made from the manifest's `governance` entry."""

    def gates(self) -> tuple[Gate, ...]:
        """Return the gates in the order in which they are asked."""
        ...

    def records(self) -> tuple[str, ...]:
        """Return the ids of the behavioural records that the run hangs on."""
        ...

    def review_plan(self, manifest: Mapping[str, Any]) -> tuple[Problem, ...]:
        """Return what the protocol forbids in a resolved manifest, before a run folder exists."""
        ...

    def review(self, gate: str, text: str, view: RunView) -> tuple[Problem, ...]:
        """Return what keeps an answer from being sealed; empty when it may be."""
        ...

    def inspect(self, documents: Mapping[str, str]) -> tuple[Problem, ...]:
        """Return what keeps these texts from a model: prompts, or the files of a package."""
        ...

    def tier(self, view: RunView) -> TierReport:
        """Compute the tier from the record."""
        ...

    def criteria(self, view: RunView) -> tuple[Condition, ...]:
        """Evaluate the protocol's success criteria on the record."""
        ...


class PolicyFactory(Protocol):
    """Makes a policy from the manifest's `governance` entry, valid by the card."""

    def __call__(self, options: Mapping[str, Any]) -> GovernancePolicy:
        """Return the policy."""
        ...
