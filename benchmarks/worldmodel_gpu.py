"""Training steps of the learned world on a CUDA device: steps a second, compiled against eager.

    python benchmarks/worldmodel_gpu.py [--batch N] [--horizon H] [--out FILE]

The model is that of manifests/worldmodel-pendulum.yaml at sixteen times its batch, the loss its default
terms, the windows those of `worldmodel_learning`'s pendulum, on the device beforehand. A step is: path,
terms, backward, clipping, Adam. Eager, frames pass without a graph and get their gradients together;
compiled, path and terms are one graph of frames in a row. All sides run in one process, a time is the median
over windows of ten synchronised steps. `--device cpu` tries the script where there is no such device and
writes no row.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from atlas_worldmodel.world_terms import WORLD_SLOT, WORLD_TERMS, WorldOutputs
from atlas_worldmodel.world_training import Schedule
from rows import RESULTS, result_row, write
from worldmodel_learning import STEPS, trajectories, world

from atlas.objective import Objective

MEASURED, WINDOWS = 10, 12

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def measured(
    device: torch.device, batch: int, horizon: int, prepare: Callable[[Loss], Loss]
) -> dict[str, float]:
    """Return steps a second, their scatter, and the seconds until the first step was through."""
    data = trajectories(40, 1)
    fit = world(data, 0, Schedule(batch_size=batch, horizon=horizon))
    model, objective = fit.model.to(device), Objective(WORLD_TERMS.values())
    draws = torch.Generator().manual_seed(0)
    rows = torch.randint(len(data), (batch, 1), generator=draws)
    start = torch.randint(STEPS - horizon + 1, (batch, 1), generator=draws)
    at = start + torch.arange(horizon)
    seen = fit.seen[rows, torch.cat((start, at + 1), 1)].to(device)
    actions, rewards = fit.actions[rows, at].to(device), fit.rewards[rows, at].to(device)
    scale, metric = fit.scale.to(device), fit.metric.to(device)

    def total(seen: torch.Tensor, actions: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
        path = model(seen[:, 0], actions)
        outputs = WorldOutputs(
            path=path,
            target=model.chart.beside(model.chart.state(seen[:, 1:]).z, path.states.z).detach(),
            observations=seen[:, 1:],
            rewards=rewards,
            scale=scale,
            reward_scale=model.reward_scale,
            metric=metric,
            spread=model.spread,
            unit=model.fields.unit,
        )
        return objective({WORLD_SLOT: outputs}).total

    loss = prepare(total)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(seen, actions, rewards).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()

    began = time.perf_counter()
    step()
    _wait(device)
    first = time.perf_counter() - began
    for _ in range(15):
        step()
    rates = []
    for _ in range(WINDOWS):
        _wait(device)
        began = time.perf_counter()
        for _ in range(MEASURED):
            step()
        _wait(device)
        rates.append(MEASURED / (time.perf_counter() - began))
    return {"rate": statistics.median(rates), "sd": statistics.stdev(rates), "first_s": first}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure and write the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=16 * Schedule().batch_size)
    parser.add_argument("--horizon", type=int, default=Schedule().horizon)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=RESULTS / "worldmodel-gpu.json")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device is here: run this on a machine with one, or try it with --device cpu")
    torch.set_float32_matmul_precision("high")
    prepared: dict[str, Callable[[Loss], Loss]] = {
        "eager": lambda loss: loss,
        "compiled": torch.compile,
        "graphed": lambda loss: torch.compile(loss, mode="reduce-overhead"),
    }
    found = {name: measured(device, options.batch, options.horizon, way) for name, way in prepared.items()}
    print(json.dumps(found, indent=1))
    if device.type != "cuda":
        return
    best = max(("compiled", "graphed"), key=lambda name: found[name]["rate"])
    row = result_row(
        f"worldmodel.gpu.steps_{options.batch}_{options.horizon}",
        f"Training steps a second of {options.batch} windows of {options.horizon} frames, {best}; the first "
        f"took {found[best]['first_s']:.0f} s. The baseline is eager",
        found[best]["rate"],
        sd=found[best]["sd"],
        n=WINDOWS,
        unit="steps/s",
        baseline=found["eager"]["rate"],
        baseline_version="the same step, eager",
        target="none set",
        met=None,
        packages=("torch",),
        machine=torch.cuda.get_device_name(device),
    )
    write([row], options.out)


if __name__ == "__main__":
    main()
