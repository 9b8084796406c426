"""Jumps between charts, off against on, where points do jump.

Points turn about the centre of one of two charts, pushed by actions; whoever comes out on one side is carried
to the other chart by the isometry of a jump operator, which the models know. Where a jump comes is for them
to learn. Both models are `AttentionDynamics` of the same initial weights.

    python benchmarks/worldmodel_jumps.py [--quick] [--lines FILE]

takes three processor-minutes; with `--lines` an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import rows
import torch
from atlas_topoencoder.geometry import distance, expmap0, logmap0, mobius_add
from atlas_topoencoder.jump import FactorizedJumpOperator
from atlas_worldmodel.attention import Sizes
from atlas_worldmodel.attention_dynamics import AttentionDynamics, Jumping
from atlas_worldmodel.joint import LatentSequence
from atlas_worldmodel.jumps import ChartFrames, carry
from atlas_worldmodel.phase_terms import PHASE_SLOT, PHASE_TERMS, PhaseOutputs
from atlas_worldmodel.splitting import State

from atlas.objective import Objective
from atlas.randomness import RandomStreams

SEEDS = (0, 1, 2)
LENGTH, MEMORY, AHEAD = 60, 1, 4
EDGE = 0.25


def frames() -> ChartFrames:
    """Return two charts, and a jump operator with a turn between them."""
    operator = FactorizedJumpOperator(2, 3)
    with torch.no_grad():
        operator.generators[1, 0, 1] = 2.6  # a turn by 2.4, so that whoever lands is far from the edge
    centers = math.tanh(0.5) * torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    return ChartFrames.constant(operator, centers)


def sequences(count: int, random: RandomStreams) -> tuple[LatentSequence, torch.Tensor]:
    """Return sequences of points, and whether each frame was reached by a jump, `[N, T]`."""
    known, draw = frames(), random.generator("jumping")
    turn = torch.eye(3)
    turn[:2, :2] = torch.tensor([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]])
    actions = torch.tensor(draw.uniform(-1, 1, (count, LENGTH - 1, 3)), dtype=torch.float32)
    chart = torch.tensor(draw.integers(0, 2, count))
    u = torch.tensor(0.2 * draw.standard_normal((count, 3)), dtype=torch.float32)
    points, charts, jumped = [], [], [torch.zeros(count, dtype=torch.bool)]
    for step in range(LENGTH):
        points.append(mobius_add(known.centers[chart], expmap0(u)))
        charts.append(chart)
        if step == LENGTH - 1:
            break
        u = 0.98 * u @ turn.mT + 0.08 * actions[:, step]
        z = mobius_add(known.centers[chart], expmap0(u))
        leaves = u[:, 0] > EDGE
        landed = carry(known, State(z, torch.zeros_like(z)), chart, 1 - chart).z
        chart = torch.where(leaves, 1 - chart, chart)
        z = torch.where(leaves.unsqueeze(-1), landed, z)
        u = logmap0(mobius_add(-known.centers[chart], z))
        jumped.append(leaves)
    z, k = torch.stack(points, 1), torch.stack(charts, 1)
    weights = torch.nn.functional.one_hot(k, 2).float()
    return LatentSequence(z, z, weights, k, known.centers, actions), torch.stack(jumped, 1)


def cut(data: LatentSequence, rows_of: np.ndarray, starts: np.ndarray, length: int) -> LatentSequence:
    """Return windows of sequences."""
    at, when = rows_of[:, None], starts[:, None] + np.arange(length)
    points, targets, weights, charts = (part[at, when] for part in data[:4])
    return LatentSequence(points, targets, weights, charts, data.centers, data.actions[at, when[:, :-1]])


def trained(kind: str, seed: int, steps: int) -> dict[str, float | str | int]:
    """Train one model and return its errors, and how often it jumps where a jump came and where none did."""
    torch.set_num_threads(1)
    random = RandomStreams(seed)
    data, _ = sequences(400, random)
    held, jumped = sequences(300, RandomStreams(1000 + seed))
    sizes = Sizes(latent=3, site_vectors=1, site_scalars=3, token_vectors=3, token_scalars=4, hidden=48)
    model = AttentionDynamics(2, sizes, memory=MEMORY, max_radius=6.0, random=random)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    length = model.given + AHEAD
    for step in range(steps):
        draw = random.generator("batch", step)
        window = cut(data, draw.integers(0, 400, 64), draw.integers(0, LENGTH - length + 1, 64), length)
        noise = torch.Generator().manual_seed(int(random.generator("jumps", step).integers(2**62)))
        path = model(window, Jumping(frames(), noise) if kind == "on" else None)
        loss = Objective(PHASE_TERMS.values())({PHASE_SLOT: PhaseOutputs(model, window, path)}).total
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        plan.step()
    starts = np.full(300, 20)
    window = cut(held, np.arange(300), starts, length)
    with torch.no_grad():
        path = model(window, Jumping(frames(), None) if kind == "on" else None)
    target, last = window.targets[:, model.given :], window.targets[:, model.given - 1 : model.given]
    came = jumped[:, 20 + model.given : 20 + length]
    first = (path.shares[:, 0] > 0.5).float()
    return {
        "kind": kind,
        "seed": seed,
        "error": float(distance(path.points, target).mean() / distance(last, target).mean()),
        "error at jumps": float(distance(path.points[:, 0], target[:, 0])[came[:, 0]].mean()),
        "error elsewhere": float(distance(path.points[:, 0], target[:, 0])[~came[:, 0]].mean()),
        "rate at jumps": float(path.rates[:, 0][came[:, 0]].mean()),
        "rate elsewhere": float(path.rates[:, 0][~came[:, 0]].mean()),
        "jumps found": float(first[came[:, 0]].mean()),
        "jumps invented": float(first[~came[:, 0]].mean()),
        "share of jumps": float(jumped[:, 1:].float().mean()),
    }


WHAT = {
    "error": f"mean distance over {AHEAD} steps over that of 'nothing moves'",
    "error at jumps": "distance one step ahead, where a jump came",
    "error elsewhere": "distance one step ahead, where none came",
    "jumps found": "share of the jumps one step ahead that the model makes",
    "jumps invented": "share of the other steps where it jumps",
}


def table(found: list[dict[str, float | str | int]]) -> list[dict[str, object]]:
    """Return a benchmark row for each measure."""
    on, off = ([one for one in found if one["kind"] == kind] for kind in ("on", "off"))
    made = []
    for key, what in WHAT.items():
        values, others = ([float(one[key]) for one in group] for group in (on, off))
        made.append(
            rows.result_row(
                f"worldmodel.jumps_{key.replace(' ', '_')}",
                f"Points of two charts, {float(on[0]['share of jumps']):.1%} of whose steps are jumps, model "
                f"with jumps: {what}",
                float(np.mean(values)),
                sd=float(np.std(values, ddof=1)),
                n=len(values),
                unit="1",
                baseline=float(np.mean(others)),
                baseline_version=f"the same without jumps, sd {np.std(others, ddof=1):.2g}",
                target="none; a comparison",
                met=None,
                packages=("torch", "atlas-worldmodel", "atlas-topoencoder"),
            )
        )
    return made


def main() -> None:
    """Train both models and write the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20 steps and one seed; nothing is written")
    parser.add_argument("--lines", type=Path, help="results so far, a line each, which are not made again")
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "worldmodel_jumps.json")
    chosen = parser.parse_args()
    steps, seeds = (20, SEEDS[:1]) if chosen.quick else (400, SEEDS)
    cases = [{"kind": kind, "seed": seed, "steps": steps} for seed in seeds for kind in ("on", "off")]
    found = rows.line_by_line(trained, cases, chosen.lines)
    if not chosen.quick:
        rows.write(table(found), chosen.out)


if __name__ == "__main__":
    main()
