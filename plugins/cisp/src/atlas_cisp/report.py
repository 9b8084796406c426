"""The link sheet as a section of a run's report page."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from atlas.contracts import Fragment
from atlas.record import RunView
from atlas_cisp.links import LinkEntry, link_sheet, shown

__all__ = ["link_section"]

_HEADS = ("Geometric signal", "Lossyscape term", "Working hypothesis", "Measured", "Status")


def link_section(view: RunView, step: str) -> Fragment:
    """Render the link sheet of a run; `step` is the interpreting step that it stands beside."""
    heads = "".join(f"<th>{escape(head)}</th>" for head in _HEADS)
    rows = "".join(f"<tr>{''.join(_cells(entry))}</tr>" for entry in link_sheet(view))
    table = f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    return Fragment("Lossyscape link sheet: working hypotheses", table)


def _cells(entry: LinkEntry) -> Iterator[str]:
    measured = [f"{step}, {q.slice}: {q.quantity} = {shown(q)}" for step, q in entry.measured]
    listed = "<br>".join(escape(line) for line in measured) or "not measured in this run"
    for text in (entry.signal.signal, entry.signal.term, entry.signal.hypothesis):
        yield f"<td>{escape(text)}</td>"
    yield f"<td>{listed}</td><td>{escape(entry.status)}</td>"
