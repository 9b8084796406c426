"""What tests of agents share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from atlas_worldmodel.agent import Agent


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
