"""A run's page: asks the plugins for their sections and the report for the rest."""

from __future__ import annotations

import html
from pathlib import Path

import click

from atlas.catalog import Offer
from atlas.contracts import Fragment
from atlas.governance import interpretation_closed
from atlas.record import RunView, open_record
from atlas.run.workspace import LocalWorkspace

__all__ = ["write_page"]


def _section(workspace: LocalWorkspace, offer: Offer, view: RunView, step: str) -> Fragment:
    """Render one section; a run that is done is not lost to a plugin that cannot draw it.

    Whatever goes wrong is said in the section's place and on the terminal.
    """
    try:
        fragment: Fragment = workspace.host.load("report_sections", offer.name)(view, step)
    except Exception as error:
        message = f"{offer.who} could not render its section {offer.name!r}: {type(error).__name__}: {error}"
        click.echo(f"note: {message}", err=True)
        return Fragment(f"{offer.name}: not rendered", f"<p>{html.escape(message)}</p>")
    return fragment


def write_page(workspace: LocalWorkspace, root: Path) -> Path:
    """Write `report.html` of a run and return its path; the page is derived and never sealed."""
    from atlas.report.page import build_report

    view = open_record(root)
    steps = {step["id"]: step["use"] for step in view.manifest.get("steps", ())}
    sections: dict[str, list[Fragment]] = {}
    for step in view.finished_steps() if interpretation_closed(view) is None else ():
        for offer in workspace.catalog.offers("report_sections"):
            if steps.get(step) in offer.details.get("instruments", ()):
                sections.setdefault(step, []).append(_section(workspace, offer, view, step))
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
