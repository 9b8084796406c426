"""A mechanical world in the ball: points that are known, and a pendulum through a trained encoder.

    python benchmarks/worldmodel_encoded.py measure PART [--seed N ...]
    python benchmarks/worldmodel_encoded.py rows

PART is `moving`, the generated points of worldmodel_attention.py that move .4 a step, learned without an
encoder and judged as there; or `pendulum`, manifests/worldmodel-encoded.yaml run with that seed. Beside each,
on the same points and windows for as many steps: the world without a medium, and a plain network. `measure`
keeps what came out below results/worldmodel_encoded/, a file a seed, and takes two to four minutes a seed;
`rows` writes the result rows from these files.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from atlas_topoencoder.geometry import distance, expmap0, mobius_add, project
from atlas_worldmodel.encoded_measurement import encoded_errors
from atlas_worldmodel.encoded_trajectories import (
    ball_chart,
    latent_trajectories,
    open_encoder,
)
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.model import Path as Predicted
from atlas_worldmodel.model import WorldModel
from atlas_worldmodel.observation_chart import normal_coordinates
from atlas_worldmodel.rollouts import arrival
from atlas_worldmodel.spaces import Box
from atlas_worldmodel.splitting import State
from atlas_worldmodel.trajectories import Trajectories
from atlas_worldmodel.trajectory_files import read_trajectories
from atlas_worldmodel.world_terms import WORLD_TERMS
from atlas_worldmodel.world_training import Schedule, WorldFit, model_on
from attrs import asdict
from rows import RESULTS, result_row, write
from torch import nn
from worldmodel_attention import AHEAD, FAR, MEMORY, Sequences, moving

from atlas.objective import Objective
from atlas.randomness import RandomStreams
from atlas.record import open_record

ROOT = Path(__file__).resolve().parent.parent
KEPT = RESULTS / "worldmodel_encoded"
PACKAGES = ("torch", "atlas-worldmodel", "atlas-topoencoder", "gymnasium")


def recorded(sequences: Sequences) -> Trajectories:
    """Return sequences as trajectories; frames are the points themselves."""
    count, steps = sequences.actions.shape[:2]
    bound = float(sequences.actions.abs().max())
    return latent_trajectories(
        sequences.points,
        Trajectories(
            observations=sequences.points.numpy(),
            actions=sequences.actions.numpy(),
            rewards=np.zeros((count, steps), np.float32),
            lengths=np.full(count, steps),
            terminated=np.zeros(count, bool),
            truncated=np.ones(count, bool),
            action_space=Box([-bound] * 2, [bound] * 2),
            environment="moving points",
            generator="uniform",
            seed=0,
        ),
    )


class PlainWorld(WorldModel):
    """A network in place of forces and step: where the next point lies, from point, velocity and actions."""

    def __init__(self, like: WorldModel, actions: int, random: RandomStreams) -> None:
        sizes = FieldSizes(1, 0)
        super().__init__(like.chart, actions, sizes, speed=None, unit=float(like.fields.unit), random=random)
        self.velocity_scale.copy_(like.velocity_scale)
        dimension = like.chart.dimension
        widths = (2 * dimension + actions, _PLAIN, _PLAIN, _PLAIN, dimension)
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
        for number, layer in enumerate(layers):
            drawn = random.generator("plain", number).standard_normal(tuple(layer.weight.shape))
            layer.weight.data.copy_(torch.from_numpy(drawn / math.sqrt(layer.in_features)))
            layer.bias.data.zero_()
        layers[-1].weight.data.mul_(0.1)
        parts = [part for layer in layers[:-1] for part in (layer, nn.SiLU())]
        self.network = nn.Sequential(*parts, layers[-1])

    def forward(self, observation: torch.Tensor, actions: torch.Tensor) -> Predicted:
        """Return the path; it has neither forces nor rewards."""
        state, passed, seen = self.chart.state(observation), [], []
        for action in actions.unbind(1):
            u, _ = normal_coordinates(state)
            step = self.velocity_scale * self.network(
                torch.cat((u, state.w / self.velocity_scale, action), -1)
            )
            state = arrival(state.z, project(mobius_add(state.z, expmap0(step / 2)), 6.0))
            passed.append(state)
            seen.append(self.chart.observation(state))
        z, w = (torch.stack(part, 1) for part in zip(*passed, strict=True))
        zero = torch.zeros_like(z[..., 0])
        return Predicted(State(z, w), torch.zeros_like(z), torch.stack(seen, 1), zero, zero, zero, zero)


_PLAIN = 160
"""Width of the plain network: nearly as many parameters as the world in a medium has."""


def trained(
    name: str, known: Trajectories, schedule: Schedule, random: RandomStreams, sizes: Mapping[str, int]
) -> WorldModel:
    """Return a world of that name, trained on points without rewards."""
    model = model_on(
        ball_chart(known),
        known,
        FieldSizes(sizes["hidden"], sizes["field"]),
        bound_speed=False,
        stream=sizes["stream"] if name == "medium" else 0,
        random=random,
    )
    if name == "plain":
        model = PlainWorld(model, known.action_features().shape[-1], random)
    fit = WorldFit(model, known, Objective(WORLD_TERMS.values(), {"world-reward": 0.0}), schedule, random)
    while fit.step < schedule.steps:
        fit.advance()
    return model.eval()


def measure_moving(seed: int) -> dict[str, Any]:
    """Train on known points and return errors as parts of those of "nothing moves", by model."""
    random = RandomStreams(seed)
    known, test = recorded(moving(400, 80, random)), moving(200, 40, RandomStreams(1000 + seed))
    schedule = Schedule(steps=1500, batch_size=64, horizon=AHEAD, learning_rate=5e-3)
    seen, begin = recorded(test), MEMORY + 1
    first = torch.from_numpy(seen.observations[:, begin - 1])
    actions = torch.from_numpy(seen.actions[:, begin - 1 : begin - 1 + FAR])
    target, start = test.points[:, begin + 1 : begin + 1 + FAR], test.points[:, begin : begin + 1]
    still = distance(start, target)
    found: dict[str, Any] = {"moved": float(distance(test.points[:, 1:], test.points[:, :-1]).mean())}
    for name in MODELS:
        model = trained(name, known, schedule, random, {"hidden": 64, "field": 32, "stream": 128})
        with torch.no_grad():
            off = distance(model(first, actions).states.z, target)
        found[name] = {
            "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "near": float(off[:, :AHEAD].mean() / still[:, :AHEAD].mean()),
            "far": float(off.mean() / still.mean()),
        }
    return found


def measure_pendulum(seed: int) -> dict[str, Any]:
    """Run the manifest and return its table of errors, by horizon, and those of the other models."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = ROOT / "manifests" / "worldmodel-encoded.yaml"
        command = [sys.executable, "-c", "from atlas.cli import main; main()", "run", str(manifest)]
        subprocess.run([*command, "--set", f"seed={seed}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (run,) = (path.parent for path in Path(folder).glob("runs/*/report.html"))
        view = open_record(run)
        found = {"medium": {str(row["horizon"]): row for row in view.tables("world")["encoded"]}}
        params = next(step["params"] for step in view.manifest["steps"] if step["id"] == "world")
        data = read_trajectories(run / "raw" / "pendulum" / "trajectories.npz")
        encoder = open_encoder(run / "raw" / "atlas" / "phase.safetensors", data, where=str(run))
    known, held = data.split(0.2, RandomStreams(int(data.digest[:15], 16)).generator("split"))
    latent, test = encoder.encode(encoder.parts.train, known).latent, encoder.encode(encoder.parts.test, held)
    for name in list(MODELS)[1:]:
        random = RandomStreams(seed)
        model = trained(name, latent, Schedule(**params["schedule"]), random, params["model"])
        draws = torch.Generator().manual_seed(seed)
        errors = encoded_errors(model, encoder.model, test, params["horizons"], draws)
        found[name] = {str(error.horizon): asdict(error) for error in errors}
    return found


PARTS = {"moving": measure_moving, "pendulum": measure_pendulum}
MODELS = {"medium": "", "forces": ", no medium", "plain": ", plain network"}
"""What stands beside what: by the name in the files, what it is called in a row."""


def kept(part: str) -> list[dict[str, Any]]:
    """Return what was kept of a part, a file a seed."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(KEPT.glob(f"{part}-*.json"))]


def _row(
    name: str, what: str, values: Sequence[float], target: str, met: bool | None, **beside: Any
) -> Mapping[str, Any]:
    return result_row(
        f"worldmodel.{name}",
        what,
        statistics.mean(values),
        sd=statistics.stdev(values) if len(values) > 1 else None,
        n=len(values),
        unit="1",
        target=target,
        met=met,
        packages=PACKAGES,
        **beside,
    )


def _moving_rows(found: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of known points, that of the medium's world beside the plain network's."""
    for (key, steps), name in itertools.product((("near", AHEAD), ("far", FAR)), MODELS):
        values, plain = ([one[which][key] for one in found] for which in (name, "plain"))
        judged = name == "medium" and key == "near"
        yield _row(
            f"encoded_moving_{steps}" + (f"_{name}" if MODELS[name] else ""),
            f"Open loop in the ball{MODELS[name]}, points that go {found[0]['moved']:.2f} a step: mean "
            f"distance over {steps} steps over that of 'nothing moves'; {found[0][name]['parameters']} "
            "parameters, 1500 steps of training",
            values,
            "<= 0.2, ambition 0.077" if judged else "none; a comparison",
            statistics.mean(values) <= 0.2 if judged else None,
            baseline=statistics.mean(plain),
            baseline_version="a plain network on the same points and windows",
        )


def _pendulum_rows(found: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of the pendulum, each beside the encoder's own error."""
    for horizon, name in itertools.product(("1", "5", "10", "50"), MODELS):
        own = [one[name][horizon] for one in found]
        values, floor = [row["decoded"] for row in own], statistics.mean(row["floor"] for row in own)
        judged = name == "medium" and horizon == "10"
        far, still, copied = (
            statistics.mean(row[key] for row in own) for key in ("distance", "still", "decoded_still")
        )
        yield _row(
            f"encoded_pendulum_{horizon}" + (f"_{name}" if MODELS[name] else ""),
            f"Pendulum through an encoder{MODELS[name]}, {horizon} ahead: error of frames decoded without "
            f"texture, in their scatters; {copied:.2g} if nothing moves; points are {far:.2g} off where they "
            f"move {still:.2g}",
            values,
            "<= 1.5 times the encoder's own" if judged else "none; printed beside the floor",
            statistics.mean(values) <= 1.5 * floor if judged else None,
            baseline=floor,
            baseline_version="what the encoder makes of the frames themselves",
        )


def rows() -> list[Mapping[str, Any]]:
    """Return the rows of what was kept."""
    moved, swung = kept("moving"), kept("pendulum")
    return [*(_moving_rows(moved) if moved else ()), *(_pendulum_rows(swung) if swung else ())]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("action", choices=["measure", "rows"])
    parser.add_argument("part", nargs="?", choices=list(PARTS))
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    if given.action == "rows":
        write(rows(), RESULTS / "worldmodel_encoded.json")
        return
    torch.set_num_threads(1)
    KEPT.mkdir(parents=True, exist_ok=True)
    for seed in given.seed:
        found = PARTS[given.part](seed)
        (KEPT / f"{given.part}-{seed}.json").write_text(json.dumps(found) + "\n", "utf-8")
        print(given.part, seed, found, flush=True)


if __name__ == "__main__":
    main()
