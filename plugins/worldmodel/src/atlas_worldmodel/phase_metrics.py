"""What the atlas and the world model are worth after a phase, on trajectories that were held out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from atlas_topoencoder.geometry import distance
from attrs import frozen

from atlas_worldmodel.attention_dynamics import AttentionDynamics, Jumping
from atlas_worldmodel.joint import LatentSequence
from atlas_worldmodel.jumps import ChartFrames
from atlas_worldmodel.phases import Frames, encode_all

if TYPE_CHECKING:
    from atlas_topoencoder.model import TopoEncoder

__all__ = ["HORIZONS", "Measure", "measure_atlas", "measure_drift", "measure_world"]

HORIZONS = (1, 5, 10)


@frozen
class Measure:
    """A metric: mean over held-out trajectories with its standard error over them, None for one alone."""

    name: str
    value: float
    standard_error: float | None
    num_samples: int


def _over(name: str, of_each: torch.Tensor) -> Measure:
    """Return the mean of a number a trajectory, `[N]`."""
    values, count = of_each.double(), len(of_each)
    error = float(values.std()) / math.sqrt(count) if count > 1 else None
    return Measure(name, float(values.mean()), error, count)


@torch.no_grad()
def measure_atlas(model: TopoEncoder, frames: Frames) -> list[Measure]:
    """Return what the atlas makes of frames and of their order.

    Reconstruction is by all parts, in parts of the variance of the data; `churn` is the share of steps at
    which the symbol changes; perplexities are exponentials of the entropy of the use.
    """
    count, length = frames.x.shape[:2]
    encoding = model.encode(frames.x.flatten(0, 1))
    decoded = model.decode(encoding.z_geo, encoding.z_tex)
    variance = frames.x.var(dim=(0, 1)).mean()

    def of(values: torch.Tensor) -> torch.Tensor:
        return torch.unflatten(values, 0, (count, length))

    missed = (of(decoded.reconstruction) - frames.x).square().flatten(1).mean(1) / variance
    plain = (of(decoded.base) - frames.x).square().flatten(1).mean(1) / variance
    z, symbol, chart = of(encoding.z_geo), of(encoding.symbol), of(encoding.chart)
    architecture = model.architecture
    return [
        _over("reconstruction", missed),
        _over("reconstruction without texture", plain),
        _over("step length", distance(z[:, 1:], z[:, :-1]).mean(1)),
        _over("churn of symbols", (symbol[:, 1:] != symbol[:, :-1]).double().mean(1)),
        _over("churn of charts", (chart[:, 1:] != chart[:, :-1]).double().mean(1)),
        _perplexity("chart perplexity", chart, architecture.charts),
        _perplexity("symbol perplexity", symbol, architecture.charts * architecture.codes),
    ]


def _perplexity(name: str, used: torch.Tensor, kinds: int) -> Measure:
    """Return `exp H` of the use, with its jackknife error over trajectories."""
    counts = torch.stack([torch.bincount(row, minlength=kinds) for row in used]).double()
    number = len(counts)

    def perplexity(total: torch.Tensor) -> torch.Tensor:
        share = total / total.sum(-1, keepdim=True)
        entropy: torch.Tensor = torch.special.entr(share).sum(-1)
        return entropy.exp()

    whole = counts.sum(0)
    if number == 1:
        return Measure(name, float(perplexity(whole)), None, number)
    without = perplexity(whole - counts)
    error = ((number - 1) / number * (without - without.mean()).square().sum()).sqrt()
    return Measure(name, float(perplexity(whole)), float(error), number)


@torch.no_grad()
def measure_world(
    model: TopoEncoder, dynamics: AttentionDynamics, frames: Frames, *, jumps: bool
) -> list[Measure]:
    """Return open-loop errors at each horizon, beside those of the prediction that nothing moves.

    Each trajectory is cut into windows that do not overlap. Points are compared by hyperbolic distance, and
    decoded without texture in root mean squares of the data's standard deviation; 0 ahead is the frame's own
    point, the floor that the encoder sets. A jump is made where it is likelier than none.
    """
    latents = _windows(encode_all(model, frames), dynamics.given + max(HORIZONS))
    observed = _cut(frames.x, dynamics.given + max(HORIZONS))
    jumping = Jumping(ChartFrames.constant(model.jump, latents.centers), None) if jumps else None
    path = dynamics(latents, jumping)
    targets, last = latents.targets[:, dynamics.given :], latents.targets[:, dynamics.given - 1]
    trajectories, scale = len(frames.x), frames.x.std(dim=(0, 1)).clamp_min(1e-6)

    def missed(points: torch.Tensor, at: int) -> torch.Tensor:
        seen = observed[:, dynamics.given + at]
        return _each(((model.decode(points).base - seen) / scale).square().mean(-1), trajectories)

    found = [_root("decoded error, 0 ahead", missed(targets[:, 0], 0))]
    for horizon in HORIZONS:
        at = horizon - 1
        right = path.logits[:, at].argmax(-1) == latents.charts[:, dynamics.given + at]
        for name, values in (
            ("distance", distance(path.points[:, at], targets[:, at])),
            ("distance if nothing moves", distance(last, targets[:, at])),
            ("chart foretold", right.double()),
            ("chart foretold if nothing moves", _same_chart(latents, dynamics.given, at)),
        ):
            found.append(_over(f"{name}, {horizon} ahead", _each(values, trajectories)))
        found.append(_root(f"decoded error, {horizon} ahead", missed(path.points[:, at], at)))
    found.append(_over("jump rate", _each(path.rates.mean(1), trajectories)))
    return found


def _same_chart(latents: LatentSequence, given: int, at: int) -> torch.Tensor:
    return (latents.charts[:, given - 1] == latents.charts[:, given + at]).double()


def _each(values: torch.Tensor, trajectories: int) -> torch.Tensor:
    """Return the mean over each trajectory's windows, `[N]`."""
    return values.double().view(trajectories, -1).mean(1)


def _root(name: str, squares: torch.Tensor) -> Measure:
    """Return the root of a mean square, its error by the delta method."""
    square = _over(name, squares)
    root = math.sqrt(square.value)
    error = None if square.standard_error is None else square.standard_error / (2 * max(root, 1e-30))
    return Measure(name, root, error, square.num_samples)


def _cut(values: torch.Tensor, length: int) -> torch.Tensor:
    """Return `[N, T, ...]` as windows `[N * (T // length), length, ...]`, the rest left out."""
    number = values.shape[1] // length
    return values[:, : number * length].reshape(-1, length, *values.shape[2:])


def _windows(latents: LatentSequence, length: int) -> LatentSequence:
    padded = torch.cat((latents.actions, torch.zeros_like(latents.actions[:, :1])), 1)
    points, targets, weights, charts = (_cut(part, length) for part in latents[:4])
    return LatentSequence(points, targets, weights, charts, latents.centers, _cut(padded, length)[:, :-1])


@torch.no_grad()
def measure_drift(before: TopoEncoder, after: TopoEncoder, frames: Frames) -> list[Measure]:
    """Return how far the joint phase moved the latent points, and whether charts stayed."""
    one, other = encode_all(before, frames), encode_all(after, frames)
    return [
        _over("drift of points", distance(one.targets, other.targets).mean(1)),
        _over("charts kept", (one.charts == other.charts).double().mean(1)),
    ]
