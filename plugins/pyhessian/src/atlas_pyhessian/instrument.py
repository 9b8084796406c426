"""The instrument `pyhessian`: measures each stimulus slice in turn with the target opened once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from attrs import asdict, define, evolve, field

from atlas.contracts import Batch, Slice, StepContext, Target
from atlas.quantities import Quantity
from atlas_pyhessian.identity import identity
from atlas_pyhessian.library import LibraryResult, library_quantities, run_library
from atlas_pyhessian.measurement import Measurement, measure_curvature
from atlas_pyhessian.memory.provision import Provision
from atlas_pyhessian.operators import LossFacts, LossOperator, target_operator
from atlas_pyhessian.parameters import Parameters
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.recall import structured
from atlas_pyhessian.savedstates import SavedStates
from atlas_pyhessian.settings import Settings

__all__ = ["measure"]

_Row = dict[str, Any]


@define
class _Tables:
    """Rows of all slices, by table."""

    loss: list[_Row] = field(factory=list)
    spectrum: list[_Row] = field(factory=list)
    probes: list[_Row] = field(factory=list)
    density: list[_Row] = field(factory=list)


@define
class _Finished:
    """All that a slice contributes."""

    tables: _Tables = field(factory=_Tables)
    quantities: list[_Row] = field(factory=list)
    seconds: float = 0.0


def measure(context: StepContext) -> None:
    """Measure the curvature of the target's loss on every slice.

    Raises:
        BadInput: The parameters do not fit the target.
        InstrumentFailed: A loss, gradient or product is not finite, or a loss is not positive.
    """
    settings = Settings.from_params(context.params, context.max_tokens)
    target = context.target()
    tables = _Tables()
    with prepared(target.module, include=settings.parameters, dtype=settings.dtype) as parameters:
        for name, value in _facts(parameters, settings).items():
            context.fact(name, value)
        states = SavedStates(
            context.keep,
            identity(context, target, parameters),
            lambda text: context.check("states kept by an interrupted attempt", True, text),
        )
        provision = Provision(
            settings, target, parameters, context.scratch, lambda text: context.fact("memory.note", text)
        )
        for number, part in enumerate(context.slices):
            texts = [[item.id, item.text] for item in part.items]
            own = states.part(f"slice{number}", slice=part.key, items=texts)
            finished = _found(context, part, own)
            if finished is None:
                finished = _measure_slice(context, target, parameters, settings, part, own, provision)
                _keep(own, finished)
            for name, rows in asdict(finished.tables, recurse=False).items():
                getattr(tables, name).extend(rows)
            for record in finished.quantities:
                context.record(Quantity(**record))
            context.fact(f"seconds.{part.key}", f"{finished.seconds:.1f}")
    context.table("loss", tables.loss)
    context.table("spectrum", tables.spectrum)
    if settings.trace is not None:
        context.table("probes", tables.probes)
    if settings.density is not None:
        context.table("density", tables.density)


def _found(context: StepContext, part: Slice, states: SavedStates) -> _Finished | None:
    """Return what an interrupted attempt measured of a slice, if it had finished."""
    saved = states.load("finished")
    if saved is None:
        return None
    _resumed(context, part, "measured whole by an interrupted attempt")
    finished: _Finished = structured(_Finished, saved.facts)
    return finished


def _resumed(context: StepContext, part: Slice, text: str) -> None:
    context.check(f"resumed {part.key}", True, text)
    context.fact(f"resumed.{part.key}", text)


def _keep(states: SavedStates, finished: _Finished) -> None:
    """Keep what was measured of a slice in place of its states, unless it is quickly measured again."""
    if (states.found or states.due(0)) and states.save("finished", asdict(finished)):
        states.drop(but="finished")


def _facts(parameters: Parameters, settings: Settings) -> dict[str, str]:
    storage = settings.request(parameters.size, parameters.dtype).storage
    return {
        "engine": settings.engine,
        "operator": settings.operator,
        "dtype": str(parameters.dtype),
        "device": str(parameters.device),
        "num_parameters": str(parameters.size),
        "num_tensors": str(len(parameters.names)),
        "parameter_filter": " ".join(settings.parameters),
        "basis_dtype": str(storage) if settings.engine == "lanczos" else "none",
        "attention": "eager",
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
    }


def _measure_slice(
    context: StepContext,
    target: Target,
    parameters: Parameters,
    settings: Settings,
    part: Slice,
    states: SavedStates,
    provision: Provision,
) -> _Finished:
    tables = _Tables()
    started = time.monotonic()
    plan = provision.take(part.items)
    if plan is not None:
        for name, value in plan.facts().items():
            context.fact(f"memory.{name}.{part.key}", value)
    batches = provision.batches(part.items, settings.batch_size if plan is None else plan.batch_size)
    retain_graph = settings.retain_graph(len(batches)) if plan is None else plan.retain_graph
    operator = target_operator(settings.operator, parameters, target, batches, retain_graph=retain_graph)
    facts = _checked_loss(context, operator, part)
    tables.loss += _loss_rows(part, batches, facts)

    def report(what: str, matvecs: int, error: float) -> None:
        context.progress(f"{part.key}: {what}", done=matvecs, residual=error)

    if settings.engine == "lanczos":
        probes = Probes(
            context.random, parameters.names, parameters.sizes, parameters.dtype, parameters.device
        )
        began, before = time.monotonic(), operator.num_matvecs
        result = measure_curvature(
            operator,
            probes,
            settings,
            purpose=part.key,
            report=report,
            states=states.part("curvature", loss=facts.loss.hex(), gradient=facts.gradient_norm.hex()),
            resumed=lambda text: _resumed(context, part, text),
            make_basis=provision.make_basis(plan),
        )
        provision.learn(plan, seconds=time.monotonic() - began, products=operator.num_matvecs - before)
        tables.spectrum += _spectrum_rows(part, result)
        tables.probes += _probe_rows(part, result)
        tables.density += _density_rows(part, result)
        quantities: Sequence[Quantity] = result.quantities
    else:
        report("PyHessian library", 0, 1.0)
        outcome = run_library(
            target.module,
            parameters,
            target.loss_sum,
            batches,
            top_k=settings.top_k,
            max_probes=settings.trace.max_probes if settings.trace is not None else None,
            max_iterations=100,
            seed=int(context.random.generator(f"{part.key} PyHessian").integers(2**31)),
        )
        tables.spectrum += _library_rows(part, outcome)
        tables.probes += [
            {"slice": part.key, "probe": index, "trace_sample": sample}
            for index, sample in enumerate(outcome.trace_samples)
        ]
        quantities = library_quantities(outcome)
    operator.release()
    records = [
        evolve(quantity, slice=part.key).as_record()
        for quantity in (*_loss_quantities(facts, parameters.dtype), *quantities)
    ]
    return _Finished(tables, records, time.monotonic() - started)


def _checked_loss(context: StepContext, operator: LossOperator, part: Slice) -> LossFacts:
    """Check every micro-batch's loss before any product, then take loss and gradient."""
    losses = operator.losses()
    wrong = [f"batch {i}: {loss}" for i, loss in enumerate(losses) if not 0 < loss < float("inf")]
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


def _ends(values: Sequence[float]) -> Mapping[int, str]:
    """Return the positions of the algebraic ends; a lone value is the upper one."""
    positions = range(len(values))
    lowest = min(positions, key=lambda i: values[i])
    return {lowest: "min", max(positions, key=lambda i: values[i]): "max"}


def _spectrum_rows(part: Slice, result: Measurement) -> list[_Row]:
    spectrum = result.spectrum
    ends = _ends(spectrum.values)
    return [
        {
            "slice": part.key,
            "index": i + 1,
            "eigenvalue": spectrum.values[i],
            "residual_norm": spectrum.residual_norms[i],
            "relative_residual": spectrum.residual_norms[i] / spectrum.norm if spectrum.norm else 0.0,
            "end": ends.get(i),
            "converged": spectrum.converged[i],
        }
        for i in range(len(spectrum.values))
    ]


def _library_rows(part: Slice, outcome: LibraryResult) -> list[_Row]:
    return [
        {"slice": part.key, "index": index, "eigenvalue": value, "converged": False}
        for index, value in enumerate(outcome.values, start=1)
    ]


def _probe_rows(part: Slice, result: Measurement) -> list[_Row]:
    if result.trace is None:
        return []
    return [
        {
            "slice": part.key,
            "probe": sample.index,
            "trace_sample": result.trace.deflated_trace + sample.quadratic_form,
            "remainder": sample.quadratic_form,
            "squared_length": sample.squared_length,
        }
        for sample in result.trace.samples
    ]


def _density_rows(part: Slice, result: Measurement) -> list[_Row]:
    return [
        {
            "slice": part.key,
            "low": point.low,
            "high": point.high,
            "count": point.count,
            "standard_error": point.standard_error,
            "count_low": point.count_low,
            "count_high": point.count_high,
        }
        for point in result.density
    ]
