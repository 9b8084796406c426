"""What host and child process say to each other: one request in, messages back, all of them JSON.

The request goes to the child on its standard input; the child answers on a private, authenticated
channel. Each message is an object with a `kind`:

| kind | fields | meaning |
| --- | --- | --- |
| `ready` | `isolation` | the child runs; how it is isolated, as strings |
| `progress` | `message`, `done`, `total`, `figures` | work under way; shown, never sealed |
| `check` | `name`, `passed`, `detail` | a sanity check; journaled as `step-checked` |
| `waiting` | the fields of `StepWaiting` | last: a person must act |
| `result` | the fields of `StepResult` or of `FetchResult` | last: success |
| `error` | `error`, `what`, `where`, `who`, `fix`, `memory` | last: failure; whether memory ran out |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import cattrs
from attrs import field, frozen

from atlas.contracts import Slice

__all__ = [
    "FetchRequest",
    "FetchResult",
    "OutputFile",
    "StepRequest",
    "StepResult",
    "StepWaiting",
    "TargetRequest",
    "decode",
    "encode",
    "structure",
]

T = TypeVar("T")


@frozen
class TargetRequest:
    """A target to open: the source's name among the `targets` offers, and what `fetch` returned."""

    use: str
    params: Mapping[str, Any]


@frozen
class StepRequest:
    """Everything that a step's process is told; it can reach nothing else of the run.

    Attributes:
        step: The step's id.
        instrument: Name among the `instruments` offers.
        who: `Offer.who` of the instrument, for messages.
        cards: Plugin -> sha256 of its card, for every plugin that the step may import. The child
            refuses a card that changed.
        params: Parameters with defaults filled in.
        slices: The stimulus, divided; empty for instruments that need none.
        max_tokens: The stimulus's `max_tokens`.
        seed: Effective seed.
        threads: Threads granted.
        out: Empty folder for results, absolute.
        scratch: Empty private folder, absolute, where the child starts; the caller removes it.
        keep: Private folder that outlives the attempt, absolute.
        inputs: Path in the run folder -> absolute path of a read-only copy (`Store.lend`).
        target: The target where it is one model, or None.
        series: The target where it is a series: label and member, in order.
        named_targets: Other targets that the parameters name.
        offers: (kind, name) of the other objects that `StepContext.load` may return.
        network: Whether the network stays open.
        environment: Variables that the card asks for (`needs.environment`).
        variables: Names of variables of the host's environment that the parameters name; their values
            are handed over in the child's environment and stand in no message.
    """

    step: str
    instrument: str
    who: str
    cards: Mapping[str, str]
    params: Mapping[str, Any]
    slices: tuple[Slice, ...]
    max_tokens: int | None
    seed: int
    threads: int
    out: str
    scratch: str
    keep: str
    inputs: Mapping[str, str] = field(factory=dict)
    target: TargetRequest | None = None
    series: tuple[tuple[str, TargetRequest], ...] = ()
    named_targets: Mapping[str, TargetRequest] = field(factory=dict)
    offers: tuple[tuple[str, str], ...] = ()
    network: bool = False
    environment: Mapping[str, str] = field(factory=dict)
    variables: tuple[str, ...] = ()
    kind: str = "step"


@frozen
class FetchRequest:
    """Ask a target source to bring what is missing to this machine, with network.

    Attributes:
        name: The target's name in the manifest.
        target: Source and parameters as the resolved manifest holds them.
        who: `Offer.who` of the source.
        cards: Plugin -> sha256 of its card.
        folder: Working directory of the child, absolute: relative paths of `params` start here.
    """

    name: str
    target: TargetRequest
    who: str
    cards: Mapping[str, str]
    folder: str
    threads: int = 1
    kind: str = "fetch"


@frozen
class OutputFile:
    """A file in a step's `out` folder.

    Attributes:
        name: Relative POSIX path: `quantities.csv`, `spectrum.schema.json`, `transcripts/1.txt`.
        role: `table`, `schema`, `facts`, `attachment` or `handout`.
        size: Bytes.
        sha256: Digest of the bytes.
    """

    name: str
    role: str
    size: int
    sha256: str


@frozen
class StepResult:
    """A step that ended well; its files were checked by the child and again by the host.

    Attributes:
        files: What lies in `out`, sorted by name.
        environment: Facts of the child's machine and libraries, for `environment/<step>.json`.
        isolation: How the process was isolated: `process`, `network`, `seed`, `threads`, `python`,
            `environment`.
        seconds: Wall time of the process.
    """

    files: tuple[OutputFile, ...]
    environment: Mapping[str, str]
    isolation: Mapping[str, str]
    seconds: float = 0.0


@frozen
class StepWaiting:
    """A step that cannot go on before a person has acted.

    Attributes:
        ask: What the person must do.
        files: Handout files, lying in `out` under `handout/`.
        isolation: As in `StepResult`.
    """

    ask: str
    files: tuple[OutputFile, ...]
    isolation: Mapping[str, str]


@frozen
class FetchResult:
    """The parameters that a target is opened with."""

    params: Mapping[str, Any]


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as one line of JSON.

    Figures of progress may be NaN or infinite, as both ends of the channel are Python.
    """
    return json.dumps(dict(message)).encode("ascii")


def decode(data: bytes) -> dict[str, Any]:
    """Read a message.

    Raises:
        ValueError: It is not a JSON object with a `kind`.
    """
    message = json.loads(data)
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ValueError("a message is a JSON object with a kind")
    return message


def structure(data: Mapping[str, Any], cls: type[T]) -> T:
    """Read a request or a result; keys that the class does not know are ignored.

    Raises:
        ValueError: A field is missing or of another type.
    """
    try:
        return cattrs.structure(data, cls)
    except Exception as error:
        reasons = "; ".join(cattrs.transform_error(error))
        raise ValueError(f"not a {cls.__name__}: {reasons}") from error
