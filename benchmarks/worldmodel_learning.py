"""A learned pendulum: open loop against a plain network and a recurrent one, from the same transitions.

    python benchmarks/worldmodel_learning.py --processes 15

times training steps alone, trains all of three seeds side by side, one thread each, and writes
`benchmarks/results/worldmodel-learning.json`; with `--timing` it is done after the first, in half a minute.
The simulator is gymnasium's Pendulum-v1 (0.05 s, torque within 2, speed within 8), for many pendulums at
once. Half the trajectories are of torques that do not depend on the state, half of a controller that swings
up and holds; models learn from both, and the open loop is measured where actions do not depend on the state,
since others give the state away.

nRMSE(h) is the root of the mean over windows and numbers of ((prediction - truth) / sd)^2 exactly h steps
ahead, sd over the test set: 1 is what the mean reaches.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from atlas_topoencoder.devices import PLAIN, Device
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.observation_chart import coordinates_of
from atlas_worldmodel.spaces import Box
from atlas_worldmodel.trajectories import Trajectories
from atlas_worldmodel.world_terms import WORLD_TERMS
from atlas_worldmodel.world_training import Schedule, WorldFit, fitted_model
from rows import RESULTS, result_row, write
from torch import nn

from atlas.objective import Objective
from atlas.randomness import RandomStreams

HORIZONS = (1, 10, 50)
STEPS = 200
PACKAGES = ("torch", "numpy")
Rollout = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def advance(angle: np.ndarray, speed: np.ndarray, torque: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pendulum 0.05 s later."""
    speed = np.clip(speed + 0.05 * (15 * np.sin(angle) + 3 * np.clip(torque, -2, 2)), -8, 8)
    return angle + 0.05 * speed, speed


def observed(angle: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """Return what is observed of pendulums."""
    return np.stack([np.cos(angle), np.sin(angle), speed], -1).astype(np.float32)


def mechanical_energy(seen: torch.Tensor) -> torch.Tensor:
    """Return the energy, of range 10 below the top: `speed^2 / 6 + 5 cos`."""
    return seen[..., 2].square() / 6 + 5 * seen[..., 0]


def controller(angle: np.ndarray, speed: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Return torques that pump energy, hold near the top, and scatter."""
    short = 5.0 - (speed**2 / 6 + 5 * np.cos(angle))
    pump = 4 * np.sign(speed) * short
    hold = -(16 * np.arctan2(np.sin(angle), np.cos(angle)) + 4 * speed)
    return np.where(np.cos(angle) > 0.9, hold, pump) + draws.normal(0, 0.5, len(angle))


def trajectories(count: int, seed: int) -> Trajectories:
    """Return `count` trajectories, the first half blind (each other one holds its torques)."""
    draws = np.random.default_rng(seed)
    angle, speed = draws.uniform(-np.pi, np.pi, count), draws.uniform(-1, 1, count)
    rows, held = np.arange(count), np.zeros(count)
    seen, done, rewards = [observed(angle, speed)], [], []
    for step in range(STEPS):
        if step % 5 == 0:
            held = np.where(draws.random(count) < 0.5, draws.uniform(-2, 2, count), held)
        blind = np.where(rows % 2 == 0, draws.uniform(-2, 2, count), held)
        torque = np.clip(np.where(rows < count // 2, blind, controller(angle, speed, draws)), -2, 2)
        wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
        rewards.append(-(wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2))
        angle, speed = advance(angle, speed, torque)
        seen.append(observed(angle, speed))
        done.append(torque)
    return Trajectories(
        observations=np.stack(seen, 1),
        actions=np.stack(done, 1).astype(np.float32)[..., None],
        rewards=np.stack(rewards, 1).astype(np.float32),
        lengths=np.full(count, STEPS),
        terminated=np.zeros(count, bool),
        truncated=np.ones(count, bool),
        action_space=Box((-2.0,), (2.0,)),
        environment="Pendulum-v1",
        generator="half blind, half a noisy controller",
        seed=seed,
    )


class PlainNetwork(nn.Module):
    """Predicts the change of a frame from observation and action; trained on single frames."""

    horizon, batch, steps, rate = 1, 256, 4000, 1e-3

    def __init__(self, seen: torch.Tensor) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(4, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 128), nn.SiLU(),
            nn.Linear(128, 3),
        )  # fmt: skip
        self.mean, self.sd = seen.mean((0, 1)), seen.std((0, 1))
        self.change = seen.diff(dim=1).std((0, 1))

    def forward(self, first: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the observations that follow `[B, 3]` along actions `[B, H, 1]`."""
        found = []
        for action in actions.unbind(1):
            first = first + self.change * self.net(torch.cat(((first - self.mean) / self.sd, action), -1))
            found.append(first)
        return torch.stack(found, 1)

    def loss(self, found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error in its units."""
        return ((found - truth) / self.change).square().mean()


class Recurrent(nn.Module):
    """A GRU that is begun from an observation and fed with actions; trained on 50 frames."""

    horizon, batch, steps, rate = 50, 64, 1000, 2e-3

    def __init__(self, seen: torch.Tensor) -> None:
        super().__init__()
        size = 136
        self.enter = nn.Sequential(nn.Linear(3, 128), nn.SiLU(), nn.Linear(128, size))
        self.cell = nn.GRU(1, size, batch_first=True)
        self.leave = nn.Sequential(nn.Linear(size, 128), nn.SiLU(), nn.Linear(128, 3))
        self.mean, self.sd = seen.mean((0, 1)), seen.std((0, 1))

    def forward(self, first: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the observations that follow `[B, 3]` along actions `[B, H, 1]`."""
        hidden, _ = self.cell(actions, self.enter((first - self.mean) / self.sd)[None])
        return self.mean + self.sd * self.leave(hidden)

    def loss(self, found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error in its units."""
        return ((found - truth) / self.sd).square().mean()


def train_baseline(model: PlainNetwork | Recurrent, data: Trajectories, seed: int, steps: int) -> None:
    """Train a baseline on windows of its horizon."""
    seen, actions = torch.from_numpy(data.observations), torch.from_numpy(data.action_features())
    optimizer = torch.optim.AdamW(model.parameters(), model.rate, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, model.rate, total_steps=steps, pct_start=0.05)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(data), (model.batch, 1), generator=draws)
        start = torch.randint(STEPS - model.horizon + 1, (model.batch, 1), generator=draws)
        at = start + torch.arange(model.horizon)
        loss = model.loss(model(seen[rows, start][:, 0], actions[rows, at]), seen[rows, at + 1])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0 if model.horizon == 1 else 1.0)
        optimizer.step()
        schedule.step()


def world(
    data: Trajectories, seed: int, schedule: Schedule, *, bound: bool = True, device: Device = PLAIN
) -> WorldFit:
    """Return a world model before training."""
    random = RandomStreams(seed)
    coordinates = coordinates_of([{"cosine": 0, "sine": 1, "velocity": 2}], 3)
    model = fitted_model(coordinates, data, FieldSizes(hidden=200), bound_speed=bound, random=random)
    return WorldFit(model, data, Objective(WORLD_TERMS.values()), schedule, random, device)


@torch.no_grad()
def open_loop(model: Rollout, test: Trajectories) -> dict[str, float]:
    """Return mean and median nRMSE over windows: of all trajectories, and of the blind ones."""
    seen, actions = torch.from_numpy(test.observations), torch.from_numpy(test.action_features())
    sd, found = seen.std((0, 1)), {}
    for name, rows in (("all", len(test)), ("blind", len(test) // 2)):
        starts = range(0, STEPS - max(HORIZONS) + 1, 10)
        first = torch.cat([seen[:rows, s] for s in starts])
        ahead = torch.cat([actions[:rows, s : s + max(HORIZONS)] for s in starts])
        truth = torch.cat([seen[:rows, s + 1 : s + 1 + max(HORIZONS)] for s in starts])
        error = ((model(first, ahead) - truth) / sd).square().mean(-1)
        for h in HORIZONS:
            found[f"{name} {h}"] = float(error[:, h - 1].mean().sqrt())
            found[f"{name} {h} median"] = float(error[:, h - 1].sqrt().median())
    return found


@torch.no_grad()
def free_energy(model: Rollout) -> float:
    """Return the mean change of energy after 500 frames without torque from rest, of its range 10."""
    angle = np.random.default_rng(5).uniform(0.6, np.pi, 64)
    first = torch.from_numpy(observed(angle, 0 * angle))
    last = model(first, torch.zeros(64, 500, 1))[:, -1]
    return float((mechanical_energy(last) - mechanical_energy(first)).abs().mean() / 10)


def simulator(first: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Return the simulator's own path from observations `[B, 3]`."""
    cosine, sine, speed = first.double().numpy().T
    angle = np.arctan2(sine, cosine)
    found = []
    for action in actions.unbind(1):
        angle, speed = advance(angle, speed, 2 * action[:, 0].double().numpy())
        found.append(torch.from_numpy(observed(angle, speed)))
    return torch.stack(found, 1)


def slightly_off(first: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Return the simulator's path from a state 1e-3 of the scatter off: what can be predicted at best."""
    draws = torch.Generator().manual_seed(3)
    angle = torch.atan2(first[:, 1], first[:, 0]) + 1e-3 * 1.8 * torch.randn(len(first), generator=draws)
    speed = first[:, 2] + 1e-3 * 3.0 * torch.randn(len(first), generator=draws)
    return simulator(torch.stack((angle.cos(), angle.sin(), speed), -1), actions)


def one(name: str, seed: int, transitions: int, share: float) -> dict[str, Any]:
    """Train one model and measure it."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data, test = trajectories(transitions // STEPS, 777 * seed + 1), trajectories(80, 10_000)
    begun = time.process_time()
    if name.startswith("world"):
        fit = world(data, seed, Schedule(steps=round(4000 * share)), bound=name != "world unbounded")
        while fit.step < fit.schedule.steps:
            fit.advance()
        module: nn.Module = fit.model
        roll: Rollout = lambda first, actions: fit.model(first, actions).observations  # noqa: E731
    else:
        made = {"network": PlainNetwork, "gru": Recurrent}[name](torch.from_numpy(data.observations))
        train_baseline(made, data, seed, round(made.steps * share))
        module, roll = made, made
    return {
        "model": name,
        "seed": seed,
        "transitions": transitions,
        "parameters": sum(p.numel() for p in module.parameters()),
        "seconds": time.process_time() - begun,
        **open_loop(roll, test),
        "energy": free_energy(roll),
    }


def step_times(repeats: int) -> dict[str, list[float]]:
    """Return seconds of training steps of 64 windows of 50 frames, taken in turn on one thread.

    The compiled step's first takes minutes, and a C++ compiler.
    """
    torch.set_num_threads(1)
    data = trajectories(40, 1)
    seen, actions = torch.from_numpy(data.observations), torch.from_numpy(data.action_features())
    gru = Recurrent(seen)
    optimizer = torch.optim.AdamW(gru.parameters(), 1e-3)
    schedule = Schedule(steps=10_000, batch_size=64, horizon=50)
    fit = world(data, 0, schedule)
    compiled = world(data, 0, schedule, device=Device(torch.device("cpu"), compiles=True))

    def recurrent() -> None:
        loss = gru.loss(gru(seen[:, 0].repeat(2, 1)[:64], actions[:, :50].repeat(2, 1, 1)[:64]),
                        seen[:, 1:51].repeat(2, 1, 1)[:64])  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(gru.parameters(), 1.0)
        optimizer.step()

    found: dict[str, list[float]] = {"gru": [], "world": [], "compiled": []}
    for number in range(repeats + 3):
        for name, step in (("gru", recurrent), ("world", fit.advance), ("compiled", compiled.advance)):
            begun = time.perf_counter()
            step()
            if number >= 3:
                found[name].append(time.perf_counter() - begun)
    return found


def main() -> None:
    """Measure all and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps, to try the script")
    parser.add_argument("--timing", action="store_true", help="time training steps and nothing else")
    parser.add_argument("--machine", help="in words")
    parser.add_argument("--out", type=Path, default=RESULTS / "worldmodel-learning.json")
    options = parser.parse_args()
    times = step_times(max(3, round(200 * options.share)))
    write([_step_row(times, name, options.machine) for name in ("world", "compiled")], options.out)
    if options.timing:
        return
    jobs = [
        (name, seed, transitions, options.share)
        for name, transitions in (
            ("world", 40_000), ("world", 4_000), ("world", 2_000), ("network", 40_000), ("gru", 40_000),
            ("world unbounded", 40_000), ("network", 2_000),
        )
        for seed in range(options.seeds)
    ]  # fmt: skip
    with ProcessPoolExecutor(options.processes) as pool:
        done = list(pool.map(one, *zip(*jobs, strict=True)))
    for entry in done:
        print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in entry.items()}))
    test = trajectories(80, 10_000)
    floor, exact = open_loop(slightly_off, test), free_energy(simulator)
    write(_rows(done, floor, exact, options.machine), options.out)


def _step_row(times: dict[str, list[float]], name: str, machine: str | None) -> dict[str, Any]:
    ours, gru = np.array(times[name]), np.array(times["gru"])
    ratio = float(np.median(ours) / np.median(gru))
    return result_row(
        "worldmodel-learning.step_time" + ("" if name == "world" else "_compiled"),
        f"Training step of 64 windows of 50 frames, {'eager' if name == 'world' else name}, times a GRU's of "
        f"equal parameters ({1e3 * np.median(ours):.1f} against {1e3 * np.median(gru):.1f} ms, medians of "
        f"{len(ours)}, taken in turn; the least times, {ours.min() / gru.min():.2f})",
        ratio,
        unit="times",
        target="floor 2, ambition 1",
        met=ratio <= 2,
        baseline=1.0,
        baseline_version="GRU, one fused kernel",
        packages=PACKAGES,
        machine=machine,
    )


def _rows(
    done: list[dict[str, Any]], floor: dict[str, float], exact: float, machine: str | None
) -> list[dict[str, Any]]:
    def of(name: str, transitions: int, key: str) -> np.ndarray:
        chosen = [e[key] for e in done if (e["model"], e["transitions"]) == (name, transitions)]
        return np.array(chosen)

    rows = []

    def add(
        key: str, what: str, values: np.ndarray, target: str, met: bool | None,
        *, baseline: float, other: str,
    ) -> None:  # fmt: skip
        rows.append(
            result_row(
                f"worldmodel-learning.{key}",
                what,
                float(values.mean()),
                sd=float(values.std(ddof=1)) if len(values) > 1 else None,
                n=len(values),
                unit="1",
                target=target,
                met=met,
                baseline=baseline,
                baseline_version=other,
                packages=PACKAGES,
                machine=machine,
            )
        )

    size = int(of("world", 40_000, "parameters")[0])
    reach = {1: (0.0058, 0.003, "all"), 10: (0.0184, 0.008, "all"), 50: (0.42, 0.15, "blind")}
    for h, (least, most, part) in reach.items():
        values, plain = of("world", 40_000, f"{part} {h}"), of("network", 40_000, f"{part} {h}")
        gru = of("gru", 40_000, f"{part} {h}")
        where = "" if part == "all" else ", where actions do not depend on the state"
        add(
            f"open_loop_{h}",
            f"Pendulum, {size} parameters, 40000 transitions: mean nRMSE {h} steps ahead{where}. The "
            f"simulator begun 1e-3 of the scatter off: {floor[f'{part} {h}']:.2g}; GRU {gru.mean():.3g}",
            values,
            f"floor {least:g}, ambition {most:g}",
            bool(values.mean() <= most),
            baseline=float(plain.mean()),
            other="MLP of 100k parameters, same transitions, 4000 steps",
        )
    blind = of("world", 40_000, "blind 10")
    add(
        "open_loop_blind_10",
        "The same 10 steps ahead, where actions do not depend on the state. The simulator begun 1e-3 off: "
        f"{floor['blind 10']:.2g}; GRU {of('gru', 40_000, 'blind 10').mean():.3g}",
        blind, "none set", None,
        baseline=float(of("network", 40_000, "blind 10").mean()), other="MLP, same transitions",
    )  # fmt: skip
    for transitions, times_fewer in ((4_000, 10), (2_000, 20)):
        for h in (1, 10):
            values, plain = of("world", transitions, f"all {h}"), of("network", 40_000, f"all {h}").mean()
            small = of("network", 2_000, f"all {h}").mean()
            add(
                f"few_{transitions}_{h}",
                f"Mean nRMSE {h} steps ahead from {transitions} transitions, {times_fewer} times fewer than "
                f"the baseline has; an MLP from 2000: {small:.3g}",
                values,
                "floor 10x fewer, ambition 20x fewer, at the MLP's error",
                bool(values.mean() <= plain),
                baseline=float(plain),
                other="MLP from 40000",
            )
    energy, plain = of("world", 40_000, "energy"), of("network", 40_000, "energy")
    add(
        "energy",
        "Mean change of energy after 500 steps without torque, of its range; GRU "
        f"{of('gru', 40_000, 'energy').mean():.3g}, MLP {plain.mean():.3g}. The simulator's own step changes "
        "what it should keep",
        energy,
        "floor .072, ambition .025",
        bool(energy.mean() <= 0.025),
        baseline=exact,
        other="the simulator",
    )
    free = of("world unbounded", 40_000, "blind 50")
    add(
        "without_bound",
        "Mean nRMSE 50 steps ahead, blind actions, without the bound on velocities, which is the data's "
        "greatest; the baseline has it",
        free, "none set", None,
        baseline=float(of("world", 40_000, "blind 50").mean()), other="with the bound",
    )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
