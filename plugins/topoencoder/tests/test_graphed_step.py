"""Steps that are recorded as CUDA graphs; they need a device, so machines without one do not run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from atlas_topoencoder.data import Dataset, split
from atlas_topoencoder.devices import open_device
from atlas_topoencoder.instrument import objective_of, training_of
from atlas_topoencoder.training import Training

from atlas.manifest.structure import fill
from atlas.randomness import RandomStreams

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA device")

CARD = Path(__file__).parent.parent / "src/atlas_topoencoder/atlas-plugin.yaml"


def training(*, compiles: bool) -> Training:
    schedule = {"steps": 60, "warmup": 10, "batch_size": 64, "revive_every": 0}
    schema = yaml.safe_load(CARD.read_text())["provides"]["instruments"]["topoencoder"]["params"]
    params = fill(schema, {"data": {"use": "digits"}, "schedule": schedule, "compile": compiles})
    dataset = Dataset(
        np.random.default_rng(0).random((400, 1, 8, 8), dtype=np.float32), 1.0, None, (), "noise"
    )
    random = RandomStreams(3)
    device = open_device("cuda", "float32", compiles=compiles)
    return training_of(params, dataset, split(dataset, 0.2, random), objective_of({}), random, device)


def test_recorded_steps_go_where_plain_ones_go() -> None:
    """Through the warm-up, the placing of charts and a restored state; rounding differs."""
    plain, recorded = training(compiles=False), training(compiles=True)

    found = []
    for which in (plain, recorded):
        values = [float(which.advance().total.detach()) for _ in range(20)]
        which.restore(which.state(), which.step)
        found.append(values + [float(which.advance().total.detach()) for _ in range(20)])

    assert found[1] == pytest.approx(found[0], rel=2e-3)


REFUSED = """\
import torch
weight = torch.ones(3, device="cuda", requires_grad=True)
step = GraphedStep(lambda x: x * float((weight * x).sum().detach()))
for _ in range(4):
    step(torch.ones(3, device="cuda"))
"""


def test_a_step_that_reads_a_number_back_is_refused() -> None:
    """In a process of its own, since a recording that fails may leave its device unfit for the next."""
    done = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True)
    assert done.returncode == 1
    assert "BadInput: compile: the step cannot be recorded as a CUDA graph" in done.stderr
