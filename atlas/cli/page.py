"""A run's page: asks the plugins for their sections and the report for the rest."""

from __future__ import annotations

from pathlib import Path

from atlas.contracts import Fragment
from atlas.record import open_record
from atlas.run.workspace import LocalWorkspace

__all__ = ["write_page"]


def write_page(workspace: LocalWorkspace, root: Path) -> Path:
    """Write `report.html` of a run and return its path; the page is derived and never sealed."""
    from atlas.report.page import build_report, closed

    view = open_record(root)
    steps = {step["id"]: step["use"] for step in view.manifest.get("steps", ())}
    sections: dict[str, list[Fragment]] = {}
    for step in view.finished_steps() if closed(view) is None else ():
        for offer in workspace.catalog.offers("report_sections"):
            if steps.get(step) in offer.details.get("instruments", ()):
                render = workspace.host.load("report_sections", offer.name)
                sections.setdefault(step, []).append(render(view, step))
    page = root / "report.html"
    data = build_report(
        view,
        sections=sections,
        tier=workspace.tier(view),
        criteria=workspace.criteria(view),
    )
    temporary = page.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(page)
    return page
