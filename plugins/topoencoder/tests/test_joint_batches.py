"""One training on several processes, which are real ones: `torchrun` starts this file as their program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from atlas_topoencoder.data import Dataset, split
from atlas_topoencoder.devices import open_device
from atlas_topoencoder.instrument import objective_of, training_of
from atlas_topoencoder.losses.terms import TERMS
from atlas_topoencoder.training import Training

from atlas.errors import BadInput
from atlas.randomness import RandomStreams

ELSEWHERE = {"slowness", "enclosure", "equivariance-mixing", "equivariance-ratio"}
"""Terms that need sequences or the learned metric."""
SCHEDULE = {
    "steps": 20,
    "batch_size": 24,
    "learning_rate": 1e-3,
    "weight_decay": 0.2,
    "clip": 1.0,
    "warmup": 4,
    "placing": "k-means",
    "revive_every": 3,
}


def begun(**schedule: Any) -> Training:
    """Return a training with every term, at its first step, on the device of this process."""
    random = RandomStreams(1)
    values = np.random.default_rng(0).standard_normal((60, 1, 4, 4)).astype(np.float32)
    dataset = Dataset(values, 1.0, np.arange(60) % 3, tuple("abc"), "test values")
    weights = {name: term.default_weight or 0.05 for name, term in TERMS.items() if name not in ELSEWHERE}
    params = {
        "model": {"hidden": 8, "latent": 2, "charts": 3, "codes": 4},
        "schedule": SCHEDULE | schedule,
        "views": {"shift": 1.0, "noise": 0.02},
    }
    device = open_device("cpu", "float32")
    return training_of(params, dataset, split(dataset, 0.2, random), objective_of(weights), random, device)


def trained(steps: int) -> dict[str, Any]:
    """Return what there is after so many steps."""
    training = begun()
    training.rehearse()
    losses = [float(training.advance().total.detach()) for _ in range(steps)]
    return {
        "processes": training.device.processes,
        "losses": losses,
        "norms": training.gradient_norms(),
        "parameters": torch.cat([p.detach().flatten() for p in training.parameters()]),
    }


def refusal() -> str:
    """Return why a batch of 23 cannot be trained on."""
    try:
        begun(batch_size=23)
    except BadInput as error:
        return str(error)
    return ""


def main(out: Path) -> None:
    """Be one of the processes."""
    torch.save(trained(12) | {"refusal": refusal()}, out / f"{os.environ['RANK']}.pt")


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes has after 12 steps."""
    pytest.importorskip("accelerate")
    out = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, __file__, str(out)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(out / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.slow
def test_two_processes_train_the_model_that_one_trains(together: list[dict[str, Any]]) -> None:
    """Sums over a batch are taken in another order; 12 steps make 1e-8 of that, 1e-6 leaves room."""
    alone, (first, second) = trained(12), together

    assert (alone["processes"], first["processes"]) == (1, 2)
    assert torch.equal(first["parameters"], second["parameters"])
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    assert (first["parameters"] - alone["parameters"]).abs().max() < 1e-6
    assert first["norms"] == pytest.approx(alone["norms"], rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_evenly_is_refused(together: list[dict[str, Any]]) -> None:
    for process in together:
        assert "a batch of 23 examples cannot be shared evenly by 2 processes" in process["refusal"]


def test_compiled_steps_of_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match="steps of several processes are not compiled"):
        open_device("cpu", "float32", compiles=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
