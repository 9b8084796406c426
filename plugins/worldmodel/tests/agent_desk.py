"""What tests of agents share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from atlas_worldmodel.agent import Agent
from atlas_worldmodel.agent_settings import AgentSettings

SMALL = AgentSettings(
    improvement="imagination",
    round_transitions=200,
    blind_rounds=1,
    members=2,
    world_hidden=16,
    policy_hidden=8,
    fit_steps=30,
    fit_batch=16,
    fit_rate=1e-3,
    improve_steps=5,
    improve_batch=10,
    horizon=4,
    discount=0.98,
    trace=0.95,
    rate=1e-3,
    clip=1.0,
    value_lag=0.98,
)


def silent(*message, **figures) -> None:
    """Take progress and say nothing."""


def require_the_same_bits(make: Callable[[], Agent]) -> None:
    """Check that an agent that goes on from a kept state ends as one that was not interrupted."""
    whole, begun, later = (make() for _ in range(3))
    for _ in range(3):
        whole.advance(silent)
    for _ in range(2):
        begun.advance(silent)
    later.restore(begun.state(), begun.round)
    later.advance(silent)
    expected, found = whole.state(), later.state()
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
