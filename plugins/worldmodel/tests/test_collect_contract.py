"""What holds for every instrument, of the collector of trajectories."""

from pathlib import Path

import pytest

from atlas.testing import InstrumentContract


@pytest.mark.slow
class TestCollect(InstrumentContract):
    """A hundred transitions of the cart."""

    manifest = Path(__file__).with_name("collect_contract.yaml")
    step = "collect"
