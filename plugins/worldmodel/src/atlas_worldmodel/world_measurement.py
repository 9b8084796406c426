"""How well a learned world foretells held-out trajectories: open loop, beside what is known of its limits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen

from atlas.errors import BadInput
from atlas_worldmodel.model import Path, WorldModel
from atlas_worldmodel.trajectories import Trajectories

__all__ = ["Error", "errors", "finite_steps", "free_energies", "jackknife", "sample_path"]


@frozen
class Error:
    """Open-loop error at one horizon, in units of the scatter of the test frames.

    Attributes:
        horizon: Steps ahead.
        mean: Root of the mean square over windows and numbers, nRMSE.
        standard_error: Of `mean`, by the jackknife over trajectories; None where there is only one.
        median: Of the windows' own.
        off: nRMSE of the model against itself from states 1e-3 of the scatter off: what that error of
            measurement grows to, by the model's own dynamics.
        still: nRMSE of the prediction that nothing changes.
        reward: Root of the mean squared error of single rewards, in units of their scatter.
        windows: How many.
    """

    horizon: int
    mean: float
    standard_error: float | None
    median: float
    off: float
    still: float
    reward: float
    windows: int


@torch.no_grad()
def errors(
    model: WorldModel, test: Trajectories, horizons: Sequence[int], generator: torch.Generator
) -> list[Error]:
    """Return the errors at horizons, over windows of every trajectory.

    Args:
        model: Trained.
        test: Trajectories that it has not seen, with actions that do not depend on the state.
        horizons: Steps ahead.
        generator: Of the small displacements.

    Raises:
        BadInput: A horizon is longer than the trajectories.
    """
    most = max(horizons)
    if most > test.longest:
        raise BadInput(
            f"an open loop of {most} steps does not fit trajectories of {test.longest}",
            where="horizons",
            fix=f"set horizons of at most {test.longest}",
        )
    seen, actions = torch.from_numpy(test.observations), torch.from_numpy(test.action_features())
    windows = torch.from_numpy(test.windows(most, stride=max(1, most // 5)))
    rows, at = windows[:, 0], windows[:, 1:] + torch.arange(most)
    first, truth = seen[rows, windows[:, 1]], seen[rows[:, None], at + 1]
    ahead, scatter = actions[rows[:, None], at], seen.std((0, 1)).clamp_min(1e-6)
    path = model(first, ahead)
    displaced = model.chart.observation(model.chart.state(first + _noise(first, scatter, generator)))
    moved = model(displaced, ahead).observations
    missed = torch.from_numpy(test.rewards)[rows[:, None], at] - path.rewards
    missed = missed / model.reward_scale

    def squares(found: torch.Tensor, than: torch.Tensor) -> torch.Tensor:
        return ((found - than) / scatter).square().mean(-1)

    error, spread = squares(path.observations, truth), squares(moved, path.observations)
    still = squares(first.unsqueeze(1), truth)
    return [
        Error(
            h,
            float(error[:, h - 1].mean().sqrt()),
            jackknife(error[:, h - 1], rows, len(test)),
            float(error[:, h - 1].sqrt().median()),
            float(spread[:, h - 1].mean().sqrt()),
            float(still[:, h - 1].mean().sqrt()),
            float(missed[:, h - 1].square().mean().sqrt()),
            len(windows),
        )
        for h in horizons
    ]


def _noise(first: torch.Tensor, scatter: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return 1e-3 * scatter * torch.randn(first.shape, generator=generator)


def jackknife(square: torch.Tensor, rows: torch.Tensor, count: int) -> float | None:
    """Return the standard error of the root of the mean, leaving out one trajectory at a time."""
    if count < 2:
        return None
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, rows, square.double())
    sizes = torch.zeros(count, dtype=torch.float64).index_add_(0, rows, torch.ones(len(rows)).double())
    without = ((sums.sum() - sums) / (sizes.sum() - sizes)).sqrt()
    return float(((count - 1) / count * (without - without.mean()).square().sum()).sqrt())


def finite_steps(values: torch.Tensor) -> int:
    """Return the number of first steps at which all of `[N, steps]` are finite."""
    return int(torch.isfinite(values).all(0).long().cumprod(0).sum())


@torch.no_grad()
def free_energies(model: WorldModel, test: Trajectories, steps: int) -> torch.Tensor:
    """Return the model's energy along paths without actions from each trajectory's start, `[N, steps + 1]`.

    In units of the scatter of the starts' energies over the whole data. What friction, a medium and the
    bound on velocities take or give is booked back: the rest is what a step fails to keep.
    """
    first = torch.from_numpy(test.observations[:, 0])
    width = test.action_features().shape[-1]
    path = model(first, torch.zeros(len(first), steps, width))
    kept = path.energies.clone()
    kept[:, 1:] -= path.heat
    everywhere = model.energy(model.begin(torch.from_numpy(test.observations).flatten(0, 1)))
    change: torch.Tensor = (kept - kept[:, :1]) / everywhere.std().clamp_min(1e-12)
    return change


@torch.no_grad()
def sample_path(model: WorldModel, test: Trajectories, row: int, steps: int) -> Path:
    """Return one predicted path along the actions of a trajectory, from its start."""
    first = torch.from_numpy(test.observations[row, 0])[None]
    path: Path = model(first, torch.from_numpy(test.action_features()[row, :steps])[None])
    return path
