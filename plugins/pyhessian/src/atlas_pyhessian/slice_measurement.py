"""One stimulus slice of one checkpoint: all that a step measures on it, as rows and quantities."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from attrs import define, evolve, field, frozen

from atlas.contracts import Batch, Slice, StepContext, Target
from atlas.quantities import Quantity
from atlas_pyhessian.blocks import block_row, find_blocks, measure_block
from atlas_pyhessian.library import LibraryResult, library_quantities, run_library
from atlas_pyhessian.lines import GRADIENT, Line, along_quantities, measure_lines
from atlas_pyhessian.measurement import Measurement, measure_curvature
from atlas_pyhessian.memory.planner import MemoryPlan
from atlas_pyhessian.memory.provision import Provision
from atlas_pyhessian.operators import LossFacts, LossOperator, iterating, target_operator
from atlas_pyhessian.operators.loss_surface import LossSurface
from atlas_pyhessian.parameters import Parameters
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.savedstates import SavedStates
from atlas_pyhessian.settings import BlockSettings, Settings
from atlas_pyhessian.table_rows import density_rows, probe_rows, spectrum_rows, tensor_rows

__all__ = ["Finished", "Site", "Tables", "measure_slice", "note_resumed"]

_Row = dict[str, Any]


@define
class Tables:
    """Rows by table."""

    loss: list[_Row] = field(factory=list)
    spectrum: list[_Row] = field(factory=list)
    probes: list[_Row] = field(factory=list)
    tensors: list[_Row] = field(factory=list)
    density: list[_Row] = field(factory=list)
    directions: list[_Row] = field(factory=list)
    alignment: list[_Row] = field(factory=list)
    path: list[_Row] = field(factory=list)
    blocks: list[_Row] = field(factory=list)
    block_spectrum: list[_Row] = field(factory=list)
    series: list[_Row] = field(factory=list)


@define
class Finished:
    """All that a slice contributes.

    Attributes:
        tables: Its rows.
        quantities: Its quantities as records.
        seconds: What it took.
    """

    tables: Tables = field(factory=Tables)
    quantities: list[_Row] = field(factory=list)
    seconds: float = 0.0


@frozen
class Site:
    """A slice of a checkpoint and what it is measured with.

    Attributes:
        context: The step.
        target: The checkpoint.
        parameters: Its chosen parameters, prepared.
        settings: What is wanted.
        part: The slice, under the key by which its rows and quantities are known.
        purpose: Prefix of its random draws, the same for all checkpoints of a series.
        states: Where it is kept how far the measurement is.
        provision: Plans its memory.
        lines: Ways to other checkpoints, by name.
    """

    context: StepContext
    target: Target
    parameters: Parameters
    settings: Settings
    part: Slice
    purpose: str
    states: SavedStates
    provision: Provision
    lines: Mapping[str, Line]

    def report(self, what: str, matvecs: int, error: float) -> None:
        """Say in the terminal how far it is."""
        self.context.progress(f"{self.part.key}: {what}", done=matvecs, residual=error)


def measure_slice(site: Site) -> Finished:
    """Measure a slice.

    Raises:
        BadInput: The parameters do not fit the target.
        InstrumentFailed: A loss, gradient or product is not finite, or a loss is not positive.
    """
    settings, part, provision = site.settings, site.part, site.provision
    tables = Tables()
    started = time.monotonic()
    plan = provision.take(part.items)
    if plan is not None:
        for name, value in plan.facts().items():
            site.context.fact(f"memory.{name}.{part.key}", value)
    batches = provision.batches(part.items, settings.batch_size if plan is None else plan.batch_size)
    retain_graph = settings.retain_graph(len(batches)) if plan is None else plan.retain_graph

    def make_operator(parameters: Parameters) -> LossOperator:
        return target_operator(settings.operator, parameters, site.target, batches, retain_graph=retain_graph)

    operator = make_operator(site.parameters)
    facts = _checked_loss(site.context, operator, batches, part)
    tables.loss += _loss_rows(part, batches, facts)
    quantities = _loss_quantities(facts, site.parameters.dtype)
    if settings.engine == "lanczos":
        probes = _probes(site)
        result = _measure_whole(site, operator, probes, facts, plan, num_batches=len(batches))
        tables.spectrum += spectrum_rows(part.key, result)
        tables.probes += probe_rows(part.key, result)
        tables.tensors += tensor_rows(part.key, site.parameters, result)
        tables.density += density_rows(part.key, result)
        quantities += result.quantities
        if settings.along:
            quantities += _measure_directions(site, operator, batches, result, tables)
        del result
        operator.release()
        if settings.blocks is not None:
            _measure_blocks(site, settings.blocks, make_operator, probes, plan, facts, tables)
    else:
        outcome = _measure_by_library(site, batches)
        tables.spectrum += _library_rows(part, outcome)
        tables.probes += [
            {"slice": part.key, "probe": index, "trace_sample": sample}
            for index, sample in enumerate(outcome.trace_samples)
        ]
        quantities += library_quantities(outcome)
    operator.release()
    records = [evolve(quantity, slice=part.key).as_record() for quantity in quantities]
    return Finished(tables, records, time.monotonic() - started)


def note_resumed(context: StepContext, part: Slice, text: str) -> None:
    """Record that a slice did not begin anew."""
    context.check(f"resumed {part.key}", True, text)
    context.fact(f"resumed.{part.key}", text)


def _probes(site: Site) -> Probes:
    parameters = site.parameters
    return Probes(
        site.context.random, parameters.names, parameters.sizes, parameters.dtype, parameters.device
    )


def _measure_whole(
    site: Site,
    operator: LossOperator,
    probes: Probes,
    facts: LossFacts,
    plan: MemoryPlan | None,
    *,
    num_batches: int,
) -> Measurement:
    began, before = time.monotonic(), operator.num_matvecs
    result = measure_curvature(
        iterating(
            operator,
            site.settings.products,
            num_batches=num_batches,
            note=lambda text: site.context.fact(f"products.{site.part.key}", text),
        ),
        probes,
        site.settings,
        purpose=site.purpose,
        report=site.report,
        states=site.states.part("curvature", loss=facts.loss.hex(), gradient=facts.gradient_norm.hex()),
        resumed=partial(note_resumed, site.context, site.part),
        make_basis=site.provision.make_basis(plan),
    )
    products = operator.num_matvecs - before
    site.provision.learn(plan, seconds=time.monotonic() - began, products=products)
    return result


def _measure_directions(
    site: Site,
    operator: LossOperator,
    batches: Sequence[Batch],
    result: Measurement,
    tables: Tables,
) -> list[Quantity]:
    site.report("directions", operator.num_matvecs, 0.0)
    surface = LossSurface(site.parameters, site.target.loss_sum, batches)
    names = [name for name in site.settings.along if name == GRADIENT or name in site.lines]
    measured = measure_lines(operator, surface, names, site.lines, result.spectrum)
    for line in measured:
        key = {"slice": site.part.key, "direction": line.name}
        tables.directions.append(key | line.row())
        tables.alignment += [key | row for row in line.alignment_rows()]
        tables.path += [key | row for row in line.path_rows()]
    return along_quantities(measured, site.parameters.dtype)


def _measure_blocks(
    site: Site,
    light: BlockSettings,
    make_operator: Callable[[Parameters], LossOperator],
    probes: Probes,
    plan: MemoryPlan | None,
    facts: LossFacts,
    tables: Tables,
) -> None:
    blocks = find_blocks(site.parameters, light.by)
    for number, block in enumerate(blocks):

        def report(what: str, matvecs: int, error: float, place: int = number) -> None:
            name = f"block {place + 1} of {len(blocks)}, {blocks[place].name}"
            site.report(f"{name}: {what}", matvecs, error)

        result = measure_block(
            block,
            site.parameters,
            make_operator,
            probes,
            site.settings,
            light,
            purpose=site.purpose,
            report=report,
            make_basis=site.provision.make_basis(plan),
            states=site.states.part(f"block{number}", loss=facts.loss.hex(), block=block.parameters.names),
        )
        key = {"slice": site.part.key, "block": block.name}
        tables.blocks.append(key | block_row(block, result))
        tables.block_spectrum += [
            {**row, "block": block.name} for row in spectrum_rows(site.part.key, result)
        ]


def _measure_by_library(site: Site, batches: Sequence[Batch]) -> LibraryResult:
    settings = site.settings
    site.report("PyHessian library", 0, 1.0)
    return run_library(
        site.target.module,
        site.parameters,
        site.target.loss_sum,
        batches,
        top_k=settings.top_k,
        max_probes=settings.trace.max_probes if settings.trace is not None else None,
        max_iterations=100,
        seed=int(site.context.random.generator(f"{site.purpose} PyHessian").integers(2**31)),
    )


def _checked_loss(
    context: StepContext, operator: LossOperator, batches: Sequence[Batch], part: Slice
) -> LossFacts:
    """Check every micro-batch's loss before any product, then take loss and gradient."""
    losses = operator.losses()
    wrong = [
        f"{loss} of batch {i} ({', '.join(batches[i].item_ids)})"
        for i, loss in enumerate(losses)
        if not 0 < loss < float("inf")
    ]
    context.check(
        f"loss of {part.key}",
        not wrong,
        f"expected a positive finite loss, found {'; '.join(wrong)}"
        if wrong
        else f"loss {', '.join(f'{loss:.6g}' for loss in losses)} nat per token",
    )
    return operator.facts()


def _loss_quantities(facts: LossFacts, dtype: torch.dtype) -> list[Quantity]:
    note = f"nothing is estimated; rounded as {str(dtype).removeprefix('torch.')} arithmetic rounds"
    return [
        Quantity(name, value, 0.0, "exact", unit="nat", num_samples=int(facts.weight), note=note)
        for name, value in (("loss", facts.loss), ("gradient_norm", facts.gradient_norm))
    ]


def _loss_rows(part: Slice, batches: Sequence[Batch], facts: LossFacts) -> list[_Row]:
    return [
        {
            "slice": part.key,
            "batch": number,
            "items": " ".join(batch.item_ids),
            "weight": batch.weight,
            "loss": loss,
        }
        for number, (batch, loss) in enumerate(zip(batches, facts.batch_losses, strict=True))
    ]


def _library_rows(part: Slice, outcome: LibraryResult) -> list[_Row]:
    return [
        {"slice": part.key, "index": index, "eigenvalue": value, "converged": False}
        for index, value in enumerate(outcome.values, start=1)
    ]
