"""What crosses the border between host and plugins while a step runs.

Protocols say what a plugin's object must offer; frozen classes are the values that pass. Nothing here
imports torch: tensors appear in annotations only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

if TYPE_CHECKING:
    import torch

    from atlas.quantities import Quantity
    from atlas.randomness import RandomStreams
    from atlas.record import RunView
    from atlas.tables import TableSchema

__all__ = [
    "Answer",
    "AwaitAnswer",
    "Batch",
    "Estimate",
    "Fragment",
    "Generation",
    "GenerativeTarget",
    "Instrument",
    "Interaction",
    "LossTerm",
    "OutlinedSource",
    "OutputTarget",
    "Package",
    "Progress",
    "Prospect",
    "ReportSection",
    "Slice",
    "StepContext",
    "StimulusItem",
    "StimulusSource",
    "SynthesisAdapter",
    "Target",
    "TargetOutline",
    "TargetSource",
    "Workspace",
]


# Stimulus


@frozen
class StimulusItem:
    """One text put before a model, with the attributes that `where` and `each` select by.

    Attributes:
        id: Unique within its source, stable across versions of Atlas.
        text: Exactly what is tokenised.
        attributes: Plain values: tier, pair, domain, file name.
    """

    id: str
    text: str
    attributes: Mapping[str, str] = field(factory=dict)


@frozen
class Slice:
    """Stimulus items that are measured together: one loss, one spectrum.

    Attributes:
        key: `all`, or the value of the `each` attribute; quantities carry it as `slice`.
        items: In stimulus order, at least one.
        attributes: Attributes on which all items agree.
    """

    key: str
    items: tuple[StimulusItem, ...]
    attributes: Mapping[str, str] = field(factory=dict)


class StimulusSource(Protocol):
    """Yields stimulus items; needs no model and runs before Read #0."""

    def items(self, params: Mapping[str, Any], folder: Path) -> Iterable[StimulusItem]:
        """Yield the items.

        Args:
            params: The manifest's `stimulus` entry without the host's own keys, valid by the card.
            folder: The manifest's folder; paths in `params` are relative to it.
        """
        ...


# Targets


@frozen
class Batch:
    """Input of one forward pass.

    Attributes:
        inputs: Tensors by the name of the module's argument, each `[B, ...]`, on its device.
        weight: What the summed loss is divided by: the number of scored tokens or examples.
        item_ids: Ids of the stimulus items in it.
    """

    inputs: Mapping[str, torch.Tensor]
    weight: float
    item_ids: tuple[str, ...] = ()


class Target(Protocol):
    """A module, a loss and a way to make batches: all that a curvature needs."""

    @property
    def module(self) -> torch.nn.Module:
        """The module, in evaluation mode, with double backward available."""
        ...

    @property
    def facts(self) -> Mapping[str, str]:
        """What the record must hold: hashes of the weights, dtype, device, attention, licence."""
        ...

    def batches(
        self, items: Sequence[StimulusItem], *, batch_size: int, max_tokens: int | None
    ) -> Sequence[Batch]:
        """Encode items into batches of at most `batch_size`, each item cut to `max_tokens`."""
        ...

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Return the loss summed over the batch's scored tokens, a scalar with a graph, in nats."""
        ...


class OutputTarget(Target, Protocol):
    """A target whose loss is a function of the module's outputs, as Gauss-Newton and Fisher matrices need.

    Attributes:
        sample_dims: Leading dimensions of the outputs that count independent samples: 2 for next
            tokens `[B, T, V]`, 1 for classes `[B, C]`.
    """

    sample_dims: int

    def outputs(self, batch: Batch) -> torch.Tensor:
        """Return the module's outputs `[*samples, C]` with their graph."""
        ...

    def output_loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the loss summed over the batch's scored samples; `loss_sum` is this of `outputs`."""
        ...


@frozen
class Generation:
    """What a model wrote after a prompt.

    Attributes:
        text: Decoded, without special tokens.
        tokens: Ids of what was generated, the end token among them.
        ended: The model ended by itself, and was not cut.
        frame: What stood around the prompt, before and after it: the marks of a chat template.
    """

    text: str
    tokens: tuple[int, ...]
    ended: bool
    frame: tuple[str, str] = ("", "")


class GenerativeTarget(Target, Protocol):
    """A target that can write on, as sessions with a language model need."""

    def generate(
        self, prompt: str, *, chat: bool, max_new_tokens: int, temperature: float, random: RandomStreams
    ) -> Generation:
        """Return what the model writes after a prompt.

        Args:
            prompt: What is put before it, whole.
            chat: Put it as the user's turn of the model's chat template, where it has one.
            max_new_tokens: Most tokens to generate.
            temperature: 0 takes the likeliest token each time; else tokens are drawn at it.
            random: Draws.

        Raises:
            BadInput: The prompt has no token, or leaves no room in the model's context.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, without special tokens."""
        ...


class Progress(Protocol):
    """Reports work under way; shown in the terminal, never sealed."""

    def __call__(
        self, message: str, *, done: int | None = None, total: int | None = None, **figures: float
    ) -> None:
        """Say what is being done and how far it is, `figures` such as `residual=3e-4`."""
        ...


class TargetSource(Protocol):
    """Opens targets of one kind, such as Hugging Face checkpoints."""

    def fetch(self, params: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Bring what is missing to this machine and return the parameters to open it with.

        Runs in a process of its own, with network, after Read #0. A target that is already local
        returns `params` unchanged. No model is opened here.
        """
        ...

    def open(
        self, params: Mapping[str, Any], *, threads: int, loss_terms: Mapping[str, LossTerm] = ...
    ) -> Target:
        """Open the target without network.

        Args:
            params: What `fetch` returned.
            threads: Threads granted.
            loss_terms: The terms, of whichever plugin, that the parameters name where the card says
                `x-atlas-kind: loss_terms`; not given where they name none.

        Raises:
            BadInput: The files are missing, damaged or of a refused format.
        """
        ...


class TargetOutline(Protocol):
    """A target without its weights: what is known before any weight file is opened.

    All tensors lie on torch's meta device, where they have shapes and no values; the loss can be
    differentiated twice there.
    """

    @property
    def module(self) -> torch.nn.Module:
        """The module, built from its configuration alone, in evaluation mode."""
        ...

    def batches(
        self, items: Sequence[StimulusItem], *, batch_size: int, max_tokens: int | None
    ) -> Sequence[Batch]:
        """Encode items into batches of the shapes and weights that the target would make of them."""
        ...

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, a scalar without a value, with its graph."""
        ...


class OutlinedSource(TargetSource, Protocol):
    """A source that can also say what a target will be like, as the planning of memory needs."""

    def outline(self, params: Mapping[str, Any]) -> TargetOutline | None:
        """Return the target's outline; opens no weight file and no connection.

        Returns:
            None where nothing on this machine tells, such as before a model is fetched.

        Raises:
            BadInput: The files are missing, damaged, of a refused format, or do not fit.
        """
        ...


# Steps


class StepContext(Protocol):
    """A step's whole world: what it may read, and where its results go.

    Attributes:
        step: The step's id in the manifest.
        params: The step's parameters, defaults filled in, valid by the card.
        slices: The stimulus, divided as the manifest says.
        max_tokens: The stimulus's `max_tokens`, or None.
        random: Random streams under the step's effective seed.
        inputs: What the step `sees`: path in the run folder -> read-only copy.
        scratch: A private folder, removed afterwards.
        keep: A private folder that outlives an interrupted attempt, so that the next one need not begin
            anew. It is empty again after a change of anything that the host knows the step to depend on,
            and gone once the step is sealed. Nothing in it is part of the record, and it may be lost.
        threads: Threads granted.
        progress: Reports work under way.
    """

    step: str
    params: Mapping[str, Any]
    slices: tuple[Slice, ...]
    max_tokens: int | None
    random: RandomStreams
    inputs: Mapping[str, Path]
    scratch: Path
    keep: Path
    threads: int
    progress: Progress

    def target(self, name: str | None = None) -> Target:
        """Open the step's target, or another that its parameters name; the same object on every call.

        Args:
            name: Value of a parameter whose schema says `x-atlas-target: true`; None for the step's
                own target, which must not be a series then.
        """
        ...

    def targets(self) -> Iterator[tuple[str, Target]]:
        """Yield label and target of each member of the step's target series, in the manifest's order.

        A target that is no series comes once, with an empty label. Each member is opened when it is its
        turn and kept by nobody here: drop what you hold of one (`del target`) before you ask for the
        next, or both lie in memory. Instruments that may get a series say `needs: {series: true}`.
        """
        ...

    def openers(self) -> Iterator[tuple[str, Callable[[], Target]]]:
        """Yield label and a function that opens it for each target that `targets` yields.

        Pickled, the function opens the target in another process. It is for instruments that start processes
        of their own, such as one for each session with a model.
        """
        ...

    def load(self, kind: str, name: str) -> Any:
        """Return another admitted object that the parameters name: an adapter, a loss term."""
        ...

    def check(self, name: str, passed: bool, detail: str) -> None:
        """Record a sanity check.

        Raises:
            InstrumentFailed: It did not pass; the detail is the message.
        """
        ...

    def record(self, quantity: Quantity) -> None:
        """Record a quantity; all of them become the step's `quantities` table."""
        ...

    def table(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write one of the tables that the card declares, valid by its schema."""
        ...

    def attach(self, name: str, data: bytes) -> None:
        """Keep a file that is not a table, such as a transcript, under the step's raw folder."""
        ...

    def fact(self, name: str, value: str) -> None:
        """Record a fact that is no measurement: a version, a digest, a setting."""
        ...

    def await_human(self, ask: AwaitAnswer) -> None:
        """End the step's process here; the run waits until `ask` is answered, then starts it again.

        The answer is then among `inputs` under `answers/<step>.md`.
        """
        ...


@frozen
class Prospect:
    """A step that has not run, as far as it can be known without opening a model.

    Attributes:
        params: Its parameters, defaults filled in, valid by the card.
        slices: The stimulus, divided as the manifest says; empty where the step has none.
        max_tokens: The stimulus's `max_tokens`, or None.
        outline: Its target without weights, or None where it has none, or its source can tell nothing.
        threads: Threads granted.
        folder: Where its run will lie.
    """

    params: Mapping[str, Any]
    slices: tuple[Slice, ...]
    max_tokens: int | None
    outline: TargetOutline | None
    threads: int
    folder: Path


Estimate = Callable[[Prospect], Iterable[str]]
"""Says what a step will take, in lines for people; named by an instrument's card, called by `atlas plan`."""

Instrument = Callable[[StepContext], None]
"""Takes a measurement: reads its context, records quantities and tables, returns nothing."""


@frozen
class LossTerm:
    """One term of a loss, summed with others by the weights of a manifest.

    Attributes:
        name: `next-token`, `reconstruction`.
        slot: Whose outputs it reads: `causal-lm`, `topoencoder.outputs`.
        function: Takes the slot's outputs and returns a scalar tensor.
        default_weight: Weight where the manifest names none.
        group: Gradient group that it trains.
        formula: In plain TeX or text.
        source: Paper, equation or seed section.
    """

    name: str
    slot: str
    function: Callable[[Any], torch.Tensor]
    default_weight: float
    group: str
    formula: str
    source: str


# Synthesis


@frozen
class Package:
    """An injection package: what a model receives and nothing else.

    Attributes:
        digest: sha256 over the sorted names and contents.
        files: Path in the run folder -> contents.
        upload: The one message that the model receives, UTF-8, made of the files.
    """

    digest: str
    files: Mapping[str, bytes]
    upload: bytes


@frozen
class Answer:
    """What a synthesis backend gave back, with how it was asked.

    Attributes:
        text: The model's first output, whole and unchanged.
        facts: How it was asked: model, settings, sizes.
        files: What went to and fro, byte for byte, by file name; sealed beside the answer.
    """

    text: str
    facts: Mapping[str, str] = field(factory=dict)
    files: Mapping[str, bytes] = field(factory=dict)


@frozen
class AwaitAnswer:
    """A request that only a person can carry out; `handout` is written where they can find it."""

    ask: str
    handout: Mapping[str, bytes] = field(factory=dict)


class Interaction(Protocol):
    """One meeting with one model, as the record follows it."""

    @property
    def brought(self) -> bytes | None:
        """The answer that a person brought, or None."""
        ...

    def note(self, name: str, detail: str) -> None:
        """Journal at once what happens: an upload, a connection that failed before any output."""
        ...

    def begun(self, detail: str) -> None:
        """Journal that the model's output has begun; from here on the package is never sent again."""
        ...


class SynthesisAdapter(Protocol):
    """Puts one package before one model, once."""

    def submit(
        self, package: Package, params: Mapping[str, Any], interaction: Interaction
    ) -> Answer | AwaitAnswer:
        """Return the model's first answer, or say what a person must do."""
        ...


# Reports and commands


@frozen
class Fragment:
    """A piece of a report: `html` is inserted as it is, so the plugin escapes what it did not write."""

    title: str
    html: str


ReportSection = Callable[["RunView", str], Fragment]
"""Renders one step of a run from its sealed tables; called only after the interpretation gate."""


class Workspace(Protocol):
    """What a plugin's own command may do with run folders; it is the click context's `obj`."""

    @property
    def runs(self) -> Path:
        """The folder that holds the run folders."""
        ...

    def view(self, run: str) -> RunView:
        """Return a run, given by id or path, verified as it is read."""
        ...

    def answer(
        self,
        run: str,
        gate: str,
        text: str,
        *,
        author: str,
        via: str,
        evidence: Path | None = None,
        override: str | None = None,
    ) -> None:
        """Seal a person's answer to an open gate, reviewed by the run's governance policy.

        Args:
            run: Id or path.
            gate: `read-0`, `sanitisation`, or the id of a waiting step.
            text: The answer, verbatim.
            author: Who wrote it.
            via: Where it came from: `editor`, `file`, `workbook`.
            evidence: A file that is sealed beside it, byte for byte: the workbook as delivered.
            override: A signed reason to pass problems that may be overridden.
        """
        ...

    def attach(self, run: str, path: str, data: bytes, *, role: str) -> None:
        """Seal a new file in a run folder; a sealed file is never replaced."""
        ...

    def event(self, run: str, type: str, data: Mapping[str, Any]) -> None:
        """Append an event of the plugin's own, `<plugin>.<what>`, to the run's journal."""
        ...

    def create_record(
        self,
        code: str,
        lineage: str,
        *,
        tables: Mapping[str, tuple[TableSchema, Iterable[Mapping[str, Any]]]],
        files: Mapping[str, bytes],
        facts: Mapping[str, str],
    ) -> str:
        """Make a finished, sealed run folder out of material that was collected by hand."""
        ...
