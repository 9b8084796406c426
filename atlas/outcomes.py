"""What became of a run's hypotheses, as its record holds it: the sealed tables and their reader."""

from __future__ import annotations

from typing import Any

from atlas.quantities import UncertaintyKind
from atlas.record import RunView
from atlas.tables import Column, TableSchema, read_csv

__all__ = ["FOLDER", "SLICES", "VERDICTS", "verdicts"]

FOLDER = "verdicts"
"""Where the tables lie in a run folder; the values behind them in its folder `slices`."""

VERDICTS = TableSchema(
    name="hypotheses",
    version=1,
    description="Hypotheses, how each was tested, and what came out.",
    columns=(
        Column("hypothesis", "string", "Its id.", required=True),
        Column(
            "registered",
            "string",
            "Before the run, or later.",
            required=True,
            enum=("declared", "exploratory"),
        ),
        Column("quantity", "string", "Step and quantity.", required=True),
        Column("group", "string", "Slices on one side.", required=True),
        Column("against", "string", "Slices on the other.", required=True),
        Column("expect", "string", "How the group should stand to the other side.", required=True),
        Column("smallest_effect", "number", "Smallest difference that matters; empty for any."),
        Column("alpha", "number", "Level of the test.", required=True),
        Column("design", "string", "How it was tested.", required=True),
        Column("n_group", "integer", "Slices of the group.", required=True),
        Column("n_against", "integer", "Slices of the other side.", required=True),
        Column("effect", "number", "Mean of the group minus mean of the other side."),
        Column("low", "number", "Lower end of the interval that decides; empty where it has none."),
        Column("high", "number", "Upper end of that interval; empty where it has none."),
        Column("coverage", "number", "Its confidence level, Holm's correction included."),
        Column("unit", "string", "Unit of effect and interval."),
        Column("p", "number", "p-value of: no difference that matters in the expected direction."),
        Column("p_holm", "number", "The same, corrected over the declared set; empty where exploratory."),
        Column("p_opposite", "number", "p-value of: a difference that matters in the expected direction."),
        Column("p_opposite_holm", "number", "The same, corrected over the declared set."),
        Column(
            "verdict",
            "string",
            "What the interval says.",
            required=True,
            enum=("supported", "contradicted", "inconclusive"),
        ),
        Column("measurement_bound", "number", "How far residual bounds could move the effect."),
        Column("measurement_error", "number", "Standard error of the effect from the values' own ones."),
        Column("note", "string", "What was left out, and caveats."),
    ),
    primary_key=("hypothesis",),
)

SLICES = TableSchema(
    name="hypothesis-slices",
    version=1,
    description="The values that each hypothesis was tested on.",
    columns=(
        Column("hypothesis", "string", "Its id.", required=True),
        Column("side", "string", "Which side.", required=True, enum=("group", "against")),
        Column("slice", "string", "Stimulus slice.", required=True),
        Column("partner", "string", "What it is paired by."),
        Column("value", "number", "The value.", required=True),
        Column("uncertainty", "number", "Its uncertainty."),
        Column("uncertainty_kind", "string", "What that is.", enum=tuple(k.value for k in UncertaintyKind)),
        Column("converged", "boolean", "The method met its stopping rule.", required=True),
    ),
    primary_key=("hypothesis", "slice"),
)


def verdicts(view: RunView) -> list[dict[str, Any]]:
    """Return the sealed rows of `VERDICTS`, the declared hypotheses first; empty before any was judged."""
    rows: list[dict[str, Any]] = []
    for event in view.of("hypotheses-judged", "hypothesis-explored"):
        for item in event.data["sealed"]:
            path = item["path"]
            if path.endswith(".csv") and not path.startswith(f"{FOLDER}/slices/"):
                rows += read_csv(VERDICTS, view.read(path), where=path)
    return rows
