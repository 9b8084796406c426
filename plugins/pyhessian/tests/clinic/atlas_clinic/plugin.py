"""The target source's hook; torch is imported where a target is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atlas.contracts import Target, TargetSource
from atlas.hookspecs import hookimpl


class Clinic:
    """Opens a patient by name."""

    def fetch(self, params: Mapping[str, Any], progress: Any) -> Mapping[str, Any]:
        """There is nothing to fetch."""
        return params

    def open(self, params: Mapping[str, Any], *, threads: int) -> Target:
        """Build the patient."""
        import torch

        from atlas_clinic.patients import Patient

        torch.set_num_threads(threads)
        if params["delay_s"]:
            write_every_state()
        return Patient(params["patient"], params["delay_s"])


def write_every_state() -> None:
    """Let a step that is to be killed write each of its states, however slow the disk is."""
    from atlas_pyhessian import savedstates

    savedstates._SHORTEST_INTERVAL = savedstates._LONGEST_INTERVAL = 0.0
    savedstates._SHARE = 1e9


@hookimpl
def atlas_targets() -> Mapping[str, TargetSource]:
    """Offer the clinic."""
    return {"clinic": Clinic()}
