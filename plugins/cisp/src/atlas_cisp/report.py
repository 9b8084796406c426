"""The link sheet as a section of a run's report page."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from atlas.contracts import Fragment
from atlas.errors import BadInput
from atlas.record import RunView
from atlas_cisp.links import LinkEntry, link_sheet

__all__ = ["link_section"]

_TITLE = "Lossyscape link sheet: working hypotheses"
_HEADS = ("Geometric signal", "Lossyscape term", "Working hypothesis", "Measured", "Status")


def link_section(view: RunView, step: str) -> Fragment:
    """Render the link sheet of a run; `step` is the interpreting step that it stands beside.

    A run without Read #1, such as an ungoverned one, gets the reason why its sheet is closed.
    """
    try:
        entries = link_sheet(view)
    except BadInput as closed:
        return Fragment(_TITLE, f"<p>{escape(closed.what)}.</p>")
    heads = "".join(f"<th>{escape(head)}</th>" for head in _HEADS)
    rows = "".join(f"<tr>{''.join(_cells(entry))}</tr>" for entry in entries)
    table = f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    return Fragment(_TITLE, table)


def _cells(entry: LinkEntry) -> Iterator[str]:
    listed = "<br>".join(escape(str(measured)) for measured in entry.measured) or "not measured in this run"
    for text in (entry.signal.signal, entry.signal.term, entry.signal.hypothesis):
        yield f"<td>{escape(text)}</td>"
    yield f"<td>{listed}</td><td>{escape(entry.status)}</td>"
