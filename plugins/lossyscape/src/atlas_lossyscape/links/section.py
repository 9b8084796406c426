"""The report's section on a link sheet: each proxy's values, relations and status, and no reading of them."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from atlas.contracts import Fragment
from atlas.figures import picture
from atlas_lossyscape.links.comparison import reach
from atlas_lossyscape.links.instrument import MAGNITUDES, PROVISIONAL
from atlas_lossyscape.links.picture import FEW, draw_proxy
from atlas_lossyscape.vocabulary import Proxy, find_term, vocabulary

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["render", "status"]

_Row = dict[str, Any]

_SIGNED = "cisp.link-signed"
"""Event that `atlas link sign` appends; its data name signal, author, record, head and tier."""

_SHOWN = 30


def status(view: RunView, signal: str) -> str:
    """Return `PROVISIONAL`, or who signed the entry with which Tier A record, cited by its journal's head."""
    signed = next((e.data for e in view.of(_SIGNED) if e.data["signal"] == signal), None)
    if signed is None:
        return PROVISIONAL
    return (
        f"signed by {signed['author']} with {signed['record']} (Tier {signed['tier']}, head {signed['head']})"
    )


def render(view: RunView, step: str) -> Fragment:
    """Render a step of the instrument `link-sheet`."""
    tables = view.tables(step)
    relations = tables["relations"]
    title = relations[0]["reference"]
    parts = [
        f"<p>High and low are relative to: <b>{escape(title)}</b>. A value is called so where it lies "
        "clearly above, or below, the declared share of it; error bars are bounds or 95% intervals. What a "
        "relation says of the model is a Technician's call and is not made here.</p>"
    ]
    for proxy in vocabulary().proxies:
        rows = [row for row in relations if row["signal"] == proxy.id]
        parts += _entry(view, proxy, rows, [r for r in tables["references"] if r["signal"] == proxy.id])
    return Fragment("Link sheet: proxies against their reference", "\n".join(parts))


def _entry(view: RunView, proxy: Proxy, rows: list[_Row], references: list[_Row]) -> Iterator[str]:
    term = find_term(proxy.term)
    asked = "high" if proxy.high else "low"
    yield (
        f"<h4>{escape(proxy.name)}: {asked} <code>{escape(proxy.quantity)}</code></h4>"
        f"<p><i>{escape(term.term)}</i>: {escape(term.plain)} "
        f"Status: <b>{escape(status(view, proxy.id))}</b>.</p>"
    )
    if not rows:
        yield "<p>Not measured by the steps that it sees.</p>"
        return
    drawn = [row for row in rows if row["value"] is not None and row["relation"] != "undetermined"]
    if 0 < len(drawn) <= _SHOWN:
        yield _figure(view, proxy, drawn, references)
    yield _table(rows)


def _figure(view: RunView, proxy: Proxy, rows: list[_Row], references: list[_Row]) -> str:
    steps = {row["step"] for row in rows}
    measured = [(s, q) for s, q in view.quantities() if s in steps and q.quantity == proxy.quantity]
    errors = {(q.slice, 1 if q.index is None else q.index): reach(q) for _, q in measured}
    label = proxy.quantity
    if proxy.quantity == MAGNITUDES:
        label = f"magnitude of {label}"
        rows, references = (
            [row | {"value": abs(row["value"])} for row in part] for part in (rows, references)
        )
    few = any(row["count"] <= FEW for row in rows)
    caption = f"{proxy.quantity} with its error: blue where high, orange where low, grey where within." + (
        " Hollow: the reference." if few else " The reference is the other rows."
    )
    return picture(draw_proxy(rows, references, errors, label=label), caption)


def _table(rows: list[_Row]) -> str:
    heads = ("slice", "index", "value", "compared with", "clearly above", "clearly below", "relation")
    body = []
    for row in rows:
        value = "" if row["value"] is None else f"{row['value']:.6g}"
        relation = row["relation"] + (f": {row['note']}" if row["note"] else "")
        cells = (row["slice"], row["index"], value, row["count"], row["above"], row["below"], relation)
        body.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{name}</th>" for name in heads)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll">{table}</div>'
