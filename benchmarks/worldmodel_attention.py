"""Covariant attention as a world model: all operators from heads, forces from attention, and a plain network.

Three models of nearly equal size are trained alike on the same windows, and predict open loop, on two sets
of generated sequences with actions that do not depend on the state: points of the ball that move .4 a step,
and the pendulum's observations put into the ball. All are given the same frames: two remembered points, the
state and its velocity. Errors are hyperbolic distances, as parts of the error of "nothing moves".

    python benchmarks/worldmodel_attention.py [--quick] [--workers N]

takes ten processor-minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rows
import torch
from atlas_topoencoder.geometry import distance, expmap0, logmap0, mobius_add
from atlas_worldmodel.attention import GeodesicQuery, Sizes
from atlas_worldmodel.attention_world import ForcesWorld, HeadsWorld
from atlas_worldmodel.rollouts import Memory, arrival, opening, rollout
from atlas_worldmodel.splitting import State
from torch import nn

from atlas.randomness import RandomStreams

MEMORY, AHEAD, FAR, CHARTS = 2, 4, 32, 6
SEEDS = (0, 1, 2)
SETS = ("moving", "pendulum")
MODELS = ("heads", "forces", "forces without memory", "forces without geodesic terms", "mlp", "mlp longer")
_WHAT = {
    "heads": "all operators from attention heads",
    "forces": "the explicit integrator with forces from attention",
    "forces without memory": "the same without memory",
    "forces without geodesic terms": "the same, without products in the query",
    "mlp": "a plain network",
    "mlp longer": "a plain network with ten times the steps",
}


class Sequences(NamedTuple):
    """Points `[N, T, D]` in the ball and actions `[N, T - 1, A]`."""

    points: torch.Tensor
    actions: torch.Tensor


def moving(count: int, steps: int, random: RandomStreams) -> Sequences:
    """Return points `exp0(u)` of `u' = .97 R u + .04 B a`, in four dimensions with two actions."""
    law = np.random.default_rng(0)
    angle = 0.4
    turn = np.eye(4)
    for i, j in ((0, 1), (2, 3)):
        plane = np.eye(4)
        plane[[i, i, j, j], [i, j, i, j]] = [
            math.cos(angle),
            -math.sin(angle),
            math.sin(angle),
            math.cos(angle),
        ]
        turn = turn @ plane
    push = law.standard_normal((4, 2))
    draw = random.generator("moving")
    u = 0.25 * draw.standard_normal((count, 4))
    actions = draw.uniform(-2, 2, (count, steps - 1, 2))
    path = [u]
    for t in range(steps - 1):
        u = 0.97 * u @ turn.T + 0.04 * actions[:, t] @ push.T
        path.append(u)
    points = expmap0(torch.tensor(np.stack(path, 1)))
    return Sequences(points.float(), torch.tensor(actions, dtype=torch.float32))


def pendulum(count: int, steps: int, random: RandomStreams) -> Sequences:
    """Return observations of Pendulum-v1, `exp0(.6 (cos, sin, rate / 8))`, under random torques."""
    draw = random.generator("pendulum")
    angle, rate = draw.uniform(-math.pi, math.pi, count), draw.uniform(-1, 1, count)
    actions = draw.uniform(-2, 2, (count, steps - 1, 1))
    seen = []
    for t in range(steps):
        seen.append(np.stack((np.cos(angle), np.sin(angle), rate / 8), -1))
        if t < steps - 1:
            rate = np.clip(rate + (15 * np.sin(angle) + 3 * actions[:, t, 0]) * 0.05, -8, 8)
            angle = angle + rate * 0.05
    points = expmap0(0.6 * torch.tensor(np.stack(seen, 1)))
    return Sequences(points.float(), torch.tensor(actions / 2, dtype=torch.float32))


class PlainWorld(nn.Module):
    """A network that reads logarithms, velocities and actions, and adds to the free flight."""

    def __init__(self, latent: int, actions: int, hidden: int, random: RandomStreams) -> None:
        super().__init__()
        inputs = (MEMORY + 1) * (2 * latent + actions)
        widths = (inputs, hidden, hidden, hidden, latent)
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
        for number, layer in enumerate(layers):
            drawn = random.generator("plain", number).standard_normal(tuple(layer.weight.shape))
            layer.weight.data.copy_(torch.tensor(drawn / math.sqrt(layer.in_features)))
            layer.bias.data.zero_()
        layers[-1].weight.data.zero_()
        self.network = nn.Sequential(
            *(part for layer in layers[:-1] for part in (layer, nn.SiLU())), layers[-1]
        )

    def begin(self, state: State, *_: object) -> State:
        """Return the state as it was reached."""
        return state

    def forward(self, state: State, action: torch.Tensor, memory: Memory, *_: torch.Tensor) -> State:
        """Return the state a step later."""
        past = (logmap0(memory.points), memory.velocities, memory.actions)
        known = [logmap0(state.z), state.w, action, *(part.flatten(1) for part in past)]
        moved = (state.w + self.network(torch.cat(known, -1))) / 2
        return arrival(state.z, mobius_add(state.z, expmap0(moved)))


class Forgetful(nn.Module):
    """A world that is told of no past: its memory lies where it is, at rest, and nothing was done there."""

    def __init__(self, world: nn.Module) -> None:
        super().__init__()
        self.world = world

    def begin(self, state: State, before: torch.Tensor, memory: Memory, *rest: torch.Tensor) -> State:
        """Return the state as the world has it."""
        return self.world.begin(state, before, self._blank(state, memory), *rest)

    def forward(self, state: State, action: torch.Tensor, memory: Memory, *rest: torch.Tensor) -> State:
        """Return the state a step later."""
        return self.world(state, action, self._blank(state, memory), *rest)

    def _blank(self, state: State, memory: Memory) -> Memory:
        return Memory(
            state.z.unsqueeze(1).expand_as(memory.points),
            torch.zeros_like(memory.velocities),
            torch.zeros_like(memory.actions),
        )


def make(name: str, latent: int, actions: int, random: RandomStreams) -> nn.Module:
    """Return an untrained model."""
    if name.startswith("mlp"):
        return PlainWorld(latent, actions, 88, random)
    sizes = Sizes(latent, site_vectors=1, site_scalars=actions, token_vectors=3, token_scalars=4, hidden=72)
    if name == "heads":
        return HeadsWorld(CHARTS, sizes._replace(hidden=36), memory=MEMORY, random=random)
    world = ForcesWorld(CHARTS, sizes, memory=MEMORY, random=random)
    if name == "forces without geodesic terms":
        for part in world.modules():
            if isinstance(part, GeodesicQuery):
                part.products.data.zero_()
                part.products.requires_grad_(False)
    return Forgetful(world) if name == "forces without memory" else world


def centers(latent: int) -> torch.Tensor:
    """Return chart centres: both ways along the first three axes, at distance 1 from the origin."""
    axes = torch.eye(latent)[:3]
    return math.tanh(0.5) * torch.cat((axes, -axes))


def errors(model: nn.Module, data: Sequences, horizon: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distances of the predicted points, and of the last point given, `[N, horizon]`."""
    frames = MEMORY + 2
    points, actions = data.points[:, : frames + horizon], data.actions[:, : frames + horizon - 1]
    begin, target = opening(points, actions, MEMORY), points[:, frames:]
    predicted = rollout(model, begin, centers(points.shape[-1]))
    return distance(predicted, target), distance(begin.state.z.unsqueeze(1), target)


def advance(model: nn.Module, batch: Sequences, optimizer: torch.optim.Optimizer) -> None:
    """Take one step of training."""
    found, _ = errors(model, batch, AHEAD)
    optimizer.zero_grad()
    found.mean().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def cost(name: str) -> float:
    """Return the processor seconds of a step of training, the least of ten."""
    torch.set_num_threads(1)
    data = pendulum(64, MEMORY + 2 + AHEAD, RandomStreams(0))
    model = make(name, 3, 1, RandomStreams(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    spent = []
    for _ in range(12):
        begun = time.process_time()
        advance(model, data, optimizer)
        spent.append(time.process_time() - begun)
    return min(spent[2:])


def cost_rows() -> list[dict[str, object]]:
    """Return what a step of training costs beside the plain network's, measured one after the other."""
    plain = cost("mlp")
    return [
        rows.result_row(
            f"worldmodel.attention_cost_{name}",
            f"Processor time of a step of training, 64 sequences, {AHEAD} steps ahead; {_WHAT[name]}",
            1e3 * cost(name),
            unit="ms",
            baseline=1e3 * plain,
            baseline_version="plain network of nearly equal size",
            target="none; a comparison",
            met=None,
            packages=("torch", "atlas-worldmodel", "atlas-topoencoder"),
        )
        for name in ("heads", "forces")
    ]


def trained(task: tuple[str, str, int, int]) -> dict[str, float | str | int]:
    """Train one model and return its errors."""
    name, which, seed, steps = task
    torch.set_num_threads(1)
    random = RandomStreams(seed)
    generate = {"moving": moving, "pendulum": pendulum}[which]
    data, test = generate(400, 80, random), generate(200, 40, RandomStreams(1000 + seed))
    latent, actions = data.points.shape[-1], data.actions.shape[-1]
    model = make(name, latent, actions, random)
    steps *= 10 if name == "mlp longer" else 1
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    window = MEMORY + 2 + AHEAD
    for step in range(steps):
        draw = random.generator("batch", step)
        row, start = draw.integers(0, len(data.points), 64), draw.integers(0, 80 - window, 64)
        frames = start[:, None] + np.arange(window)
        batch = Sequences(data.points[row[:, None], frames], data.actions[row[:, None], frames[:, :-1]])
        advance(model, batch, optimizer)
        plan.step()
    with torch.no_grad():
        near, still = errors(model, test, AHEAD)
        far, far_still = errors(model, test, FAR)
    return {
        "model": name,
        "set": which,
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "one": float(near[:, 0].mean() / still[:, 0].mean()),
        "near": float(near.mean() / still.mean()),
        "far": float(far.mean() / far_still.mean()),
        "moved": float(distance(test.points[:, 1:], test.points[:, :-1]).mean()),
    }


def _pairs() -> list[tuple[str, str]]:
    """Return what is trained on what; what is left out of a model is left out on the pendulum alone."""
    return [(n, w) for n, w in itertools.product(MODELS, SETS) if w == "pendulum" or "without" not in n]


def table(found: list[dict[str, float | str | int]]) -> list[dict[str, object]]:
    """Return a benchmark row for each model of attention, set and horizon."""
    made = []
    for name, which in _pairs():
        if name == "mlp":
            continue
        of, plain = ([r for r in found if (r["model"], r["set"]) == (n, which)] for n in (name, "mlp"))
        for key, steps in (("near", AHEAD), ("far", FAR)):
            values, others = ([float(r[key]) for r in group] for group in (of, plain))
            made.append(
                rows.result_row(
                    f"worldmodel.attention_{which}_{name.replace(' ', '_')}_{steps}",
                    f"Open loop, {which} points that go {of[0]['moved']:.2f} a step: mean distance over "
                    f"{steps} steps over that of 'nothing moves'; {_WHAT[name]}, {of[0]['parameters']} "
                    f"parameters",
                    float(np.mean(values)),
                    sd=float(np.std(values, ddof=1)),
                    n=len(values),
                    unit="1",
                    baseline=float(np.mean(others)),
                    baseline_version=f"plain network, {plain[0]['parameters']} parameters, equal steps, "
                    f"sd {np.std(others, ddof=1):.2g}",
                    target="none; a comparison",
                    met=None,
                    packages=("torch", "atlas-worldmodel", "atlas-topoencoder"),
                )
            )
    return made


def main() -> None:
    """Train all models and write the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20 steps and one seed; nothing is written")
    parser.add_argument("--workers", type=int, default=1, help="processes side by side")
    parser.add_argument("--steps", type=int, default=400, help="of training")
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "worldmodel_attention.json")
    parser.add_argument("--lines", type=Path, help="results so far, a line each, which are not made again")
    chosen = parser.parse_args()
    steps, seeds = (20, SEEDS[:1]) if chosen.quick else (chosen.steps, SEEDS)
    tasks = [(name, which, seed, steps) for name, which in _pairs() for seed in seeds]
    kept = chosen.lines.read_text("utf-8") if chosen.lines and chosen.lines.is_file() else ""
    found = [json.loads(line) for line in kept.splitlines()]
    done = {(one["model"], one["set"], one["seed"]) for one in found}
    with multiprocessing.get_context("spawn").Pool(chosen.workers) as pool:
        for one in pool.imap_unordered(trained, [task for task in tasks if task[:3] not in done]):
            line = json.dumps(one)
            print(line, flush=True)
            if chosen.lines:
                with chosen.lines.open("a", encoding="utf-8") as stream:
                    stream.write(f"{line}\n")
            found.append(one)
    if not chosen.quick:
        rows.write([*table(found), *cost_rows()], chosen.out)


if __name__ == "__main__":
    main()
