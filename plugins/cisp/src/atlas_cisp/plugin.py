"""Hook implementations: the governance policy and the link sheet of the report."""

from __future__ import annotations

from collections.abc import Mapping

from atlas.contracts import ReportSection
from atlas.governance import PolicyFactory
from atlas.hookspecs import hookimpl
from atlas_cisp.policy import CispPolicy
from atlas_cisp.report import link_section

__all__ = ["atlas_governance", "atlas_report_sections"]


@hookimpl
def atlas_governance() -> Mapping[str, PolicyFactory]:
    """Offer the policy `cisp`."""
    return {"cisp": CispPolicy}


@hookimpl
def atlas_report_sections() -> Mapping[str, ReportSection]:
    """Offer the link sheet."""
    return {"link-sheet": link_section}
