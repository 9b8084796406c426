"""The report's section on a harmonics step: predicted modes, or the experiment's comparison and sweeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from atlas.contracts import Fragment
from atlas.figures import picture
from atlas_lossyscape.harmonics.comparison import ALLOWED
from atlas_lossyscape.harmonics.picture import draw_deviations, draw_roots, draw_sweeps

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["render"]

Row = Mapping[str, Any]

_SHOWN = 40


def render(view: RunView, step: str) -> Fragment:
    """Render a step of `harmonics` or `harmonics-experiment`."""
    tables = view.tables(step)
    if "harmonics-modes" in tables:
        return Fragment("Harmonics: predicted modes", "\n".join(_modes(tables["harmonics-modes"])))
    entry = next(item for item in view.manifest["steps"] if item["id"] == step)
    parts = _experiment(view, step, tables, float(entry["params"]["momentum"]))
    return Fragment("Harmonics: observed against predicted", "\n".join(parts))


def _modes(rows: Sequence[Row]) -> Iterator[str]:
    yield (
        "<p>The motion that the optimiser gives each eigenvalue near a minimum. The ends of a frequency are "
        "those that the eigenvalue's residual norm allows.</p>"
    )
    heads = (
        "slice",
        "index",
        "eigenvalue",
        "frequency, rad/step",
        "from",
        "to",
        "damping",
        "swings",
        "stable",
    )
    names = ("slice", "index", "eigenvalue", "frequency", "frequency_low", "frequency_high", "damping")
    body = [
        (
            *(_cell(row[name]) for name in names),
            *("yes" if row[n] else "no" for n in ("underdamped", "stable")),
        )
        for row in rows[:_SHOWN]
    ]
    yield _table(heads, body)
    if len(rows) > _SHOWN:
        yield f"<p>The first {_SHOWN} of {len(rows)} rows; the table holds all.</p>"


def _experiment(
    view: RunView, step: str, tables: Mapping[str, Sequence[Row]], momentum: float
) -> Iterator[str]:
    rows = tables["harmonics-comparison"]
    open_rows = sum(not row["resolved"] for row in rows)
    yield picture(
        draw_roots(rows, momentum),
        "Roots of the modes: curves as predicted from no curvature (z = 1) to the edge (z = -1), marks as "
        "observed, with 95% errors.",
    )
    yield picture(
        draw_deviations(rows, allowed=ALLOWED),
        f"Observed frequency less predicted, with 95% errors; the band is {100 * ALLOWED:g}%. Crosses: what "
        "the curvature at both ends of the alternation predicts. Grey marks are not resolved "
        f"({open_rows} of {len(rows)}): their error is above {50 * ALLOWED:g}%.",
    )
    yield _legs(rows)
    value = next(
        row["eigenvalue"] for row in rows if row["leg"] == "free" and row["index"] == _driven(view, step)
    )
    yield picture(
        draw_sweeps(tables["harmonics-sweep"], value),
        "Response of one mode to the order of batches and to a cyclic rate; the dotted line is where the "
        "literal condition, frequency = eigenvalue, would have the peak.",
    )
    yield _peaks(view, step)


def _driven(view: RunView, step: str) -> int:
    entry = next(item for item in view.manifest["steps"] if item["id"] == step)
    return int(entry["params"]["mode"])


def _legs(rows: Sequence[Row]) -> str:
    heads = (
        "leg",
        "modes",
        "resolved",
        "within 5%",
        "worst resolved",
        "worst by both ends",
        "by decay alone",
        "controls rejected",
    )
    body = []
    for leg in dict.fromkeys(row["leg"] for row in rows):
        part = [row for row in rows if row["leg"] == leg]
        sure = [row for row in part if row["resolved"]]
        worst = max((row["relative_error"] for row in sure), default=None)
        blind = max(
            (abs(row["decay_only"] / row["observed"] - 1) for row in sure if row["observed"]), default=None
        )
        ends = [abs(row["observed"] / row["both_ends"] - 1) for row in sure if row["both_ends"]]
        told = sum(row["rate_rejected"] and row["eigenvalue_rejected"] for row in part)
        agree = sum(row["relative_error"] <= ALLOWED for row in sure)
        body.append(
            (
                leg,
                len(part),
                len(sure),
                agree,
                _cell(worst),
                _cell(max(ends, default=None)),
                _cell(blind),
                told,
            )
        )
    return _table(heads, body)


def _peaks(view: RunView, step: str) -> str:
    found = [q for s, q in view.quantities() if s == step and q.quantity.startswith("peak_frequency.")]
    lines = [
        f"<li>{escape(q.quantity.split('.')[1])}: {q.value:.5g} \u00b1 {q.uncertainty:.1g} rad/step; "
        f"{escape(q.note)}</li>"
        for q in found
    ]
    return f"<p>Measured peaks, with standard errors:</p><ul>{''.join(lines)}</ul>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
