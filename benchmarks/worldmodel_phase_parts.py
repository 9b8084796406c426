"""Where the error of phase 2 ten steps ahead comes from: points, first velocity, decoder, world model.

Reads a finished run of `manifests/worldmodel-phases.yaml` and prints, for its held-out trajectories, the
distance of points and the decoded error at each horizon

- of the recorded points themselves, which is the encoder's floor;
- of the exact pendulum, begun at what the last given point decodes to, decoded anew after encoding;
- of the world model, and of the same with the first velocity that is best in hindsight;
- of a plain network trained on the same points from the same frames;
- of the recorded points displaced at random by the world model's distances.

    python benchmarks/worldmodel_phase_parts.py RUN [--steps N]

takes one processor-minute; nothing is written.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.checkpoint import read_checkpoint
from atlas_topoencoder.geometry import distance, expmap0, mobius_add
from atlas_topoencoder.model import TopoEncoder
from atlas_worldmodel.attention import Sizes
from atlas_worldmodel.attention_dynamics import AttentionDynamics
from atlas_worldmodel.joint import LatentSequence
from atlas_worldmodel.phase_state import Parts, parts_of
from atlas_worldmodel.phases import encode_all
from atlas_worldmodel.rollouts import opening, rollout
from atlas_worldmodel.splitting import State
from atlas_worldmodel.trajectory_files import read_trajectories
from worldmodel_attention import MEMORY, PlainWorld

from atlas.randomness import RandomStreams

HORIZONS = (1, 5, 10)
AHEAD = max(HORIZONS)
_CONSTANTS = 15.0, 3.0, 0.05, 8.0
"""Of Pendulum-v1: 3 g / 2 l, 3 / m l^2, the time of a step, the greatest rate."""


def windows(data: LatentSequence, starts: np.ndarray, of: np.ndarray, length: int) -> LatentSequence:
    """Return windows of sequences, one for each start in a trajectory."""
    at, when = of[:, None], starts[:, None] + np.arange(length)
    points, targets, weights, charts = (part[at, when] for part in data[:4])
    return LatentSequence(points, targets, weights, charts, data.centers, data.actions[at, when[:, :-1]])


def pendulum(x: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Return the observations `[..., 3]` a step later, for actions of a greatest size 1."""
    gravity, push, time, greatest = _CONSTANTS
    angle, rate = torch.atan2(x[..., 1], x[..., 0]), x[..., 2]
    rate = (rate + (gravity * angle.sin() + push * 2 * action[..., 0]) * time).clamp(-greatest, greatest)
    angle = angle + rate * time
    return torch.stack((angle.cos(), angle.sin(), rate), -1)


def plain(known: LatentSequence, given: int, radius: float, steps: int) -> PlainWorld:
    """Return a plain network trained on windows of the training trajectories."""
    world = PlainWorld(known.points.shape[-1], known.actions.shape[-1], 128, RandomStreams(1))
    optimizer = torch.optim.Adam(world.parameters(), lr=2e-3)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = np.random.default_rng(0)
    for _ in range(steps):
        starts = draw.integers(0, known.points.shape[1] - given - 7, 128)
        cut = windows(known, starts, draw.integers(0, len(known.points), 128), given + 8)
        begin = opening(cut.targets, cut.actions, MEMORY)
        loss = distance(rollout(world, begin, cut.centers, max_radius=radius), cut.targets[:, given:]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(world.parameters(), 1.0)
        optimizer.step()
        plan.step()
    return world


def best_begun(dynamics: AttentionDynamics, cut: LatentSequence) -> torch.Tensor:
    """Return the points predicted from the first velocities that fit what came best, 60 steps of descent."""
    begin, origin = opening(cut.points, cut.actions, dynamics.memory), torch.zeros_like(cut.centers[0])
    usual = dynamics.world.begin
    with torch.no_grad():
        velocity = usual(begin.state, begin.before, begin.memory, cut.centers, origin).w
    velocity = velocity.clone().requires_grad_()
    optimizer = torch.optim.Adam([velocity], lr=0.05)
    dynamics.world.begin = lambda state, *_: State(state.z, velocity)  # type: ignore[method-assign]
    for _ in range(60):
        points = dynamics(cut, None).points
        optimizer.zero_grad()
        distance(points, cut.targets[:, dynamics.given :]).mean(1).sum().backward()
        optimizer.step()
    dynamics.world.begin = usual  # type: ignore[method-assign]
    return points.detach()


def opened(run: Path) -> tuple[TopoEncoder, AttentionDynamics, Parts, tuple[torch.Tensor, torch.Tensor]]:
    """Return encoder, world model, trajectories, and mean and scatter by which these are whitened."""
    data = read_trajectories(run / "raw/pendulum/trajectories.npz")
    tensors, head = read_checkpoint(run / "raw/world/phase.safetensors")
    architecture, facts = Architecture(**head["architecture"]), head["facts"]
    model = TopoEncoder(architecture, RandomStreams(0))
    dynamics = AttentionDynamics(
        architecture.charts,
        Sizes(**facts["sizes"]),
        memory=facts["memory"],
        max_radius=architecture.max_radius,
        random=RandomStreams(0),
    )
    for prefix, module in (("model.", model), ("world.", dynamics)):
        module.load_state_dict(
            {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        )
    known, _ = data.split(0.2, RandomStreams(int(data.digest[:15], 16)).generator("split"))
    seen = torch.from_numpy(known.observations).flatten(0, 1)
    model.eval().requires_grad_(False)
    return model, dynamics.requires_grad_(False), parts_of(data), (seen.mean(0), seen.std(0))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--steps", type=int, default=4000, help="of the plain network")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model, dynamics, parts, (mean, scatter) = opened(chosen.run)
    given, radius, count = dynamics.given, model.architecture.max_radius, len(parts.test.x)
    starts = np.arange(0, parts.test.x.shape[1] - given - AHEAD + 1, given + AHEAD)
    of, starts = np.repeat(np.arange(count), len(starts)), np.tile(starts, count)
    cut = windows(encode_all(model, parts.test), starts, of, given + AHEAD)
    seen = parts.test.x[of[:, None], starts[:, None] + np.arange(given + AHEAD)]
    target, scale = cut.targets[:, given:], parts.test.x.std(dim=(0, 1))

    def show(name: str, points: torch.Tensor) -> None:
        """Print means over trajectories with their standard errors."""
        said = []
        for k in HORIZONS:
            apart = distance(points[:, k - 1], target[:, k - 1])
            missed = (model.decode(points[:, k - 1]).base - seen[:, given - 1 + k]) / scale
            far, square = (v.double().view(count, -1).mean(1) for v in (apart, missed.square().mean(-1)))
            root, error = math.sqrt(square.mean()), square.std() / math.sqrt(count)
            said.append(f"{far.mean():.2f} ± {far.std() / math.sqrt(count):.2f}  ")
            said.append(f"{root:.3f} ± {error / (2 * root):.3f}")
        print(f"{name:24}", *said, sep="   ")

    print(f"{'':24}", *(f"distance {k:2}       decoded {k:2}   " for k in HORIZONS), sep="   ")
    show("recorded", target)
    x, exact = model.decode(cut.targets[:, given - 1]).base * scatter + mean, []
    for k in range(AHEAD):
        x = pendulum(x, cut.actions[:, given - 1 + k])
        exact.append(model.encode((x - mean) / scatter).z_geo)
    show("exact pendulum", torch.stack(exact, 1))
    predicted = dynamics(cut, None).points
    show("world model", predicted)
    show("best first velocity", best_begun(dynamics, cut))
    world = plain(encode_all(model, parts.train), given, radius, chosen.steps)
    with torch.no_grad():
        begin = opening(cut.targets, cut.actions, MEMORY)
        show("plain network", rollout(world, begin, cut.centers, max_radius=radius))
    way = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    length = distance(predicted, target).unsqueeze(-1) / 2
    show("displaced at random", mobius_add(target, expmap0(way / way.norm(dim=-1, keepdim=True) * length)))


if __name__ == "__main__":
    main()
