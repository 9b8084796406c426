"""The instrument `collect`: writes a file of trajectories, with their generator, seed and digest."""

from __future__ import annotations

import math

import numpy as np

from atlas.contracts import StepContext
from atlas.quantities import Quantity, UncertaintyKind
from atlas_worldmodel.collection import Law, collect
from atlas_worldmodel.environments import open_environment
from atlas_worldmodel.trajectory_files import encode_npz, encode_parquet

__all__ = ["run"]


def run(context: StepContext) -> None:
    """Collect and write.

    Raises:
        BadInput: Environment, law or length cannot be meant, or a package is missing.
        InstrumentFailed: The environment raised.
    """
    params = context.params
    environment = open_environment(params["environment"], params["action_repeat"])
    total = params["transitions"]

    def progress(done: int) -> None:
        context.progress("transitions", done=min(done, total), total=total)

    data = collect(
        environment,
        transitions=total,
        steps=params.get("steps"),
        law=Law(**params["law"]),
        random=context.random,
        progress=progress,
    )
    encode = {"npz": encode_npz, "parquet": encode_parquet}[params["kind"]]
    context.attach(f"trajectories.{params['kind']}", encode(data))
    context.fact("environment", data.environment)
    context.fact("generator", data.generator)
    context.fact("seed", str(data.seed))
    context.fact("digest", data.digest)
    context.fact("action_repeat", str(params["action_repeat"]))
    returns = data.rewards.sum(1, dtype=np.float64)
    context.table(
        "episodes",
        [
            {
                "trajectory": row,
                "transitions": int(data.lengths[row]),
                "return": float(returns[row]),
                "terminated": bool(data.terminated[row]),
                "truncated": bool(data.truncated[row]),
            }
            for row in range(len(data))
        ],
    )
    context.record(Quantity("transitions", float(data.transitions), 0.0, UncertaintyKind.EXACT))
    context.record(mean_quantity("blind_return", returns, "trajectories"))


def mean_quantity(name: str, values: np.ndarray, over: str) -> Quantity:
    """Return a mean with its standard error; of one value, uncertified."""
    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return Quantity(
            name, mean, None, UncertaintyKind.UNCERTIFIED, num_samples=count, note=f"of one of the {over}"
        )
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    note = f"error of the mean over {over}"
    return Quantity(name, mean, error, UncertaintyKind.STANDARD_ERROR, num_samples=count, note=note)
