"""The instrument `worldmodel`: learns a mechanical system from trajectories, and foretells held-out ones.

Coordinates are numbers of an observation, or normal coordinates of the points that a trained encoder gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from atlas_topoencoder.devices import open_device
from attrs import asdict

from atlas.contracts import StepContext
from atlas.errors import BadInput, InstrumentFailed
from atlas.objective import Objective
from atlas.quantities import Quantity, UncertaintyKind
from atlas.randomness import RandomStreams
from atlas_worldmodel.encoded_measurement import EncodedError, encoded_errors
from atlas_worldmodel.encoded_trajectories import ball_chart, seen_encoder
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.held_out import held_out_quantity
from atlas_worldmodel.observation_chart import ObservationChart, chart_facts, coordinates_of
from atlas_worldmodel.phase_state import seen_trajectories
from atlas_worldmodel.trajectories import Trajectories
from atlas_worldmodel.world_measurement import Error, errors, finite_steps, free_energies, sample_path
from atlas_worldmodel.world_state import WORLD_FILE, encode_world, read_world
from atlas_worldmodel.world_terms import WORLD_TERMS
from atlas_worldmodel.world_training import Schedule, WorldFit, model_on

__all__ = ["run"]

_KEPT = 200
"""Steps between states that an interrupted training goes on from."""
_LOGGED = 25
_SHOWN = 3
"""Test trajectories whose paths are kept for the pictures."""


def run(context: StepContext) -> None:
    """Train and measure.

    Raises:
        BadInput: Parameters, trajectories and encoder do not fit each other.
        InstrumentFailed: A loss term is not finite, or a measured error.
    """
    params = context.params
    torch.set_num_threads(context.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    context.fact("torch", torch.__version__)
    data = seen_trajectories(context)
    context.fact("trajectories", data.digest)
    known, held = data.split(0.2, RandomStreams(int(data.digest[:15], 16)).generator("split"))
    if params["coordinates"] != "encoded":
        coordinates = coordinates_of(params["coordinates"], known.observation_size)
        chart = ObservationChart(coordinates, torch.from_numpy(known.observations))
        fit = _trained(context, known, held, chart)
        _finish(context, fit, held, {"trajectories": data.digest})
        return
    encoder = seen_encoder(context, data)
    context.fact("encoder", encoder.digest)
    before = encoder.encode(encoder.parts.train, known).latent
    test = encoder.encode(encoder.parts.test, held)
    fit = _trained(context, before, test.latent, ball_chart(before))
    found = encoded_errors(fit.model, encoder.model, test, params["horizons"], _draws(context))
    for error in found:
        _require_finite(error.horizon, error.distance)
        for quantity in _encoded_quantities(error):
            context.record(quantity)
    context.table("encoded", [asdict(error) for error in found])
    _finish(context, fit, test.latent, {"trajectories": data.digest, "encoder": encoder.digest})


def _trained(
    context: StepContext, known: Trajectories, held: Trajectories, chart: ObservationChart
) -> WorldFit:
    """Return a finished training, from the kept state where there is one."""
    params = context.params
    longest = max(params["horizons"])
    if longest > held.longest:
        raise BadInput(
            f"an open loop of {longest} steps does not fit trajectories of {held.longest}",
            where=f"steps.{context.step}.params.horizons",
            fix=f"set horizons of at most {held.longest}",
        )
    schedule = Schedule(**params["schedule"])
    if schedule.horizon > known.longest:
        raise BadInput(
            f"a horizon of {schedule.horizon} steps does not fit trajectories of {known.longest}",
            where=f"steps.{context.step}.params.schedule.horizon",
            fix=f"set a horizon of at most {known.longest}",
        )
    sizes = params["model"]
    # velocities in a ball are of points, and nothing cuts them
    encoded = params["coordinates"] == "encoded"
    model = model_on(
        chart,
        known,
        FieldSizes(sizes["hidden"], sizes["field"]),
        bound_speed=sizes["bound_speed"] and not encoded,
        stream=sizes["stream"] if encoded else 0,
        masses=sizes["mass"] == "metric",
        random=context.random,
    )
    objective = Objective(WORLD_TERMS.values(), params["loss"])
    device = open_device(params["device"], "float32", compiles=params["compile"])
    context.fact("device", device.name)
    fit = WorldFit(model, known, objective, schedule, context.random, device)
    _train(context, fit)
    fit.model.cpu().eval()
    return fit


def _draws(context: StepContext) -> torch.Generator:
    return torch.Generator().manual_seed(context.random.seed % 2**63)


def _require_finite(horizon: int, error: float) -> None:
    if not math.isfinite(error):
        raise InstrumentFailed(
            f"the open loop of {horizon} steps did not stay finite: momentum grew without end",
            fix="train longer or with a longer `schedule.horizon`; the last kept state is whole",
        )


def _finish(context: StepContext, fit: WorldFit, held: Trajectories, facts: Mapping[str, Any]) -> None:
    """Measure a trained world on held-out trajectories, as it observes them, and keep it."""
    params = context.params
    found = errors(fit.model, held, params["horizons"], _draws(context))
    for error in found:
        _require_finite(error.horizon, error.mean)
    context.table("open-loop", [_row(error) for error in found])
    for error in found:
        context.record(_quantity(error))
    _paths(context, fit, held)
    _energy(context, fit, held)
    facts = {
        "coordinates": chart_facts(fit.model.chart),
        "hidden": params["model"]["hidden"],
        "field": params["model"]["field"],
        "stream": params["model"]["stream"] if params["coordinates"] == "encoded" else 0,
        **facts,
    }
    tensors = {n: t for n, t in fit.state().items() if n.startswith("model.")}
    context.attach(WORLD_FILE, encode_world(tensors, facts))


def _train(context: StepContext, fit: WorldFit) -> None:
    """Train to the end, from the kept state where there is one."""
    kept = context.keep / "world.safetensors"
    curves = _resumed(kept, fit)
    steps = fit.schedule.steps
    while fit.step < steps:
        figures = fit.advance()
        if fit.step % _LOGGED == 0 or fit.step == steps:
            curves += [{"step": fit.step, "term": n, "value": v} for n, v in figures.items()]
            context.progress("learning", done=fit.step, total=steps, **figures)
        if fit.step % _KEPT == 0 and fit.step < steps:
            fresh = kept.with_suffix(".part")
            fresh.write_bytes(encode_world(fit.state(), {"step": fit.step, "curves": curves}))
            fresh.replace(kept)
    context.table("curves", curves)


def _resumed(kept: Path, fit: WorldFit) -> list[dict[str, Any]]:
    """Bring a training to its kept state, if there is one, and return the curves so far."""
    if not kept.is_file():
        return []
    tensors, facts = read_world(kept)
    fit.restore(tensors, facts["step"])
    curves: list[dict[str, Any]] = facts["curves"]
    return curves


def _row(error: Error) -> dict[str, Any]:
    return {
        "horizon": error.horizon,
        "nrmse": error.mean,
        "standard_error": error.standard_error,
        "median": error.median,
        "displaced": error.off,
        "still": error.still,
        "reward": error.reward,
        "windows": error.windows,
    }


def _quantity(error: Error) -> Quantity:
    grown = f"a start 1e-3 off grows to {error.off:.2g}"
    return held_out_quantity(
        f"open_loop_{error.horizon}", error.mean, error.standard_error, error.windows, grown
    )


def _encoded_quantities(error: EncodedError) -> Iterator[Quantity]:
    """Yield the error of points and that of what is decoded of them."""
    for name, value, uncertainty, note in (
        (
            "latent",
            error.distance,
            error.standard_error,
            f"mean distance of points; {error.still:.2g} if nothing moves",
        ),
        (
            "decoded",
            error.decoded,
            error.decoded_error,
            f"decoded without texture, in scatters of the frames; {error.floor:.2g} by the encoder itself",
        ),
    ):
        yield held_out_quantity(f"{name}_{error.horizon}", value, uncertainty, error.windows, note)


def _paths(context: StepContext, fit: WorldFit, held: Trajectories) -> None:
    """Keep predicted and recorded observations of the first test trajectories."""
    rows = []
    steps = min(held.longest, 2 * max(context.params["horizons"]))
    for trajectory in range(min(_SHOWN, len(held))):
        found = sample_path(fit.model, held, trajectory, steps).observations[0]
        for step in range(finite_steps(found.T)):
            for number in range(held.observation_size):
                rows.append(
                    {
                        "trajectory": trajectory,
                        "step": step + 1,
                        "number": number,
                        "predicted": float(found[step, number]),
                        "recorded": float(held.observations[trajectory, step + 1, number]),
                    }
                )
    context.table("paths", rows)


def _energy(context: StepContext, fit: WorldFit, held: Trajectories) -> None:
    """Follow the learned energy along paths without action, as far as all of them stay finite."""
    steps = context.params["free_steps"]
    change = free_energies(fit.model, held, steps).abs()
    reached = finite_steps(change) - 1
    context.table(
        "energy",
        [
            {"step": step, "mean": float(change[:, step].mean()), "largest": float(change[:, step].max())}
            for step in range(reached + 1)
        ],
    )
    if reached < steps:
        note = f"paths without action stayed finite for {reached} of {steps} steps: momentum grew without end"
        context.record(Quantity("free_energy_change", None, None, UncertaintyKind.UNDEFINED, note=note))
        return
    last = change[:, -1].double()
    error = float(last.std()) / len(last) ** 0.5 if len(last) > 1 else None
    context.record(
        Quantity(
            "free_energy_change",
            float(last.mean()),
            error,
            UncertaintyKind.STANDARD_ERROR if error is not None else UncertaintyKind.UNCERTIFIED,
            num_samples=len(last),
            note=f"mean size after {steps} steps without action, of the energies' scatter; error over starts",
        )
    )
