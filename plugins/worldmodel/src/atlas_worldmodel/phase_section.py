"""The report's section on a phase: its metrics, and the firewall's audit of the joint one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from atlas.contracts import Fragment

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["render"]

_TITLES = {
    "phase1": "The atlas alone",
    "phase2": "The world model on frozen points",
    "phase3": "Both together",
}


def render(view: RunView, step: str) -> Fragment:
    """Render the step of a phase."""
    tables = view.tables(step)
    uses = {entry["id"]: entry["use"] for entry in view.manifest["steps"]}
    body = _metrics(tables["metrics"])
    for when in ("before", "after"):
        cells = [row for row in tables.get("firewall", ()) if row["when"] == when]
        if cells:
            body += f"<p>Norm of each loss's gradient, {when} the training. 0 is exact, and forbidden.</p>"
            body += _audit(cells)
    return Fragment(_TITLES[uses[step]], body)


def _metrics(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Return the plain metrics, and those of each horizon side by side."""
    plain: list[tuple[str, str]] = []
    ahead: dict[str, dict[int, str]] = {}
    for metric in metrics:
        said = _with_error(metric["value"], metric["standard_error"])
        name, comma, horizon = metric["metric"].partition(", ")
        if comma:
            ahead.setdefault(name, {})[int(horizon.split()[0])] = said
        else:
            plain.append((name, said))
    body = _table(("on held-out trajectories", "mean ± standard error"), plain)
    if ahead:
        steps = sorted({step for row in ahead.values() for step in row})
        head = ("open loop, steps ahead", *map(str, steps))
        body += _table(head, ((name, *(row.get(step, "") for step in steps)) for name, row in ahead.items()))
    return body


def _audit(cells: Sequence[Mapping[str, Any]]) -> str:
    losses = list(dict.fromkeys(cell["loss"] for cell in cells))
    rows: dict[str, list[str]] = {}
    for cell in cells:
        norm = cell["gradient_norm"]
        rows.setdefault(cell["parameters"], []).append("none to train" if norm is None else _number(norm))
    return _table(("parameters", *losses), ((name, *found) for name, found in rows.items()))


def _with_error(value: float, error: float | None) -> str:
    """Return a value and its error, both to the error's second digit; without one, the value alone."""
    if error is None:
        return _number(value)
    if not 0 < error < math.inf:
        return f"{_number(value)} ± {_number(error)}"
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(text)}</th>" for text in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
