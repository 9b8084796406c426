"""The kit for plugin authors: fixtures that run real manifests, and contracts to subclass.

Installed with the host and found by pytest on its own; importing it imports next to nothing. `atlas` is the
command line in an empty folder. `InstrumentContract`, `LossTermContract` and `SynthesisContract` are tests
that every plugin of their kind has to pass; subclass one as `Test...` and fill in its attributes.
"""

from __future__ import annotations

from atlas.testing.command_line import Atlas, Outcome, atlas
from atlas.testing.instruments import InstrumentContract, contract_offer, contract_run
from atlas.testing.loss_terms import LossTermContract
from atlas.testing.synthesis import Meeting, SynthesisContract, meeting, package

__all__ = [
    "Atlas",
    "InstrumentContract",
    "LossTermContract",
    "Meeting",
    "Outcome",
    "SynthesisContract",
    "atlas",
    "contract_offer",
    "contract_run",
    "meeting",
    "package",
]
