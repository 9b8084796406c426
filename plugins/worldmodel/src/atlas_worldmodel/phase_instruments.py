"""The instruments `phase1`, `phase2` and `phase3`: one phase of training each, with a checkpoint between.

All see the same trajectories, and each sees the checkpoint of the one before it. A phase that was interrupted
goes on from the last state that it kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from atlas_topoencoder.checkpoint import encode_checkpoint
from atlas_topoencoder.instrument import objective_of

from atlas.contracts import StepContext
from atlas.objective import Objective
from atlas_worldmodel.critic import settings_of
from atlas_worldmodel.firewall import DYNAMICS, require_kept
from atlas_worldmodel.held_out import held_out_quantity
from atlas_worldmodel.joint import AtlasTerms
from atlas_worldmodel.phase_metrics import Measure, measure_atlas, measure_drift, measure_world
from atlas_worldmodel.phase_state import (
    CHECKPOINT,
    Seen,
    keep,
    kept_curves,
    parts_of,
    restored,
    seen_trajectories,
)
from atlas_worldmodel.phase_terms import PHASE_TERMS
from atlas_worldmodel.phases import WorldTraining, atlas_training

__all__ = ["phase_1", "phase_2", "phase_3"]

_KEPT = 200
"""Steps between states that an interrupted phase goes on from."""
_LOGGED = 25
_HEADLINES = {
    "reconstruction",
    "churn of symbols",
    "distance, 10 ahead",
    "distance if nothing moves, 10 ahead",
    "decoded error, 0 ahead",
    "decoded error, 10 ahead",
    "drift of points",
    "charts kept",
}
"""Metrics that are quantities, for hypotheses and comparisons; the table has all."""


def _open(context: StepContext) -> None:
    torch.set_num_threads(context.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    context.fact("torch", torch.__version__)


def _record(context: StepContext, measures: Iterable[Measure]) -> None:
    found = list(measures)
    context.table(
        "metrics",
        [
            {
                "metric": m.name,
                "value": m.value,
                "standard_error": m.standard_error,
                "trajectories": m.num_samples,
            }
            for m in found
        ],
    )
    for m in (one for one in found if one.name in _HEADLINES):
        context.record(
            held_out_quantity(
                m.name.replace(",", "").replace(" ", "_"), m.value, m.standard_error, m.num_samples
            )
        )


def phase_1(context: StepContext) -> None:
    """Train a TopoEncoder on the frames of trajectories.

    Raises:
        BadInput: Sizes, data and loss do not fit each other.
        InstrumentFailed: A loss term is not finite.
    """
    _open(context)
    params, random = context.params, context.random
    data = seen_trajectories(context)
    parts = parts_of(data)
    training = atlas_training(params, parts.train, random, objective_of(params["loss"], context))
    kept = context.keep / "phase1.safetensors"
    step = restored(kept, training.restore)
    curves = kept_curves(kept) if step else []
    steps = training.schedule.steps
    while training.step < steps:
        value = training.advance()
        if training.step % _LOGGED == 0 or training.step == steps:
            figures = training.checked(value)
            curves += [{"step": training.step, "loss": name, "value": v} for name, v in figures.items()]
            context.progress("phase 1", done=training.step, total=steps)
        if training.step % _KEPT == 0 and training.step < steps:
            keep(
                kept, training.state(), training.model.architecture, {"step": training.step, "curves": curves}
            )
    context.table("curves", curves)
    context.fact("trajectories", data.digest)
    tensors = {n: t for n, t in training.state().items() if n.startswith(("model.", "companions."))}
    facts = {"phase": 1, "actions": parts.train.actions.shape[-1], "trajectories": data.digest}
    context.attach(CHECKPOINT, encode_checkpoint(tensors, training.model.architecture, facts))
    _record(context, measure_atlas(training.model.eval(), parts.test))


def phase_2(context: StepContext) -> None:
    """Train a world model on the frozen points of phase 1.

    Raises:
        BadInput: The step does not see a phase 1, or the horizon is longer than the trajectories.
        InstrumentFailed: A loss is not finite.
    """
    _open(context)
    seen = Seen.of(context, phase=1)
    width = int(seen.facts["actions"])
    sizes = {"latent": seen.architecture.latent, "site_vectors": 1, "site_scalars": width, "token_vectors": 3}
    sizes |= {"token_scalars": 4, "hidden": context.params["hidden"]}
    facts = {**seen.facts, "phase": 2, "sizes": sizes, "memory": context.params["memory"]}
    weights = Objective(PHASE_TERMS.values(), context.params["world_loss"]).active
    facts["critic"] = settings_of(weights, context.params["critic"])
    training = seen.training(context, facts, encoder_rate=0.0, terms=AtlasTerms(None, None))
    _train(context, training, facts, "phase 2")
    _finish(context, training, seen, facts, [])


def phase_3(context: StepContext) -> None:
    """Train encoder and world model together, behind the firewall, and audit it before and after.

    Raises:
        BadInput: The step does not see a phase 2.
        InstrumentFailed: A loss is not finite, or a gradient is not as the firewall's table has it.
    """
    _open(context)
    seen = Seen.of(context, phase=2)
    facts = {**seen.facts, "phase": 3}
    terms = AtlasTerms.of(objective_of(context.params["loss"], context))
    rate = context.params["encoder_rate"]
    training = seen.training(context, facts, encoder_rate=rate, terms=terms)
    before = [("before", cell) for cell in training.audit()]
    require_kept([cell for _, cell in before])
    _train(context, training, facts, "phase 3")
    after = [("after", cell) for cell in training.audit()]
    require_kept([cell for _, cell in after])
    context.table(
        "firewall",
        [
            {
                "when": when,
                "parameters": cell.parameters,
                "loss": cell.loss,
                "permitted": cell.permitted,
                "gradient_norm": cell.norm,
            }
            for when, cell in (*before, *after)
        ],
    )
    original = seen.model(context)
    _finish(context, training, seen, facts, measure_drift(original, training.model, seen.parts.test))


def _train(context: StepContext, training: WorldTraining, facts: Mapping[str, Any], name: str) -> None:
    kept = context.keep / "phase.safetensors"
    curves = kept_curves(kept) if restored(kept, training.restore) else []
    steps = training.schedule.steps
    while training.step < steps:
        figures = training.advance()
        if training.step % _LOGGED == 0 or training.step == steps:
            curves += [{"step": training.step, "loss": n, "value": v} for n, v in figures.items()]
            context.progress(name, done=training.step, total=steps, loss=figures[DYNAMICS])
        if training.step % _KEPT == 0 and training.step < steps:
            keep(
                kept, training.state(), training.model.architecture, {"step": training.step, "curves": curves}
            )
    context.table("curves", curves)


def _finish(
    context: StepContext, training: WorldTraining, seen: Seen, facts: Mapping[str, Any], more: list[Measure]
) -> None:
    tensors = {n: t for n, t in training.state().items() if not n.startswith("optimizer.")}
    context.attach(CHECKPOINT, encode_checkpoint(tensors, seen.architecture, facts))
    training.model.eval()
    jumps = training.schedule.jumps
    atlas = measure_atlas(training.model, seen.parts.test)
    _record(
        context, atlas + measure_world(training.model, training.dynamics, seen.parts.test, jumps=jumps) + more
    )
