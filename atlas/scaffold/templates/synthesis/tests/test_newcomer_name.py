import sys
from pathlib import Path
from typing import ClassVar

import pytest
from atlas_newcomer_name.plugin import Program

from atlas.errors import BadInput, InstrumentFailed
from atlas.testing import SynthesisContract

MANIFEST = Path(__file__).parents[1] / "manifest.yaml"
ECHO = [sys.executable, "-c", "import sys; print(sys.stdin.read().upper())"]


class TestContract(SynthesisContract):
    """What holds for every synthesis adapter; see `atlas.testing`."""

    adapter = Program()
    params: ClassVar = {"command": ECHO, "seconds": 60}


def test_the_answer_is_what_the_program_prints(meeting, package):
    answer = Program().submit(package(b"a table"), {"command": ECHO, "seconds": 60}, meeting)

    assert answer.text.strip() == "A TABLE"


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        (["no-such-program"], BadInput, "cannot be started"),
        ([sys.executable, "-c", "raise SystemExit(3)"], InstrumentFailed, "ended with 3"),
        ([sys.executable, "-c", "print()"], InstrumentFailed, "printed nothing"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], InstrumentFailed, "no answer in 0.5 s"),
    ],
)
def test_what_goes_wrong_is_said(meeting, package, command, error, message):
    with pytest.raises(error, match=message):
        Program().submit(package(b"a table"), {"command": command, "seconds": 0.5}, meeting)
