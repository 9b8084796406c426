"""A run folder as a reader sees it: the journal folded into a view, every line checked.

The journal is one JSON object a line in canonical form (sorted keys, no spaces, ASCII, no floats),
each holding the sha256 of the line before it. The run's state is a pure fold over it; nothing else
stores status. Event types of the host:

| type | data |
| --- | --- |
| `created` | `run_id`, `atlas`, `governed`, optionally `repeats` |
| `sealed` | `path`, `size`, `sha256`, `role`, optionally `step` |
| `declared` | `hypotheses`, `resolved` (sha256 of the manifest that holds them) |
| `record-linked` | `record`, `head`, `tier`, `folder` |
| `gate-opened` | `gate`, `stage`, `title` |
| `gate-answered` | `gate`, `author`, `path`, `sha256`, `via` |
| `gate-skipped` | `gate`, `author`, `reason` |
| `amended` | `gate`, `author`, `path`, `sha256` |
| `override-signed` | `gate`, `author`, `reason`, `problems` |
| `inspected` | `what`, `inputs`, `problems` |
| `target-fetched` | `target`, `params`, of a series `member` |
| `step-started` | `step`, `attempt`, `seed`, `inputs`, `isolation`, `threads` |
| `step-checked` | `step`, `name`, `passed`, `detail` |
| `step-waiting` | `step`, `ask`, `folder` |
| `step-finished` | `step`, `attempt`, `seconds`, `isolation` |
| `step-passed-over` | `step`, `absent` |
| `step-failed` | `step`, `attempt`, `reason`, `message` |
| `hypotheses-judged` | `declared` (line), `verdicts` by hypothesis |
| `hypothesis-explored` | `hypothesis`, `verdict` |
| `prepared` | (seals the files of the preparation) |
| `stage-done` | `stage` |
| `finished` | `tier`, `conditions` |
| `abandoned` | `author`, `reason` |
| `recovered` | `bytes`, `sha256` |
| `set-aside` | `path`, `moved_to` |

Any event may carry `sealed`: a list of `path`, `size`, `sha256`, `role` of files that this very line
seals, all or none of them. `step-finished` seals a step's results so, hence no step is half sealed.
An event's data holds `clock_back_ms` where the machine's clock had gone back. Events of a plugin are
named `<plugin>.<what>`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from attrs import define, field, frozen

from atlas.errors import BadInput, IntegrityBroken
from atlas.quantities import Quantity
from atlas.tables import QUANTITIES, TableSchema, read_csv

__all__ = [
    "GENESIS",
    "JOURNAL",
    "Artifact",
    "Event",
    "GateState",
    "Head",
    "RunView",
    "canonical_json",
    "open_record",
    "parse_journal",
    "spelled",
]

JOURNAL = "journal.jsonl"
GENESIS = "0" * 64
_RESTORE = (
    "put back the file that was sealed, from a bundle or a backup; `atlas verify` lists all differences"
)


@frozen
class Head:
    """Length and hash of a journal: whoever holds it can tell if a later line was dropped."""

    length: int
    sha256: str

    def __str__(self) -> str:
        """`length:hash`, as `atlas verify --head` takes it."""
        return f"{self.length}:{self.sha256}"


@frozen
class Event:
    """One line of the journal."""

    seq: int
    type: str
    time: str
    data: Mapping[str, Any]


@frozen
class Artifact:
    """A sealed file."""

    path: str
    size: int
    sha256: str
    role: str
    step: str | None = None


@frozen
class GateState:
    """A gate as the journal tells it: the events that opened, passed and amended it."""

    id: str
    opened: Event
    answered: Event | None = None
    skipped: Event | None = None
    amendments: tuple[Event, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the run may go on beyond it."""
        return self.answered is not None or self.skipped is not None


def canonical_json(value: Any) -> bytes:
    """Return the one spelling of a JSON value: sorted keys, no spaces, ASCII, no NaN.

    Raises:
        ValueError: The value holds NaN or an infinity, or is nested too deeply.
        TypeError: It holds something that JSON does not know.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


def spelled(value: Any) -> Any:
    """Spell floats as text, which is how a journal holds them."""
    if isinstance(value, Mapping):
        return {key: spelled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [spelled(item) for item in value]
    return repr(value) if isinstance(value, float) else value


def _refuse_float(text: str) -> float:
    raise ValueError(f"a journal holds no floats: {text}")


def parse_journal(data: bytes, *, where: str) -> tuple[tuple[Event, ...], Head, bytes]:
    """Check and read journal bytes.

    Returns:
        The events, the head, and a torn tail: bytes after the last newline, never acknowledged.

    Raises:
        IntegrityBroken: A line is not canonical JSON, out of sequence, or does not hold the hash of
            the line before it. The message names the line.
    """
    *lines, torn = data.split(b"\n")
    events = []
    previous = GENESIS
    for number, line in enumerate(lines):
        place = f"{where}:{number + 1}"
        try:
            entry = json.loads(line, parse_float=_refuse_float)
            canonical = canonical_json(entry)
            event = Event(entry["seq"], entry["type"], entry["time"], entry["data"])
            link = entry["prev"]
            if not isinstance(event.data, dict) or not isinstance(event.type, str):
                raise TypeError("an event has a type and an object of data")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise IntegrityBroken("not a journal line", where=place) from error
        if canonical != line:
            raise IntegrityBroken("the line is not in canonical form", where=place)
        if event.seq != number or link != previous:
            raise IntegrityBroken("the chain is broken: this line does not follow", where=place)
        previous = hashlib.sha256(line).hexdigest()
        events.append(event)
    return tuple(events), Head(len(events), previous), torn


@define(frozen=True, slots=False)
class RunView:
    """A run, read only. Cached properties are folds over `events`.

    Attributes:
        root: The run folder.
        events: The journal.
        head: Its head.
    """

    root: Path
    events: tuple[Event, ...] = field(repr=False)
    head: Head

    def of(self, *types: str) -> Iterator[Event]:
        """Yield the events of these types, in order."""
        return (event for event in self.events if event.type in types)

    def head_after(self, event: Event) -> Head:
        """Return the journal head right after an event: what a bound seed is derived from."""
        lines = (self.root / JOURNAL).read_bytes().split(b"\n")
        return Head(event.seq + 1, hashlib.sha256(lines[event.seq]).hexdigest())

    def last(self, type: str) -> Event | None:
        """Return the newest event of a type."""
        return next((e for e in reversed(self.events) if e.type == type), None)

    @cached_property
    def run_id(self) -> str:
        """`INSTRUMENT-LINEAGE-YYYYMMDD-SEQ`."""
        return str(self.events[0].data["run_id"])

    @cached_property
    def governed(self) -> bool:
        """Whether a governance policy holds the run."""
        return bool(self.events[0].data["governed"])

    @cached_property
    def artifacts(self) -> Mapping[str, Artifact]:
        """Sealed files by their path in the run folder.

        Raises:
            IntegrityBroken: A path was sealed twice; no writer does that.
        """
        result: dict[str, Artifact] = {}
        for event in self.events:
            sealed = [event.data] if event.type == "sealed" else event.data.get("sealed", ())
            for item in sealed:
                path = item["path"]
                if path in result:
                    raise IntegrityBroken("a sealed path is sealed again", where=f"{JOURNAL}:{event.seq + 1}")
                step = event.data.get("step")
                result[path] = Artifact(path, item["size"], item["sha256"], item["role"], step)
        return result

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """The resolved manifest; empty for records collected by hand."""
        if "manifest.resolved.yaml" not in self.artifacts:
            return {}
        data: Mapping[str, Any] = yaml.safe_load(self.read("manifest.resolved.yaml"))
        return data

    @cached_property
    def gates(self) -> Mapping[str, GateState]:
        """Gates that were opened, in order; a waiting step is a gate of its own id."""
        opened = {e.data["gate"]: e for e in self.of("gate-opened")}

        def newest(type: str, gate: str) -> Event | None:
            found = [e for e in self.of(type) if e.data["gate"] == gate]
            return found[-1] if found else None

        return {
            gate: GateState(
                gate,
                event,
                newest("gate-answered", gate),
                newest("gate-skipped", gate),
                tuple(e for e in self.of("amended") if e.data["gate"] == gate),
            )
            for gate, event in opened.items()
        }

    @cached_property
    def state(self) -> str:
        """`abandoned`, `done`, `waiting`, `failed` or `running`: what the journal ends in."""
        if self.last("abandoned"):
            return "abandoned"
        if self.last("finished"):
            return "done"
        if self.waiting_for is not None:
            return "waiting"
        steps = [e for e in self.of("step-started", "step-failed", "step-finished")]
        return "failed" if steps and steps[-1].type == "step-failed" else "running"

    @cached_property
    def waiting_for(self) -> GateState | None:
        """The gate that a person must answer next."""
        return next((g for g in self.gates.values() if not g.passed), None)

    @cached_property
    def stages_done(self) -> tuple[str, ...]:
        """The stages that are over, `prepare` first."""
        return tuple(e.data["stage"] for e in self.of("stage-done"))

    def finished_steps(self) -> tuple[str, ...]:
        """Return the ids of the steps that ended with a validated result."""
        return tuple(dict.fromkeys(e.data["step"] for e in self.of("step-finished")))

    def read(self, path: str) -> bytes:
        """Return a sealed file's bytes, checked against its digest.

        Raises:
            IntegrityBroken: The file is gone or differs from what was sealed.
        """
        artifact = self.artifacts[path]
        try:
            data = (self.root / path).read_bytes()
        except OSError as error:
            raise IntegrityBroken("a sealed file cannot be read", where=path, fix=_RESTORE) from error
        if hashlib.sha256(data).hexdigest() != artifact.sha256:
            raise IntegrityBroken("the file differs from what was sealed", where=path, fix=_RESTORE)
        return data

    def text(self, path: str) -> str:
        """Return a sealed text."""
        return self.read(path).decode("utf-8")

    def tables(self, step: str) -> Mapping[str, list[dict[str, Any]]]:
        """Return a step's tables by name, read by the schema sealed beside each."""
        prefix = f"raw/{step}/"
        result = {}
        for path in self.artifacts:
            if path.startswith(prefix) and path.endswith(".csv"):
                descriptor = json.loads(self.read(path.removesuffix(".csv") + ".schema.json"))
                schema = TableSchema.from_descriptor(descriptor)
                name = path.removeprefix(prefix).removesuffix(".csv")
                result[name] = list(read_csv(schema, self.read(path), where=path))
        return result

    def quantities(self) -> Iterator[tuple[str, Quantity]]:
        """Yield (step, quantity) for every finished step, in the order of the tables."""
        for step in self.finished_steps():
            path = f"raw/{step}/{QUANTITIES.name}.csv"
            if path in self.artifacts:
                for row in read_csv(QUANTITIES, self.read(path), where=path):
                    row["note"] = row["note"] or ""
                    yield step, Quantity(**row)  # type: ignore[arg-type]

    def links(self) -> Mapping[str, RunView]:
        """Return the behavioural records that were copied into the run folder, by id."""
        return {
            event.data["record"]: open_record(self.root / event.data["folder"])
            for event in self.of("record-linked")
        }


def open_record(root: Path) -> RunView:
    """Read a run folder; a torn last line is ignored, as it was never acknowledged.

    Raises:
        BadInput: There is no run at `root`.
        IntegrityBroken: The journal's chain is broken.
    """
    try:
        data = (root / JOURNAL).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput("no run here: there is no journal.jsonl", where=str(root)) from error
    events, head, _ = parse_journal(data, where=JOURNAL)
    if not events or events[0].type != "created":
        raise BadInput("the run was never created: its journal is empty", where=str(root))
    return RunView(root, events, head)
