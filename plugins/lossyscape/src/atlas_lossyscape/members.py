"""Each slice of each checkpoint in turn: its key, its draws, what an interrupted attempt finished."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atlas_pyhessian.identity import identity
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.operators.loss_surface import LossSurface
from atlas_pyhessian.parameters import Parameters
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.recall import structured
from atlas_pyhessian.savedstates import SavedStates
from attrs import asdict, define, evolve, field, frozen

from atlas.contracts import Batch, Slice, StepContext, Target
from atlas.errors import AtlasError
from atlas.quantities import Quantity

__all__ = ["Finished", "Site", "measure_members"]

Row = dict[str, Any]

_SAME_DRAWS = (
    "every checkpoint is measured with the same random draws, so that their differences are not those of "
    "the draws; standard errors hold for each alone"
)


@define
class Finished:
    """What a slice contributes.

    Attributes:
        tables: Rows by table, without their slice.
        quantities: Records of quantities, under the slice's key.
        facts: Facts by name.
        seconds: What it took.
    """

    tables: dict[str, list[Row]] = field(factory=dict)
    quantities: list[Row] = field(factory=list)
    facts: dict[str, str] = field(factory=dict)
    seconds: float = 0.0

    def record(self, quantity: Quantity) -> None:
        """Keep a quantity."""
        self.quantities.append(quantity.as_record())


@frozen
class Site:
    """A slice of a checkpoint and what it is measured with.

    Attributes:
        context: The step.
        target: The checkpoint.
        parameters: Its chosen parameters, prepared.
        part: The slice, under the key by which its rows and quantities are known.
        purpose: Prefix of its random draws, the same for all checkpoints of a series.
    """

    context: StepContext
    target: Target
    parameters: Parameters
    part: Slice
    purpose: str

    def batches(self, batch_size: int) -> Sequence[Batch]:
        """Encode the slice's items."""
        return self.target.batches(self.part.items, batch_size=batch_size, max_tokens=self.context.max_tokens)

    def surface(self, batch_size: int) -> LossSurface:
        """Return the slice's mean loss in micro-batches of so many items."""
        return LossSurface(self.parameters, self.target.loss_sum, self.batches(batch_size))

    def operator(self, *, moving: bool = False) -> HessianOperator:
        """Return the Hessian; one micro-batch keeps its graph unless the parameters are `moving`."""
        batches = self.batches(self.context.params["batch_size"])
        retain = len(batches) == 1 and not moving
        return HessianOperator(self.parameters, self.target.loss_sum, batches, retain_graph=retain)

    def probes(self) -> Probes:
        """Return the random vectors of the step."""
        own = self.parameters
        return Probes(self.context.random, own.names, own.sizes, own.dtype, own.device)

    def report(self, what: str, products: int, error: float) -> None:
        """Say in the terminal how far it is."""
        self.context.progress(f"{self.part.key}: {what}", done=products, residual=error)


def measure_members(
    context: StepContext,
    begin: Callable[[Target], Callable[[Site], Finished]],
    tables: Sequence[str],
) -> None:
    """Measure every slice of every checkpoint, record quantities and facts, and write the tables.

    Args:
        context: The step, whose parameters name `parameters` and `batch_size`.
        begin: Called with each checkpoint; returns what measures one slice of it.
        tables: The tables to write, whatever is in them.

    Raises:
        AtlasError: As `begin` and what it returns; of a series, `where` names the checkpoint.
    """
    rows: dict[str, list[Row]] = {name: [] for name in tables}
    position = 0
    for label, target in context.targets():
        position += 1  # noqa: SIM113 # enumerate would hold the target before while the next is opened
        try:
            _measure_member(context, target, label, position, begin, rows)
        except AtlasError as error:
            if label:
                place = f"checkpoint {label}"
                error.where = place if error.where is None else f"{place}, {error.where}"
            raise
        del target
    for name in tables:
        context.table(name, rows[name])


def _measure_member(
    context: StepContext,
    target: Target,
    label: str,
    position: int,
    begin: Callable[[Target], Callable[[Site], Finished]],
    rows: Mapping[str, list[Row]],
) -> None:
    with prepared(target.module, include=context.params["parameters"]) as parameters:
        if label and position == 1:
            context.fact("series.draws", _SAME_DRAWS)
        states = SavedStates(
            context.keep,
            identity(context, target, parameters) | {"lossyscape": _code()},
            lambda text: context.check("results kept by an interrupted attempt", True, text),
        )
        measure_slice = begin(target)
        for number, part in enumerate(context.slices):
            known_as = evolve(part, key=_key(label, part, len(context.slices)))
            texts = [[item.id, item.text] for item in part.items]
            own = states.part(f"member{position}.slice{number}", slice=part.key, items=texts)
            kept = own.load("finished")
            if kept is not None:
                found: Finished = structured(Finished, kept.facts)
                context.fact(f"resumed.{known_as.key}", "measured whole by an interrupted attempt")
            else:
                began = time.monotonic()
                found = measure_slice(Site(context, target, parameters, known_as, part.key))
                found.seconds = time.monotonic() - began
                own.save("finished", asdict(found))
            for name, written in found.tables.items():
                rows[name].extend({"slice": known_as.key} | row for row in written)
            for record in found.quantities:
                context.record(Quantity(**record))
            for name, value in found.facts.items():
                context.fact(f"{name}.{known_as.key}", value)
            context.fact(f"seconds.{known_as.key}", f"{found.seconds:.1f}")


def _key(label: str, part: Slice, count: int) -> str:
    """Return the key under which a slice of a checkpoint is recorded."""
    if not label:
        return part.key
    return label if count == 1 else f"{label}: {part.key}"


def _code() -> str:
    """Return a digest of this package, on which kept results depend."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
