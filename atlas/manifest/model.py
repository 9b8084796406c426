"""A resolved manifest: every default filled in, every name found, ready to run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from atlas.catalog import Offer

__all__ = ["SOURCE_KEYS", "Reference", "Resolved", "Step", "in_order", "references", "source_params"]

SOURCE_KEYS: Mapping[str, tuple[str, ...]] = {
    "targets": ("use", "series"),
    "stimuli": ("use", "where", "each", "limit", "max_tokens"),
    "governance": ("use", "version"),
}
"""The host's own keys in entries whose other keys are parameters of what they `use`."""


@frozen
class Reference:
    """What a step sees: `part` of a step (`raw`, `answer` or a table), or the Read of that number.

    Attributes:
        step: Id of the step, or None for a Read.
        part: `raw`, `answer`, a table's name, or `read-1`.
    """

    step: str | None
    part: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read `curvature.raw` or `read-1`."""
        step, dot, part = text.partition(".")
        return cls(step, part) if dot else cls(None, text)

    def __str__(self) -> str:
        """Write it as the manifest does."""
        return self.part if self.step is None else f"{self.step}.{self.part}"


@frozen
class Step:
    """One step of a resolved manifest.

    Attributes:
        id: Its id.
        offer: The instrument.
        others: Offers that its parameters name, such as a synthesis adapter.
        target: Name of its target, or None.
        other_targets: Names of targets that its parameters name.
        params: Valid by the card, defaults filled in.
        sees: What it may read.
        threads: Threads granted.
        timeout_s: Seconds after which it is stopped.
        isolation: `process` or `inline`.
        network: Whether the network is granted.
    """

    id: str
    offer: Offer
    others: tuple[Offer, ...]
    target: str | None
    other_targets: tuple[str, ...]
    params: Mapping[str, Any]
    sees: tuple[Reference, ...]
    threads: int
    timeout_s: float
    isolation: str
    network: bool

    def needs(self, what: str) -> Any:
        """Return what the instrument or an offer its parameters name needs: the largest, or any."""
        values = [offer.details.get("needs", {}).get(what) for offer in (self.offer, *self.others)]
        return max((value for value in values if value is not None), default=None)


@frozen
class Resolved:
    """A manifest that can run here.

    Attributes:
        data: Plain values, all defaults filled in; `dump(data)` is a manifest with an equal `data`.
        offers: Every offer that the run names, by (kind, name).
        steps: The steps in the manifest's order.
        folder: The manifest's folder.
        source: The manifest's bytes, as written.
        governed: Whether a governance policy holds the run.
        notes: What the user should know: not admitted, capped at Tier C.
        inside_files: Files that `data` refers to as `stimulus/files/<relative>`, by that relative
            path; the host copies them into the run folder.
        stimulus: The stimulus entry as `data` has it, but with its paths as they are in `folder` now,
            before those copies exist; None without a stimulus.
    """

    data: dict[str, Any] = field(repr=False)
    offers: Mapping[tuple[str, str], Offer] = field(repr=False)
    steps: tuple[Step, ...]
    folder: Path
    source: bytes = field(repr=False)
    governed: bool
    notes: tuple[str, ...]
    inside_files: Mapping[str, Path]
    stimulus: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def primary(self) -> Offer:
        """The instrument of the first step; its `code` begins the run id."""
        return self.steps[0].offer

    def params(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """Return what a plugin gets of a target's, the stimulus's or the governance entry.

        Args:
            kind: `targets`, `stimuli` or `governance`.
            name: The target's name.
        """
        entry = {
            "targets": lambda: self.data["targets"][name],
            "stimuli": lambda: self.data["stimulus"],
            "governance": lambda: self.data["governance"],
        }[kind]()
        return source_params(kind, entry, self.offers[kind, entry["use"]])


def references(step: Mapping[str, Any]) -> tuple[Reference, ...]:
    """Return what a step of a resolved manifest sees."""
    return tuple(Reference.parse(item["from"]) for item in step.get("sees") or ())


def in_order(steps: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Return resolved steps so that each comes after those whose results it sees, else as given."""
    ordered: list[Mapping[str, Any]] = []
    pending = list(steps)
    while pending:
        waiting = {step["id"] for step in pending}
        ready = next(step for step in pending if not any(r.step in waiting for r in references(step)))
        pending.remove(ready)
        ordered.append(ready)
    return tuple(ordered)


def source_params(kind: str, entry: Mapping[str, Any], offer: Offer) -> dict[str, Any]:
    """Return an entry without the host's own keys, except those that the card describes too."""
    own = set(SOURCE_KEYS[kind]) - set(offer.params.get("properties", {}))
    return {key: value for key, value in entry.items() if key not in own}
