"""The report's section on a potential or tension step: what it measured, drawn, and its words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from atlas.contracts import Fragment
from atlas.figures import picture
from atlas_lossyscape.pictures import draw_descent, draw_floors, draw_tension, draw_tokens
from atlas_lossyscape.vocabulary import Term, terms_measured_by

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["render"]

Row = Mapping[str, Any]

_SINGLE = 4
"""Slices that get pictures of their own; beyond, the common picture and the tables say it."""


def render(view: RunView, step: str) -> Fragment:
    """Render a step of `potential` or `tension`."""
    entry = next(s for s in view.manifest["steps"] if s["id"] == step)
    tables = view.tables(step)
    if entry["use"] == "tension":
        title, parts = "Tension", list(_tension(tables["tension"], entry["params"]["thresholds"]))
    else:
        title, parts = "Potential difference", list(_potential(tables))
    words = "".join(_term(term) for term in terms_measured_by(entry["use"]))
    return Fragment(title, "\n".join([words, *parts]))


def _term(term: Term) -> str:
    states = f" ({' / '.join(term.states)})" if term.states else ""
    status = term.status.replace("`", "")
    return (
        f"<p><b>{escape(term.term)}</b>{escape(states)}: {escape(term.plain)} "
        f"<i>Status: {escape(status)}.</i></p>"
    )


def _states(rows: Sequence[Row]) -> str:
    """Count the slices by state."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _potential(tables: Mapping[str, list[dict[str, Any]]]) -> Iterator[str]:
    rows = tables["potential"]
    left = ", ".join(f"{row['share_certified']:.2g}" for row in rows[:_SINGLE])
    caption = (
        f"How far the loss could still fall, by slice: {_states(rows)}. Circles: Newton decrement over "
        f"certified pairs with residual bounds, which hold {left}{' ...' if len(rows) > _SINGLE else ''} of "
        "|g|²; squares: over all positive Ritz pairs, with the bound of a product; diamonds: a descent that "
        "was carried out; upright bars: what sampling of the items alone would show, with its 95% interval. "
        "Errors that are not seen are smaller than the marks."
    )
    yield picture(draw_floors(rows), caption)
    if len(rows) > _SINGLE:
        return
    for row in rows:
        heading = row["slice"]
        yield f"<h4>{escape(heading)}</h4>" if len(rows) > 1 else ""
        steps = [r for r in tables["descent"] if r["slice"] == heading]
        if steps:
            reached = "the gradient vanished" if row["descent_reached"] else "the budget ran out"
            words = (
                f"The descent: the loss fell by {row['descent']:.4g} nat over a distance of "
                f"{row['descent_distance']:.3g}; {reached}. Dashed: what the quadratic model promised of "
                "each step; crosses: steps that were refused."
            )
            yield picture(draw_descent(steps, row["loss"]), words)
        tokens = [r for r in tables.get("tokens", ()) if r["slice"] == heading and r["curvature"] is not None]
        if len(tokens) > 1:
            words = (
                f"{len(tokens)} tokens. Left: curvature of the slice's loss along each token's own gradient, "
                "against the token's loss. Right: the same of each token less its control, the token of "
                "nearest rarity and position. The correlations with their intervals are among the "
                "quantities: perplexity_curvature and its kin."
            )
            yield picture(draw_tokens(tokens), words)


def _tension(rows: Sequence[Row], thresholds: Mapping[str, float]) -> Iterator[str]:
    caption = (
        f"What holds the model on each slice: {_states(rows)}. Dashed: the thresholds that the manifest "
        "states, which are conventions: taut from the first two on and up to the third. Bars: 95% intervals "
        "by standard errors over items and replicas; a drift ratio of 1 is free diffusion."
    )
    yield picture(draw_tension(rows, thresholds), caption)
