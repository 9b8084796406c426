"""Worlds and agents that learn compiled, on a CUDA device recorded besides, against those that learn plainly.

Without a device, or without a compiler, what needs it is not run.
"""

from __future__ import annotations

import shutil

import pytest
import torch
from agent_desk import SMALL, silent
from atlas_topoencoder.devices import PLAIN, Device, open_device
from atlas_worldmodel.agent import Agent
from atlas_worldmodel.agent_instrument import objective_of
from atlas_worldmodel.collection import Law, collect
from atlas_worldmodel.environments import open_environment
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.observation_chart import coordinates_of
from atlas_worldmodel.world_terms import WORLD_TERMS
from atlas_worldmodel.world_training import Schedule, WorldFit, fitted_model
from attrs import evolve

from atlas.objective import Objective
from atlas.randomness import RandomStreams

KINDS = [
    pytest.param(
        "cpu",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(
                shutil.which("c++") is None, reason="torch compiles for the CPU with a C++ compiler"
            ),
        ],
    ),
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
    ),
]


@pytest.fixture(params=KINDS)
def compiled(request):
    return open_device(request.param, "float32", compiles=True)


def fit_on(device: Device) -> WorldFit:
    random = RandomStreams(3)
    data = collect(open_environment("Pendulum-v1"), transitions=400, law=Law(), random=random)
    named = coordinates_of([{"cosine": 0, "sine": 1, "velocity": 2}], 3)
    model = fitted_model(named, data, FieldSizes(8), bound_speed=True, random=random)
    schedule = Schedule(steps=20, batch_size=32, horizon=2)
    return WorldFit(model, data, Objective(WORLD_TERMS.values()), schedule, random, device)


def test_a_compiled_world_learns_as_a_plain_one(compiled):
    """Through a state that is put back; rounding differs, by what 12 steps make of it."""
    found = []
    for fit in (fit_on(PLAIN), fit_on(compiled)):
        figures = [fit.advance() for _ in range(6)]
        fit.restore(fit.state(), fit.step)
        found.append(figures + [fit.advance() for _ in range(6)])
    for plain, other in zip(*found, strict=True):
        assert other == pytest.approx(plain, rel=1e-3)


def test_a_compiled_agent_learns_as_a_plain_one(compiled):
    """Its first round acts blind, so that both see the same; the second begins from a state put back."""
    found = []
    for device in (PLAIN, compiled):
        one = Agent(
            open_environment("Pendulum-v1"),
            evolve(SMALL, horizon=2),
            objective_of("imagination", {}),
            RandomStreams(5),
            Law("held", 5),
            device=device,
        )
        first = one.advance(silent)
        one.restore(one.state(), one.round)
        found.append((first, {n: v for n, v in one.advance(silent).items() if n != "played_return"}))
    for plain, other in zip(*found, strict=True):
        assert other == pytest.approx(plain, rel=2e-2)
