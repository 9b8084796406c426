"""Training on a CUDA device: steps a second of three trainings, compiled and recorded against eager.

    python benchmarks/training_gpu.py [topoencoder] [world] [agent] [--out FILE]

Each is the training that its instrument runs, at the settings of its manifest but for the batch: a
TopoEncoder on random images of manifests/topoencoder-mnist.yaml's size at batch 4096, the world of
manifests/worldmodel-pendulum.yaml and the agent of manifests/agent-pendulum.yaml at sixteen times their
batches. Eager and with `compile: true` run one after the other in one process, from the same weights and
draws; a time is the median over windows of steps, batches drawn, views made and losses read as always. The
share of a step in which the device does nothing is one less the device time of its kernels, by torch's
profiler, over the step's wall time without it. The worst relative difference of the two sides' losses over
their first ten steps is what recording and compiling change.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from agent import ROOT, TASKS, parameters, schema
from atlas_topoencoder.data import Dataset, split
from atlas_topoencoder.devices import Device, open_device
from atlas_topoencoder.instrument import objective_of, training_of
from atlas_worldmodel.agent_instrument import agent_of
from atlas_worldmodel.environments import open_environment
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.observation_chart import coordinates_of
from atlas_worldmodel.world_terms import WORLD_TERMS
from atlas_worldmodel.world_training import Schedule, WorldFit, fitted_model
from attrs import frozen
from rows import RESULTS, result_row, write
from worldmodel_learning import trajectories

from atlas.objective import Objective
from atlas.randomness import RandomStreams

BATCH = 4096
TIMES = 16
"""What batches of worlds and agents are multiplied by."""
COMPARED, WINDOW, WINDOWS = 10, 10, 12


@frozen
class Side:
    """One side of a comparison.

    Attributes:
        rates: Steps a second of each window.
        losses: Of the first steps.
        idle: Share of a step in which the device does nothing; None where it was not looked at.
        first_s: Seconds until recording and compilation were over.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    idle: float | None
    first_s: float

    @property
    def rate(self) -> float:
        """The median of the rates."""
        return statistics.median(self.rates)


def stepped(step: Callable[[], float | torch.Tensor]) -> Side:
    """Return what was measured of steps that return their loss."""
    began = time.perf_counter()
    losses = [float(step()) for _ in range(COMPARED)]
    first = time.perf_counter() - began
    for _ in range(WINDOW):
        step()
    rates = []
    for _ in range(WINDOWS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(WINDOW):
            step()
        torch.cuda.synchronize()
        rates.append(WINDOW / (time.perf_counter() - began))
    return Side(rates, losses, 1 - busy(step) * statistics.median(rates), first)


def busy(step: Callable[[], object]) -> float:
    """Return the device seconds of one step's kernels."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(WINDOW):
            step()
        torch.cuda.synchronize()
    return float(sum(event.self_device_time_total for event in profiler.key_averages())) / 1e6 / WINDOW


def topoencoder(device: Device) -> dict[str, Side]:
    """Return what a TopoEncoder's training does."""
    from atlas.manifest.structure import fill

    card = yaml.safe_load((ROOT / "plugins/topoencoder/src/atlas_topoencoder/atlas-plugin.yaml").read_text())
    manifest = yaml.safe_load((ROOT / "manifests/topoencoder-mnist.yaml").read_text())
    params = fill(card["provides"]["instruments"]["topoencoder"]["params"], manifest["steps"][0]["params"])
    params["schedule"] |= {"batch_size": BATCH, "warmup": 0, "placing": "k-means", "revive_every": 0}
    values = np.random.default_rng(0).random((5 * BATCH // 4, 1, 28, 28), dtype=np.float32)
    images = Dataset(values, 1.0, None, (), "noise")
    random = RandomStreams(7)
    parts = split(images, 0.2, random)
    training = training_of(params, images, parts, objective_of(params["loss"]), random, device)
    return {"steps": stepped(lambda: training.advance().total.detach())}


def world(device: Device) -> dict[str, Side]:
    """Return what a world's training does."""
    manifest = yaml.safe_load((ROOT / "manifests/worldmodel-pendulum.yaml").read_text("utf-8"))
    named = coordinates_of(manifest["steps"][1]["params"]["coordinates"], 3)
    data, random = trajectories(40, 1), RandomStreams(7)
    sizes = schema("worldmodel")["properties"]["model"]["properties"]
    widths = FieldSizes(sizes["hidden"]["default"], sizes["field"]["default"])
    model = fitted_model(named, data, widths, bound_speed=True, random=random)
    schedule = Schedule(batch_size=TIMES * Schedule().batch_size)
    fit = WorldFit(model, data, Objective(WORLD_TERMS.values()), schedule, random, device)
    return {"steps": stepped(lambda: sum(fit.advance().values()))}


def agent(device: Device) -> dict[str, Side]:
    """Return what an agent's learning does: of its models of the world, and of policy and value."""
    params = parameters(TASKS["pendulum"], "agent")
    params["learning"] |= {name: TIMES * params["learning"][name] for name in ("fit_batch", "improve_batch")}
    one = agent_of(params, open_environment(params["environment"]), RandomStreams(7), None, device)
    seen: dict[str, list[tuple[int, float, float]]] = {"fitting the world": [], "improving": []}

    def told(message: str, *, done: int, total: int, **figures: float) -> None:
        seen[message].append((done, time.perf_counter(), sum(figures.values())))

    for _ in range(2):
        one.advance(told)
    return {name: _told(found) for name, found in seen.items()}


def _told(seen: Sequence[tuple[int, float, float]]) -> Side:
    """Return the rates between reports of the rounds after the first."""
    first = next(n for n, (done, *_) in enumerate(seen) if n and not done)
    rates = [
        (after[0] - before[0]) / (after[1] - before[1])
        for before, after in zip(seen[first:], seen[first + 1 :], strict=False)
        if after[0] - before[0] > 1
    ]
    return Side(rates, [seen[0][2]], None, seen[1][1] - seen[0][1])


SIDES: dict[str, Callable[[Device], dict[str, Side]]] = {
    "topoencoder": topoencoder,
    "world": world,
    "agent": agent,
}

LINES = {
    ("topoencoder", "steps"): ("topoencoder.gpu.images_4096", "TopoEncoder at batch 4096", BATCH, "images/s"),
    ("world", "steps"): ("worldmodel.gpu.steps_4096", "World at 4096 windows of 4 frames", 1, "steps/s"),
    ("agent", "fitting the world"): (
        "agent.gpu.fit_1024",
        "Agent's five models of the world at 1024 transitions each",
        1,
        "steps/s",
    ),
    ("agent", "improving"): (
        "agent.gpu.improve_1600",
        "Agent's policy and value at 1600 paths of 20 steps",
        1,
        "steps/s",
    ),
}


def lines(what: str, eager: dict[str, Side], compiled: dict[str, Side]) -> list[dict[str, Any]]:
    """Return the result rows of a training's two sides."""
    found = []
    for part, fast in compiled.items():
        slow, (name, about, factor, unit) = eager[part], LINES[what, part]
        apart = max(abs(a - b) / abs(b) for a, b in zip(fast.losses, slow.losses, strict=True))
        common: dict[str, Any] = {
            "packages": ("torch",),
            "machine": torch.cuda.get_device_name(),
            "baseline_version": "the same training, eager",
        }
        asked = what == "topoencoder"
        found.append(
            result_row(
                name,
                f"{about}, compiled and recorded: {unit} in training, ready after {fast.first_s:.0f} s; "
                f"first losses within {apart:.1e} of the eager ones",
                factor * fast.rate,
                sd=factor * statistics.stdev(fast.rates),
                n=len(fast.rates),
                unit=unit,
                baseline=factor * slow.rate,
                target=">= 3x eager" if asked else "none set",
                met=fast.rate >= 3 * slow.rate if asked else None,
                **common,
            )
        )
        if fast.idle is not None:
            found.append(
                result_row(
                    name.rpartition(".")[0] + ".idle_" + name.rpartition("_")[2],
                    f"{about}, compiled and recorded: share of a step in which the device waits",
                    fast.idle,
                    unit="1",
                    baseline=slow.idle,
                    target="< 0.2" if asked else "none set",
                    met=fast.idle < 0.2 if asked else None,
                    **common,
                )
            )
    return found


def main() -> None:
    """Measure and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*SIDES, []], help="all if none is named")
    parser.add_argument("--out", type=Path, default=RESULTS / "training-gpu.json")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device is here: run this on a machine with one")
    for what in options.what or SIDES:
        sides = [SIDES[what](open_device("cuda", "float32", compiles=compiles)) for compiles in (False, True)]
        rows = lines(what, *sides)
        print(json.dumps(rows, indent=1), flush=True)
        write(rows, options.out)


if __name__ == "__main__":
    main()
