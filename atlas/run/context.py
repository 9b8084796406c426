"""A step's world inside its process: what `atlas.contracts.StepContext` promises, kept.

Results are written into the request's `out` folder as they come and checked once more at the end;
what is not declared, not complete or not valid ends the step with the plugin's name.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from atlas.catalog import Offer
from atlas.contracts import AwaitAnswer, Slice, Target, TargetSource
from atlas.errors import AtlasError, BadInput, InstrumentFailed, PluginFault
from atlas.host import Host
from atlas.manifest.structure import annotated
from atlas.quantities import Quantity
from atlas.randomness import RandomStreams
from atlas.record import canonical_json
from atlas.run.messages import OutputFile, StepRequest, TargetRequest
from atlas.run.paths import place
from atlas.tables import QUANTITIES, TableSchema, to_csv

__all__ = ["Context", "HumanNeeded", "ProgressSender", "Report"]

Report = Callable[[Mapping[str, Any]], None]
"""Sends a message to the host."""

_FACTS = "facts.json"
_PROGRESS_INTERVAL = 0.05


class HumanNeeded(BaseException):
    """Unwinds an instrument that waits for a person; no `except Exception` of it may stop this."""

    def __init__(self, ask: AwaitAnswer) -> None:
        self.ask = ask
        super().__init__(ask.ask)


class ProgressSender:
    """Sends progress, but no more than a terminal can show."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._last = 0.0

    def __call__(
        self, message: str, *, done: int | None = None, total: int | None = None, **figures: float
    ) -> None:
        """Say what is being done and how far it is."""
        now = time.monotonic()
        if now - self._last < _PROGRESS_INTERVAL and (done is None or done != total):
            return
        self._last = now
        shown = {name: float(value) for name, value in figures.items()}
        # Instruments count with numpy as often as not, and its integers are not JSON's.
        counts = {"done": None if done is None else int(done), "total": None if total is None else int(total)}
        self._report({"kind": "progress", "message": str(message), "figures": shown, **counts})


class Context:
    """Implements `StepContext` for one attempt at one step.

    Args:
        request: What the host asks for.
        host: Loads the plugins that the request names.
        offer: The instrument's offer, whose card was checked.
        report: Sends messages to the host.
    """

    def __init__(self, request: StepRequest, host: Host, offer: Offer, report: Report) -> None:
        self.step = request.step
        self.params: Mapping[str, Any] = request.params
        self.slices: tuple[Slice, ...] = request.slices
        self.max_tokens = request.max_tokens
        self.random = RandomStreams(request.seed)
        self.inputs: Mapping[str, Path] = {path: Path(copy) for path, copy in request.inputs.items()}
        self.scratch = Path(request.scratch)
        self.keep = Path(request.keep)
        self.threads = request.threads
        self.progress = ProgressSender(report)
        self._request = request
        self._host = host
        self._offer = offer
        self._report = report
        self._out = Path(request.out)
        self._declared = _declared(offer)
        self._opened: dict[str | None, Target] = {}
        self._quantities: list[Quantity] = []
        self._facts: dict[str, str] = {}
        self._files: dict[str, OutputFile] = {}
        self._failed: InstrumentFailed | None = None

    def target(self, name: str | None = None) -> Target:
        """Open the step's target, or one that its parameters name, once."""
        if name not in self._opened:
            wanted = self._request.target if name is None else self._request.named_targets.get(name)
            if wanted is None and name is not None:
                raise self._fault(
                    f"the target {name!r} was not granted to this step; "
                    "its parameter needs `x-atlas-target: true`"
                )
            if wanted is None and self._request.series:
                raise self._fault("the step's target is a series; its members come from `targets`")
            if wanted is None:
                raise self._fault("the step has no target; its card must say `needs: {target: true}`")
            self._opened[name] = self._open(wanted)
        return self._opened[name]

    def targets(self) -> Iterator[tuple[str, Target]]:
        """Open the members of the step's target one after the other, and let go of each."""
        if not self._request.series:
            yield "", self.target()
        for label, wanted in self._request.series:
            target = self._open(wanted)
            for name, value in target.facts.items():
                self.fact(f"target.{label}.{name}", value)
            yield label, target
            del target

    def openers(self) -> Iterator[tuple[str, Callable[[], Target]]]:
        """Yield label and a function that opens it, for the target or each member of its series."""
        if self._request.target is None and not self._request.series:
            raise self._fault("the step has no target; its card must say `needs: {target: true}`")
        if self._request.target is not None:
            yield "", self._opener(self._request.target)
        for label, wanted in self._request.series:
            yield label, self._opener(wanted)

    def _open(self, wanted: TargetRequest) -> Target:
        return self._opener(wanted)()

    def _opener(self, wanted: TargetRequest) -> Callable[[], Target]:
        source: TargetSource = self._load("targets", wanted.use)
        named = annotated(
            self._host.catalog.find("targets", wanted.use).params, wanted.params, "x-atlas-kind"
        )
        terms = {name: self._load(kind, name) for _, name, kind in named if kind == "loss_terms"}
        if terms:
            return partial(source.open, wanted.params, threads=self.threads, loss_terms=terms)
        return partial(source.open, wanted.params, threads=self.threads)

    def load(self, kind: str, name: str) -> Any:
        """Return another admitted object that the parameters name."""
        if (kind, name) not in self._request.offers:
            raise self._fault(
                f"{kind} {name!r} was not granted to this step; its parameter needs `x-atlas-kind: {kind}`"
            )
        return self._load(kind, name)

    def check(self, name: str, passed: bool, detail: str) -> None:
        """Record a sanity check; one that fails ends the step, even if the instrument goes on."""
        self._report({"kind": "check", "name": str(name), "passed": bool(passed), "detail": str(detail)})
        if not passed:
            failure = InstrumentFailed(f"the check {name!r} did not pass: {detail}", who=self._offer.who)
            self._failed = self._failed or failure
            raise failure

    def record(self, quantity: Quantity) -> None:
        """Record a quantity."""
        if not isinstance(quantity, Quantity):
            raise self._fault(f"a {type(quantity).__name__} is no Quantity")
        self._quantities.append(quantity)

    def table(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a declared table and its schema."""
        if name == QUANTITIES.name:
            raise self._fault("quantities are recorded one by one, with `record`")
        if name not in self._declared:
            raise self._fault(f"the table {name!r} is not among the card's outputs")
        identifier = self._declared[name][0]
        try:
            schema: TableSchema = self._host.schemas(self._offer)[identifier]
        except KeyError as error:
            raise self._fault(f"the plugin offers no schema {identifier!r} for its table {name!r}") from error
        self._write_table(name, schema, rows)

    def attach(self, name: str, data: bytes) -> None:
        """Keep a file that is not a table."""
        if not isinstance(data, bytes):
            raise self._fault(f"the attachment {name!r} is a {type(data).__name__}, expected bytes")
        if name.endswith((".csv", ".schema.json")) or name == _FACTS or name.startswith("handout/"):
            raise self._fault(f"the attachment {name!r} has a name that the host keeps for itself")
        self._write(name, data, "attachment")

    def fact(self, name: str, value: str) -> None:
        """Record a fact; saying it again is harmless, changing it is not."""
        if not isinstance(name, str) or not isinstance(value, str):
            raise self._fault(f"the fact {name!r} is a {type(value).__name__}, expected text")
        if self._facts.setdefault(name, value) != value:
            raise self._fault(f"the fact {name!r} was {self._facts[name]!r} and is now {value!r}")

    def await_human(self, ask: AwaitAnswer) -> None:
        """End the step here until a person has answered."""
        raise HumanNeeded(ask)

    def handout(self, ask: AwaitAnswer) -> tuple[OutputFile, ...]:
        """Write the files that a person needs; results so far are dropped, as the step starts anew."""
        self._files.clear()
        for name, data in ask.handout.items():
            self._write(f"handout/{name}", data, "handout")
        return tuple(self._files.values())

    def finish(self) -> tuple[OutputFile, ...]:
        """Write what is left, and return all files of the step, sorted by name.

        Raises:
            InstrumentFailed: A check had failed, a declared table is missing, or nothing was measured.
        """
        if self._failed is not None:
            raise self._failed
        if self._quantities:
            self._write_table(QUANTITIES.name, QUANTITIES, (q.as_record() for q in self._quantities))
        missing = sorted(
            name
            for name, (_, optional) in self._declared.items()
            if not optional and f"{name}.csv" not in self._files
        )
        if missing:
            raise self._fault(f"the card declares the table {', '.join(missing)}, which was not written")
        if not self._files:
            raise self._fault("the instrument ended without a quantity, a table or an attachment")
        for owner, target in self._opened.items():
            prefix = "target" if owner is None else f"targets.{owner}"
            for name, value in target.facts.items():
                self.fact(f"{prefix}.{name}", value)
        self._write(_FACTS, canonical_json(self._facts) + b"\n", "facts")
        return tuple(self._files[name] for name in sorted(self._files))

    def _load(self, kind: str, name: str) -> Any:
        offer = self._host.catalog.find(kind, name)
        if offer.plugin not in self._request.cards:
            raise PluginFault(
                f"{kind} {name!r} belongs to a plugin that this run did not admit", who=offer.who
            )
        return self._host.load(kind, name)

    def _write_table(self, name: str, schema: TableSchema, rows: Iterable[Mapping[str, Any]]) -> None:
        try:
            data = to_csv(schema, rows)
        except BadInput as error:
            raise self._fault(f"{error.where}: {error.what}") from error
        self._write(f"{name}.csv", data, "table")
        descriptor = json.dumps(schema.descriptor(), indent=2, sort_keys=True) + "\n"
        self._write(f"{name}.schema.json", descriptor.encode("ascii"), "schema")

    def _write(self, name: str, data: bytes, role: str) -> None:
        if name in self._files:
            raise self._fault(f"{name} was written already")
        try:
            path = place(self._out, name)
        except BadInput as error:
            raise self._fault(str(error)) from error
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self._files[name] = OutputFile(name, role, len(data), hashlib.sha256(data).hexdigest())

    def _fault(self, what: str) -> AtlasError:
        return InstrumentFailed(what, who=self._offer.who)


def _declared(offer: Offer) -> dict[str, tuple[str, bool]]:
    """Read the card's `outputs`: table -> (schema, whether it may be left out).

    An output is `table: schema/1`, or `table: {schema: schema/1, optional: true}`.
    """
    result = {}
    for name, entry in (offer.details.get("outputs") or {}).items():
        if isinstance(entry, str):
            result[str(name)] = (entry, False)
        elif isinstance(entry, Mapping) and isinstance(entry.get("schema"), str):
            result[str(name)] = (entry["schema"], entry.get("optional") is True)
        else:
            raise PluginFault(f"the card's output {name!r} names no schema", who=offer.who)
    return result
