"""What holds for every instrument, of the reader of sessions."""

from pathlib import Path

from atlas.testing import InstrumentContract


class TestReader(InstrumentContract):
    """Two conversations that were brought."""

    manifest = Path(__file__).parent / "contract" / "manifest.yaml"
    step = "sessions"
