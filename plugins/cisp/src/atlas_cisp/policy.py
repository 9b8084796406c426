"""The governance policy `cisp`: what the host asks of the protocol, answered by this package's parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from atlas.governance import Condition, Gate, Problem, TierReport
from atlas.record import RunView
from atlas_cisp.contamination import Guard, built_in, load_terms
from atlas_cisp.criteria import success_criteria
from atlas_cisp.gates import GATES, complete
from atlas_cisp.plan import installed_phase, plan_problems
from atlas_cisp.tiers import tier_report

__all__ = ["CispPolicy"]


@frozen
class CispPolicy:
    """The protocol as one manifest applies it; implements `atlas.governance.GovernancePolicy`.

    Attributes:
        options: The manifest's `governance` entry, valid by the card.
    """

    options: Mapping[str, Any] = field()

    def gates(self) -> tuple[Gate, ...]:
        """Return sanitisation sheet and Reads #0, #1, #2."""
        return GATES

    def records(self) -> tuple[str, ...]:
        """Return the behavioural records that the manifest names."""
        return tuple(str(self.options[k]) for k in ("bsa_record", "ecm_record") if self.options.get(k))

    def review_plan(self, manifest: Mapping[str, Any]) -> tuple[Problem, ...]:
        """Return what the manifest does against the protocol; overridable ones only lower the tier."""
        return plan_problems(manifest, installed_phase())

    def review(self, gate: str, text: str, view: RunView) -> tuple[Problem, ...]:
        """Return what an answer lacks, and for Read #1 the framework vocabulary in it.

        Read #1 goes to the synthesis model, so it is checked before it is sealed and can be reworded.
        """
        problems = complete(gate, text) if gate in {known.id for known in GATES} else ()
        if gate != "read-1":
            return problems
        found = self._guard().findings(text)
        return problems + tuple(_problem(f.term, f"{f.line}:{f.column}") for f in found)

    def inspect(self, documents: Mapping[str, str]) -> tuple[Problem, ...]:
        """Return the framework vocabulary in prompts or in the files of a package, by place."""
        guard = self._guard()
        return tuple(
            _problem(found.term, f"{name}:{found.line}:{found.column}")
            for name, text in documents.items()
            for found in guard.findings(text)
        )

    def tier(self, view: RunView) -> TierReport:
        """Compute the tier from the record."""
        return tier_report(view, self.options)

    def criteria(self, view: RunView) -> tuple[Condition, ...]:
        """Evaluate the success criteria."""
        return success_criteria(view, self.options)

    def _guard(self) -> Guard:
        path = self.options.get("vocabulary")
        return built_in() if path is None else built_in() + load_terms(Path(str(path)))


def _problem(term: str, where: str) -> Problem:
    return Problem(
        f"framework vocabulary: {term!r}. Say it in plain words, as a model must not be handed the frame",
        where=where,
        overridable=True,
    )
