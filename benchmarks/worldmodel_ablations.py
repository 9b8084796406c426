"""What each loss term and each mechanism of the learned world is worth: one changed at a time.

    python benchmarks/worldmodel_ablations.py [--quick] [--lines FILE]

takes twenty minutes of one processor; with `--lines` an interrupted run goes on where it was. Worlds of
`worldmodel_learning` learn the pendulum from 4000 transitions in 1000 steps, a quarter of that benchmark's,
and are measured on its blind test trajectories. Field, outward potential and barrier do not exist in one
dimension nor on angles: they are taken from a second system, a charged particle in a plane whose velocity
turns in a magnetic field, as positions and velocities. A term that is off by default is added at 0.1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rows
import torch
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.observation_chart import coordinates_of
from atlas_worldmodel.spaces import Box
from atlas_worldmodel.trajectories import Trajectories
from atlas_worldmodel.world_terms import WORLD_TERMS
from atlas_worldmodel.world_training import Schedule, WorldFit, fitted_model
from worldmodel_learning import HORIZONS, PACKAGES, STEPS, open_loop, trajectories

from atlas.objective import Objective
from atlas.randomness import RandomStreams

SEEDS = (0, 1)
TRANSITIONS, TRAINED = 4_000, 1_000
ADDED = 0.1
"""Weight of a term that is off by default."""

FORCE = 2.0
"""Largest of each component that acts on the particle."""


def particles(count: int, seed: int) -> Trajectories:
    """Return paths of a charged particle in the plane, pushed without regard to where it is.

    Steps of 0.05 with the potential `|x|^2 + |x|^4 / 8` and a magnetic field that turns velocities with
    angular velocity 2.
    """
    draws = np.random.default_rng(seed)
    place, speed = draws.uniform(-1, 1, (count, 2)), draws.uniform(-1, 1, (count, 2))
    seen, pushes = [np.concatenate((place, speed), -1)], draws.uniform(-FORCE, FORCE, (count, STEPS, 2))
    c, s = np.cos(0.1), np.sin(0.1)
    for step in range(STEPS):
        slope = place * (2 + (place**2).sum(-1, keepdims=True) / 2)
        speed = (speed + 0.05 * (pushes[:, step] - slope)) @ np.array([[c, s], [-s, c]])
        place = place + 0.05 * speed
        seen.append(np.concatenate((place, speed), -1))
    return Trajectories(
        observations=np.stack(seen, 1).astype(np.float32),
        actions=pushes.astype(np.float32),
        rewards=np.zeros((count, STEPS), np.float32),
        lengths=np.full(count, STEPS),
        terminated=np.zeros(count, bool),
        truncated=np.ones(count, bool),
        action_space=Box((-FORCE,) * 2, (FORCE,) * 2),
        environment="a charged particle in a plane",
        generator="blind",
        seed=seed,
    )


SYSTEMS: dict[str, tuple[Callable[[int, int], Trajectories], list[dict[str, int]], int]] = {
    "pendulum": (trajectories, [{"cosine": 0, "sine": 1, "velocity": 2}], 3),
    "particle": (particles, [{"position": 0, "velocity": 2}, {"position": 1, "velocity": 3}], 4),
}

WHOLE = {"pendulum": "", "particle": "field"}
"""What is on in the model that others are compared with, beside the defaults."""

CHANGES = {
    "pendulum": {
        "no-bound": "velocities without the bound at the data's greatest",
        "no-lag": "lag kept at 0: the measured velocity is the state's",
        "no-lead": "lead kept at 1/2: half the action's impulse before the drift",
        "no-lag-lead": "lag kept at 0 and lead at 1/2, as if the simulator were symmetric",
        "no-friction": "friction kept at 0",
        "no-rate": "the unit of observed velocities kept at its first guess",
        "one-frame": "trained on windows of one frame, batches of 1024",
        "no-reward": "without the term world-reward",
        **{
            f"plus-{name.removeprefix('world-')}": f"with the term {name} at {ADDED:g}"
            for name, term in WORLD_TERMS.items()
            if not term.default_weight
        },
    },
    "particle": {
        "no-field": "without the field, so that no force turns velocities",
        "no-outward-barrier": "without outward potential and barrier",
        "no-lag-lead": "lag kept at 0 and lead at 1/2",
        "plus-metric": f"with the term world-metric at {ADDED:g}",
        "mass": "with the metric as a mass of each axis",
        "plus-energy": f"with the term world-energy at {ADDED:g}",
    },
}


def constant(parameter: torch.nn.Parameter, value: float | None = None) -> None:
    """Keep a parameter at a value, or at the one that it has."""
    if value is not None:
        parameter.data.fill_(value)
    parameter.requires_grad_(False)


def fit_of(system: str, change: str, seed: int, steps: int) -> WorldFit:
    """Return a training of a system with one change, or none."""
    make, coordinates, size = SYSTEMS[system]
    data, random = make(TRANSITIONS // STEPS, 777 * seed + 1), RandomStreams(seed)
    width = 32 if WHOLE[system] == "field" and change != "no-field" else 0
    model = fitted_model(
        coordinates_of(coordinates, size),
        data,
        FieldSizes(hidden=200, field=width),
        bound_speed=change != "no-bound",
        random=random,
        masses=change == "mass",
    )
    if change in ("no-lag", "no-lag-lead"):
        constant(model.lag, 0.0)
    if change in ("no-lead", "no-lag-lead"):
        constant(model.lead, 0.5)
    if change == "no-friction":
        constant(model.fields.rubbing, 0.0)
    if change == "no-rate":
        constant(model.chart.rate)
    if change == "no-outward-barrier":
        model.fields.open = False
    weights = {"world-reward": 0.0} if change == "no-reward" or system == "particle" else {}
    if change.startswith("plus-"):
        weights[f"world-{change.removeprefix('plus-')}"] = ADDED
    schedule = Schedule(steps, batch_size=1024, horizon=1) if change == "one-frame" else Schedule(steps)
    return WorldFit(model, data, Objective(WORLD_TERMS.values(), weights), schedule, random)


def measured(system: str, change: str, seed: int, *, steps: int) -> dict[str, float]:
    """Train one world and return its errors on test trajectories, blind ones alone."""
    torch.set_num_threads(1)
    fit = fit_of(system, change, seed, steps)
    while fit.step < steps:
        fit.advance()
    found = open_loop(
        lambda first, ahead: fit.model(first, ahead).observations, SYSTEMS[system][0](80, 10_000)
    )
    return {str(h): found[f"blind {h}"] for h in HORIZONS}


def cases() -> Iterator[dict[str, Any]]:
    """Yield what is trained, seed by seed, so that an interrupted run has whole comparisons."""
    for seed in SEEDS:
        for system, changes in CHANGES.items():
            for change in ("whole", *changes):
                yield {"system": system, "change": change, "seed": seed}


def table(lines: list[dict[str, Any]], steps: int) -> list[dict[str, Any]]:
    """Return the rows, the error 10 steps ahead as the value."""
    found = []
    for system, changes in CHANGES.items():
        errors = {
            change: {
                str(h): np.array([e[str(h)] for e in lines if (e["system"], e["change"]) == (system, change)])
                for h in HORIZONS
            }
            for change in ("whole", *changes)
        }
        whole = errors["whole"]
        for change, words in changes.items():
            values = errors[change]
            found.append(
                rows.result_row(
                    f"worldmodel_ablations.{system}.{change}",
                    f"{system.capitalize()}, {words}: mean nRMSE 10 steps ahead; "
                    + ", ".join(
                        f"{h} ahead {values[str(h)].mean():.2g} (baseline {whole[str(h)].mean():.2g})"
                        for h in (1, 50)
                    ),
                    float(values["10"].mean()),
                    sd=float(values["10"].std(ddof=1)),
                    n=len(values["10"]),
                    unit="1",
                    target="none set",
                    met=None,
                    baseline=float(whole["10"].mean()),
                    baseline_version=f"the whole model; {TRANSITIONS} transitions, {steps} steps",
                    packages=PACKAGES,
                )
            )
    return found


def main() -> None:
    """Measure all and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 steps, to try the script")
    parser.add_argument("--lines", type=Path)
    options = parser.parse_args()
    steps = 20 if options.quick else TRAINED
    made = rows.line_by_line(lambda **case: measured(**case, steps=steps), cases(), options.lines)
    name = "worldmodel_ablations-quick.json" if options.quick else "worldmodel_ablations.json"
    rows.write(table(made, steps), rows.RESULTS / name)


if __name__ == "__main__":
    main()
