"""How well a world learned in an encoder's ball foretells points, and what is decoded of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from atlas_topoencoder.geometry import distance
from atlas_topoencoder.model import TopoEncoder
from attrs import frozen

from atlas_worldmodel.encoded_decoding import decoded
from atlas_worldmodel.encoded_trajectories import Encoded
from atlas_worldmodel.model import WorldModel
from atlas_worldmodel.world_measurement import jackknife

__all__ = ["EncodedError", "encoded_errors"]


@frozen
class EncodedError:
    """Open-loop error at one horizon, over windows of held-out trajectories.

    Attributes:
        horizon: Steps ahead.
        distance: Mean hyperbolic distance of predicted points from the encoder's.
        standard_error: Of it, over trajectories; None where there is only one.
        still: The same of the prediction that nothing moves.
        displaced: The same between the model's paths and those from points 1e-3 of the scatter off: what that
            error of an encoder grows to, by the model's own dynamics.
        decoded: Root of the mean square by which the prediction, decoded by its codes and without texture,
            misses the frame, in standard deviations of the test frames.
        decoded_error: Its standard error, by the jackknife over trajectories.
        floor: The same of what the encoder makes of the frame itself, by its codes: what it loses.
        decoded_still: The same of the point at which the prediction begins.
        windows: How many.
    """

    horizon: int
    distance: float
    standard_error: float | None
    still: float
    displaced: float
    decoded: float
    decoded_error: float | None
    floor: float
    decoded_still: float
    windows: int


@torch.no_grad()
def encoded_errors(
    model: WorldModel,
    encoder: TopoEncoder,
    test: Encoded,
    horizons: Sequence[int],
    generator: torch.Generator,
) -> list[EncodedError]:
    """Return the errors at horizons, over windows of every trajectory.

    Args:
        model: Learned in the encoder's ball.
        encoder: Whose ball it is.
        test: Trajectories that neither has seen, with actions that do not depend on the state.
        horizons: Steps ahead, none longer than the latent trajectories.
        generator: Of the small displacements.
    """
    most = max(horizons)
    latent = test.latent
    windows = torch.from_numpy(latent.windows(most, stride=max(1, most // 5)))
    rows, starts = windows[:, 0], windows[:, 1]
    seen, actions = torch.from_numpy(latent.observations), torch.from_numpy(latent.action_features())
    first, ahead = seen[rows, starts], actions[rows[:, None], starts[:, None] + torch.arange(most)]
    scatter = seen.std((0, 1)).clamp_min(1e-6)
    nearby = first + 1e-3 * scatter * torch.randn(first.shape, generator=generator)
    path, moved = model(first, ahead).states.z, model(nearby, ahead).states.z
    # a latent trajectory begins with the second frame
    before, number = test.points[rows, starts + 1], starts + 1
    spread = test.frames.std((0, 1)).clamp_min(1e-6)
    count = len(latent)

    def missed(decoded: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
        return ((decoded - test.frames[rows, frame]) / spread).square().flatten(1).mean(1)

    found = []
    for h in horizons:
        reached = test.points[rows, number + h]
        off = distance(path[:, h - 1], reached)
        frame = number + h
        squares = missed(decoded(encoder, path[:, h - 1]), frame)
        found.append(
            EncodedError(
                horizon=h,
                distance=float(off.mean()),
                standard_error=_over_trajectories(off, rows, count),
                still=float(distance(before, reached).mean()),
                displaced=float(distance(path[:, h - 1], moved[:, h - 1]).mean()),
                decoded=float(squares.mean().sqrt()),
                decoded_error=jackknife(squares, rows, count),
                floor=float(missed(test.rebuilt[rows, frame], frame).mean().sqrt()),
                decoded_still=float(missed(decoded(encoder, before), frame).mean().sqrt()),
                windows=len(windows),
            )
        )
    return found


def _over_trajectories(values: torch.Tensor, rows: torch.Tensor, count: int) -> float | None:
    """Return the standard error of the mean; trajectories, of equal length, have equally many windows."""
    if count < 2:
        return None
    means = torch.zeros(count, dtype=torch.float64).index_add_(0, rows, values.double()) * count / len(rows)
    return float(means.std()) / math.sqrt(count)
