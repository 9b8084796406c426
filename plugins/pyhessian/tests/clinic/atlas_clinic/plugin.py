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
        return Patient(params["patient"], params["delay_s"])


@hookimpl
def atlas_targets() -> Mapping[str, TargetSource]:
    """Offer the clinic."""
    return {"clinic": Clinic()}
