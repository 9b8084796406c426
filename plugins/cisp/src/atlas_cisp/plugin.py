"""Hook implementations: the governance policy."""

from __future__ import annotations

from collections.abc import Mapping

from atlas.governance import PolicyFactory
from atlas.hookspecs import hookimpl
from atlas_cisp.policy import CispPolicy

__all__ = ["atlas_governance"]


@hookimpl
def atlas_governance() -> Mapping[str, PolicyFactory]:
    """Offer the policy `cisp`."""
    return {"cisp": CispPolicy}
