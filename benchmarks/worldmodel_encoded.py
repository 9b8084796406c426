"""A mechanical world in the ball: points that are known, and a pendulum through a trained encoder.

    python benchmarks/worldmodel_encoded.py measure PART [--seed N ...]
    python benchmarks/worldmodel_encoded.py rows

PART is `moving`, the generated points of worldmodel_attention.py that move .4 a step, learned without an
encoder and judged as there; or `pendulum`, manifests/worldmodel-encoded.yaml run with that seed. `measure`
keeps what came out below results/worldmodel_encoded/, a file a seed, and takes one to three minutes a seed;
`rows` writes the result rows from these files.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from atlas_topoencoder.geometry import distance
from atlas_worldmodel.encoded_trajectories import ball_chart, latent_trajectories
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.spaces import Box
from atlas_worldmodel.trajectories import Trajectories
from atlas_worldmodel.world_terms import WORLD_TERMS
from atlas_worldmodel.world_training import Schedule, WorldFit, model_on
from rows import RESULTS, result_row, write
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


def measure_moving(seed: int) -> dict[str, Any]:
    """Train on known points and return errors as parts of those of "nothing moves"."""
    random = RandomStreams(seed)
    known = recorded(moving(400, 80, random))
    model = model_on(ball_chart(known), known, FieldSizes(64, 32), bound_speed=False, random=random)
    schedule = Schedule(steps=1500, batch_size=64, horizon=AHEAD, learning_rate=5e-3)
    fit = WorldFit(model, known, Objective(WORLD_TERMS.values(), {"world-reward": 0.0}), schedule, random)
    while fit.step < schedule.steps:
        fit.advance()
    test = moving(200, 40, RandomStreams(1000 + seed))
    seen, begin = recorded(test), MEMORY + 1
    first = torch.from_numpy(seen.observations[:, begin - 1])
    actions = torch.from_numpy(seen.actions[:, begin - 1 : begin - 1 + FAR])
    with torch.no_grad():
        path = model.eval()(first, actions).states.z
        target, start = test.points[:, begin + 1 : begin + 1 + FAR], test.points[:, begin : begin + 1]
        off, still = distance(path, target), distance(start, target)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "moved": float(distance(test.points[:, 1:], test.points[:, :-1]).mean()),
        "near": float(off[:, :AHEAD].mean() / still[:, :AHEAD].mean()),
        "far": float(off.mean() / still.mean()),
    }


def measure_pendulum(seed: int) -> dict[str, Any]:
    """Run the manifest and return its table of errors, by horizon."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = ROOT / "manifests" / "worldmodel-encoded.yaml"
        command = [sys.executable, "-c", "from atlas.cli import main; main()", "run", str(manifest)]
        subprocess.run([*command, "--set", f"seed={seed}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (run,) = (path.parent for path in Path(folder).glob("runs/*/report.html"))
        return {str(row["horizon"]): row for row in open_record(run).tables("world")["encoded"]}


PARTS = {"moving": measure_moving, "pendulum": measure_pendulum}


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


def rows() -> list[Mapping[str, Any]]:
    """Return the rows of what was kept."""
    made = []
    found = kept("moving")
    for key, steps in (("near", AHEAD), ("far", FAR)) if found else ():
        values = [one[key] for one in found]
        made.append(
            _row(
                f"encoded_moving_{steps}",
                "Open loop of a mechanical world in the ball, points that go "
                f"{found[0]['moved']:.2f} a step: mean distance over {steps} steps over that "
                f"of 'nothing moves'; {found[0]['parameters']} parameters, 1500 steps of training",
                values,
                "<= 0.2, ambition 0.077" if key == "near" else "none; a comparison",
                statistics.mean(values) <= 0.2 if key == "near" else None,
            )
        )
    found = kept("pendulum")
    for horizon in ("1", "5", "10", "50") if found else ():
        own = [one[horizon] for one in found]
        values, floor = [row["decoded"] for row in own], statistics.mean(row["floor"] for row in own)
        far, still = (statistics.mean(row[name] for row in own) for name in ("distance", "still"))
        made.append(
            _row(
                f"encoded_pendulum_{horizon}",
                f"Pendulum through an encoder, {horizon} ahead: error of frames decoded without texture, in "
                f"their scatters; points are {far:.2g} off where they move {still:.2g}",
                values,
                "<= 1.5 times the encoder's own" if horizon == "10" else "none; printed beside the floor",
                statistics.mean(values) <= 1.5 * floor if horizon == "10" else None,
                baseline=floor,
                baseline_version="what the encoder makes of the frames themselves",
            )
        )
    return made


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
