"""What holds for every instrument, of those that learn: agents, a mechanical world, the phases."""

from pathlib import Path

import pytest

from atlas.testing import InstrumentContract

pytestmark = pytest.mark.slow


class TestAgent(InstrumentContract):
    """Two agents of two rounds."""

    manifest = Path(__file__).with_name("agent_contract.yaml")
    step = "agent"


class TestWorld(InstrumentContract):
    """Twenty steps on ten trajectories of a pendulum."""

    manifest = Path(__file__).with_name("world_contract.yaml")
    step = "world"


class TestJointPhase(InstrumentContract):
    """Three steps after two short phases, whose tables it reads."""

    manifest = Path(__file__).with_name("phases_contract.yaml")
    step = "three"
