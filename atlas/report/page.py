"""A run as one offline page: nothing is fetched, no script runs, the same run gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from atlas.contracts import Fragment
from atlas.governance import Condition, TierReport
from atlas.record import RunView
from atlas.report.content import gather
from atlas.report.visible import visible

__all__ = ["build_report"]


def build_report(
    view: RunView,
    *,
    sections: Mapping[str, Sequence[Fragment]],
    tier: TierReport | None,
    criteria: Sequence[Condition] = (),
) -> bytes:
    """Return a run's page as HTML in UTF-8.

    Args:
        view: The run.
        sections: The plugins' fragments by step; left out while interpretation is `closed`.
        tier: The tier with its conditions, or None where nobody could compute it.
        criteria: The policy's success criteria.

    Raises:
        IntegrityBroken: A sealed file is not what was sealed.
    """
    content = gather(view)
    shown = sections if content["closed"] is None else {}
    fragments = {
        step: [(fragment.title, Markup(fragment.html)) for fragment in pieces]
        for step, pieces in shown.items()
    }
    page = (
        _environment()
        .get_template("page.html")
        .render(**content, sections=fragments, tier=tier, criteria=tuple(criteria))
    )
    return page.encode("utf-8", errors="xmlcharrefreplace")


def _environment() -> jinja2.Environment:
    """Return an environment in which every value is escaped, and shown, hidden characters included."""

    def show(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("atlas.report", "."),
        autoescape=True,
        finalize=show,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clock"] = _clock
    return environment


def _clock(time: str) -> str:
    """Write a journal's time for people: `2026-11-22 18:01 UTC`."""
    return f"{time[:16].replace('T', ' ')} UTC" if time.endswith("+00:00") else time
