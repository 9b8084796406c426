"""What holds for every instrument, of the training of a small atlas."""

from pathlib import Path

import pytest

from atlas.testing import InstrumentContract


@pytest.mark.slow
class TestTraining(InstrumentContract):
    """Twenty steps on two moons."""

    manifest = Path(__file__).with_name("contract.yaml")
    step = "train"
