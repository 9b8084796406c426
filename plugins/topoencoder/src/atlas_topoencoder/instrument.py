"""The instrument `topoencoder`: trains a TopoEncoder, several times where asked, and measures it."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import asdict

from atlas.contracts import LossTerm, StepContext
from atlas.errors import BadInput
from atlas.objective import Objective
from atlas.quantities import Quantity, UncertaintyKind
from atlas.randomness import RandomStreams, derive_seed
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.batches import BatchOrder
from atlas_topoencoder.checkpoint import encode_checkpoint
from atlas_topoencoder.companions import Companions
from atlas_topoencoder.data import Dataset, Split, load, split
from atlas_topoencoder.devices import Device, open_device
from atlas_topoencoder.joint_processes import joint_processes
from atlas_topoencoder.losses.terms import TERMS
from atlas_topoencoder.metrics import Measured, Reading, measure, read
from atlas_topoencoder.model import TopoEncoder
from atlas_topoencoder.probing import probe
from atlas_topoencoder.repetition import History, Keeping, identity_of, train
from atlas_topoencoder.training import Schedule, Training
from atlas_topoencoder.viewing import example_images, place_rows
from atlas_topoencoder.views import Views
from atlas_topoencoder.weights import standardise

__all__ = ["checkpoint_of", "objective_of", "run", "training_of"]

_FITTED = 1000
"""Training examples that a model's initial offsets and scale are fitted to, at most."""


def run(context: StepContext) -> None:
    """Train and measure.

    Raises:
        BadInput: Data, model, loss and views do not fit each other.
        InstrumentFailed: A loss term is not finite.
    """
    params = context.params
    objective = objective_of(params["loss"], context)
    threads = max(1, context.threads // params["processes"])
    task = (dict(params), objective, context.random.seed, threads, context.scratch)
    with joint_processes(params["processes"], _follow, *task):
        _lead(context, objective, threads)


def _lead(context: StepContext, objective: Objective, threads: int) -> None:
    """Train and measure, as the first process of a training or its only one."""
    params = context.params
    device, dataset, parts = _opened(params, context.random, threads, context.scratch)
    for name, value in _facts(dataset, parts, device).items():
        context.fact(name, value)
    metrics: list[list[Measured]] = []
    curves: list[dict[str, Any]] = []
    for number in range(params["repetitions"]):
        random = RandomStreams(derive_seed(context.random.seed, f"repetition {number}"))
        training = training_of(params, dataset, parts, objective, random, device)
        training.rehearse()
        history = _trained(context, training, parts, number)
        curves += [{"repetition": number, **row} for row in history.curves]
        test, known = (
            read(training.model, dataset, rows, device.device) for rows in (parts.test, parts.train)
        )
        generator = random.generator("bootstrap")
        found = measure(test, known, classes=len(dataset.classes), generator=generator)
        metrics.append(found + probe(test, known, classes=len(dataset.classes)))
        context.attach(f"checkpoint{number}.safetensors", checkpoint_of(training))
        if number == 0:
            _show(context, training, history, parts, (known, test))
    context.table("curves", curves)
    context.table(
        "metrics",
        [
            {
                "repetition": number,
                "metric": m.name,
                "value": m.value,
                "standard_error": m.standard_error,
                "examples": m.num_samples,
                "note": m.note,
            }
            for number, found in enumerate(metrics)
            for m in found
        ],
    )
    for together in zip(*metrics, strict=True):
        context.record(_quantity(together))


def _follow(params: Mapping[str, Any], objective: Objective, seed: int, threads: int, scratch: Path) -> None:
    """Take the steps of a training that another process leads, which alone keeps, measures and tells."""
    scratch = Path(tempfile.mkdtemp(dir=scratch))
    device, dataset, parts = _opened(params, RandomStreams(seed), threads, scratch)
    for number in range(params["repetitions"]):
        random = RandomStreams(derive_seed(seed, f"repetition {number}"))
        training = training_of(params, dataset, parts, objective, random, device)
        training.rehearse()
        train(
            training,
            test=parts.test,
            log_every=params["log_every"],
            gradients_every=params["gradients_every"],
            snapshots=0,
            keeping=Keeping(scratch / "nothing", params["keep_every"], ""),
            progress=lambda **_: None,
        )


def _opened(
    params: Mapping[str, Any], random: RandomStreams, threads: int, scratch: Path
) -> tuple[Device, Dataset, Split]:
    """Return where this process computes, and the data."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    device = open_device(params["device"], params["precision"], compiles=params["compile"])
    dataset = load(params["data"], random=random, scratch=scratch)
    return device, dataset, split(dataset, params["test_share"], random)


def objective_of(weights: Mapping[str, float], context: StepContext | None = None) -> Objective:
    """Return the sum that weights name; terms of other plugins come from the context.

    An empty mapping takes every term of ours with its default weight.

    Raises:
        BadInput: A name or weight cannot be meant.
    """
    if not weights:
        return Objective([term for term in TERMS.values() if term.default_weight])
    others: list[LossTerm] = []
    if context is not None:
        others = [context.load("loss_terms", name) for name in weights if name not in TERMS]
    return Objective([*TERMS.values(), *others], {**dict.fromkeys(TERMS, 0.0), **weights})


def training_of(
    params: Mapping[str, Any],
    dataset: Dataset,
    parts: Split,
    objective: Objective,
    random: RandomStreams,
    device: Device,
) -> Training:
    """Return a training at its first step.

    Raises:
        BadInput: The sizes do not fit the data.
    """
    schedule = Schedule(**params["schedule"])
    architecture = Architecture(shape=dataset.shape, **params["model"])
    if architecture.charts > len(parts.train) and schedule.placing != "none":
        raise BadInput(
            f"{architecture.charts} charts cannot be placed on {len(parts.train)} training examples",
            where="model.charts",
            fix=f"ask for at most {len(parts.train)} charts, or give more examples",
        )
    model = TopoEncoder(architecture, random)
    if schedule.warmup:
        standardise(model, torch.from_numpy(dataset.take(parts.train[:_FITTED])))
    return Training(
        model=model,
        companions=Companions(
            charts=architecture.charts,
            latent=architecture.latent,
            classes=len(dataset.classes),
            streams=random,
        ),
        objective=objective,
        schedule=schedule,
        dataset=dataset,
        order=BatchOrder(parts.train, schedule.batch_size, random),
        views=Views.from_params(params["views"], dataset.shape),
        random=random,
        device=device,
    )


def checkpoint_of(training: Training) -> bytes:
    """Return a trained model as a file that the target `topoencoder` reads."""
    tensors = {
        name: value for name, value in training.state().items() if name.startswith(("model.", "companions."))
    }
    dataset = training.dataset
    facts = {
        "classes": list(dataset.classes),
        "data": dataset.source,
        "divide_by": dataset.divide_by,
        "loss": dict(training.objective.active),
        "schedule": asdict(training.schedule),
        "seed": training.random.seed,
        "steps": training.step,
    }
    return encode_checkpoint(tensors, training.model.architecture, facts)


def _trained(context: StepContext, training: Training, parts: Split, number: int) -> History:
    params = context.params
    total = training.schedule.steps * params["repetitions"]

    def progress(*, done: int, **figures: float) -> None:
        steps = number * training.schedule.steps + done
        context.progress(
            f"training {number + 1} of {params['repetitions']}", done=steps, total=total, **figures
        )

    facts = {"torch": torch.__version__, "seed": training.random.seed, "examples": len(training.dataset)}
    keeping = Keeping(
        context.keep / f"training{number}.safetensors", params["keep_every"], identity_of(params, facts)
    )
    return train(
        training,
        test=parts.test,
        log_every=params["log_every"],
        gradients_every=params["gradients_every"],
        snapshots=params["snapshots"] if number == 0 else 0,
        keeping=keeping,
        progress=progress,
    )


def _show(
    context: StepContext, training: Training, history: History, parts: Split, readings: Sequence[Reading]
) -> None:
    """Write what the pictures of the first training are drawn from."""
    known, test = readings
    tables, share = place_rows(training, history, parts.test, known, test)
    for name, rows in tables.items():
        context.table(name, rows)
    context.fact("disc.share", f"{share:.4f}")
    images = example_images(training, parts.test)
    if images is not None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **images)  # type: ignore[arg-type] # its stubs take arrays for the flag
        context.attach("examples.npz", buffer.getvalue())


def _quantity(together: Sequence[Measured]) -> Quantity:
    """Return a metric's mean over trainings; of one training, with its bootstrap error."""
    first = together[0]
    values = [m.value for m in together if m.value is not None]
    if len(values) < len(together):
        return Quantity(first.name, None, None, UncertaintyKind.UNDEFINED, note=first.note)
    mean = sum(values) / len(values)
    if len(values) == 1:
        error, note = first.standard_error or 0.0, "error over test examples, of one training"
    else:
        error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        note = "error of the mean over trainings"
    return Quantity(
        first.name, mean, error, UncertaintyKind.STANDARD_ERROR, num_samples=len(values), note=note
    )


def _facts(dataset: Dataset, parts: Split, device: Device) -> dict[str, str]:
    facts = {
        "data": dataset.source,
        "examples.train": str(len(parts.train)),
        "examples.test": str(len(parts.test)),
        "shape": " ".join(str(size) for size in dataset.shape),
        "classes": " ".join(dataset.classes) or "none",
        "device": str(device.device),
        "processes": str(device.processes),
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
    }
    if device.device.type == "cuda":
        facts["device_name"] = torch.cuda.get_device_name(device.device)
    return facts
