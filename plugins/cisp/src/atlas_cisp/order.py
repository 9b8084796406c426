"""The order of a run: what came before what, as the journal tells it."""

from __future__ import annotations

from functools import cached_property

from attrs import define

from atlas.record import Event, RunView

__all__ = ["Order", "place"]


def place(event: Event) -> str:
    """Return where and when an event is journaled, for evidence."""
    return f"journal line {event.seq + 1}, {event.time}"


@define(frozen=True, slots=False)
class Order:
    """The landmarks of one run; None where the run has not reached one."""

    view: RunView

    @cached_property
    def touch(self) -> Event | None:
        """The first event that may have touched a model file."""
        return next(self.view.of("target-fetched", "step-started"), None)

    @cached_property
    def measured(self) -> Event | None:
        """The event after which all raw output is sealed."""
        return next((e for e in self.view.of("stage-done") if e.data["stage"] == "measure"), None)

    @cached_property
    def measuring(self) -> tuple[Event, ...]:
        """Starts of measuring steps."""
        end = self.measured
        return tuple(e for e in self.view.of("step-started") if end is None or e.seq < end.seq)

    @cached_property
    def interpreting(self) -> tuple[Event, ...]:
        """Starts of interpreting steps."""
        end = self.measured
        return tuple(e for e in self.view.of("step-started") if end is not None and e.seq > end.seq)

    @cached_property
    def synthesised(self) -> tuple[Event, ...]:
        """Ends of interpreting steps that were given Read #1 and ended with a validated result."""
        given = {e.data["step"] for e in self.interpreting if "reads/read-1.md" in e.data["inputs"]}
        return tuple(e for e in self.view.of("step-finished") if e.data["step"] in given)

    @cached_property
    def read_raw_output(self) -> tuple[Event, ...]:
        """Ends of interpreting steps that were given tables: analyses and syntheses, no plan or prompt."""
        given = {
            e.data["step"]
            for e in self.interpreting
            if any(path.endswith(".csv") for path in e.data["inputs"])
        }
        return tuple(e for e in self.view.of("step-finished") if e.data["step"] in given)

    def answered(self, gate: str) -> Event | None:
        """Return the event that sealed a gate's answer."""
        state = self.view.gates.get(gate)
        return None if state is None else state.answered

    def missing(self, gate: str) -> str:
        """Return why a gate has no answer."""
        state = self.view.gates.get(gate)
        if state is None:
            return f"{gate} was never opened"
        if state.skipped is not None:
            return f"{gate} was skipped by {state.skipped.data['author']} ({place(state.skipped)})"
        return f"{gate} is open, not answered ({place(state.opened)})"

    def sealed(self, event: Event) -> str:
        """Return the evidence for a sealed answer: its author, place and digest."""
        data = event.data
        return f"{data['path']} by {data['author']}, sha256 {data['sha256'][:12]}, {place(event)}"
