"""The instrument `pyhessian`: each slice of each checkpoint in turn, one checkpoint open at a time."""

from __future__ import annotations

import torch
from attrs import asdict, evolve

from atlas.contracts import Slice, StepContext, Target
from atlas.errors import AtlasError
from atlas.quantities import Quantity
from atlas_pyhessian.identity import identity
from atlas_pyhessian.lines import GRADIENT, Line, SameWeights, line_to
from atlas_pyhessian.memory.provision import Provision
from atlas_pyhessian.parameters import Parameters
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.recall import structured
from atlas_pyhessian.savedstates import SavedStates
from atlas_pyhessian.series import series_rows
from atlas_pyhessian.settings import Settings
from atlas_pyhessian.slice_measurement import Finished, Site, Tables, measure_slice, note_resumed

__all__ = ["measure"]

_SAME_DRAWS = (
    "every checkpoint is measured with the same start vectors and probes, so that their differences are "
    "not those of the draws; standard errors hold for each alone"
)


def measure(context: StepContext) -> None:
    """Measure the curvature of the target's loss on every slice, of each checkpoint of a series.

    Raises:
        BadInput: The parameters do not fit the target.
        InstrumentFailed: A loss, gradient or product is not finite, or a loss is not positive; of a
            series, the message names the checkpoint.
    """
    settings = Settings.from_params(context.params, context.max_tokens)
    tables = Tables()
    position = 0
    for label, target in context.targets():
        position += 1  # noqa: SIM113 # enumerate would hold the target before while the next is opened
        try:
            _measure_member(context, settings, tables, target, label, position)
        except AtlasError as error:
            if label:
                place = f"checkpoint {label}"
                error.where = place if error.where is None else f"{place}, {error.where}"
            raise
        del target
    wanted = {
        "loss": True,
        "spectrum": True,
        "probes": settings.trace is not None,
        "density": settings.density is not None,
    }
    for name, rows in asdict(tables, recurse=False).items():
        if wanted.get(name, bool(rows)):
            context.table(name, rows)


def _measure_member(
    context: StepContext, settings: Settings, tables: Tables, target: Target, label: str, position: int
) -> None:
    """Measure all slices of one checkpoint; the label of a lone target is empty."""
    with prepared(target.module, include=settings.parameters, dtype=settings.dtype) as parameters:
        facts = _facts(parameters, settings) | ({"series.draws": _SAME_DRAWS} if label else {})
        for name, value in facts.items() if position == 1 else ():
            context.fact(name, value)
        states = SavedStates(
            context.keep,
            identity(context, target, parameters),
            lambda text: context.check("states kept by an interrupted attempt", True, text),
        )
        lines: dict[str, Line] = {}
        for name in (name for name in settings.along if name != GRADIENT):
            try:
                lines[name] = line_to(parameters, context.target(name).module, name)
            except SameWeights as error:
                if not label:
                    raise
                context.fact(f"along.{name}.{label}", f"not measured: {error.what}")
        provision = Provision(
            settings, target, parameters, context.scratch, lambda text: context.fact("memory.note", text)
        )
        keys: dict[str, str] = {}
        records = []
        for number, part in enumerate(context.slices):
            known_as = evolve(part, key=_key(label, part, len(context.slices)))
            keys[known_as.key] = part.key
            name = f"member{position}.slice{number}" if label else f"slice{number}"
            texts = [[item.id, item.text] for item in part.items]
            own = states.part(name, slice=part.key, items=texts)
            finished = _found(context, known_as, own)
            if finished is None:
                finished = measure_slice(
                    Site(context, target, parameters, settings, known_as, part.key, own, provision, lines)
                )
                _keep(own, finished)
            for table, rows in asdict(finished.tables, recurse=False).items():
                getattr(tables, table).extend(rows)
            for record in finished.quantities:
                context.record(Quantity(**record))
            records += finished.quantities
            context.fact(f"seconds.{known_as.key}", f"{finished.seconds:.1f}")
        if label:
            tables.series += series_rows(position, label, keys, records)


def _key(label: str, part: Slice, count: int) -> str:
    """Return the key under which a slice of a checkpoint is recorded."""
    if not label:
        return part.key
    return label if count == 1 else f"{label}: {part.key}"


def _found(context: StepContext, part: Slice, states: SavedStates) -> Finished | None:
    """Return what an interrupted attempt measured of a slice, if it had finished."""
    saved = states.load("finished")
    if saved is None:
        return None
    note_resumed(context, part, "measured whole by an interrupted attempt")
    finished: Finished = structured(Finished, saved.facts)
    return finished


def _keep(states: SavedStates, finished: Finished) -> None:
    """Keep what was measured of a slice in place of its states, unless it is quickly measured again."""
    if (states.found or states.due(0)) and states.save("finished", asdict(finished)):
        states.drop(but="finished")


def _facts(parameters: Parameters, settings: Settings) -> dict[str, str]:
    storage = settings.request(parameters.size, parameters.dtype, parameters.device).storage
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
