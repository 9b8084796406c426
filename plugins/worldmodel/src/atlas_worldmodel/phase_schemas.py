"""The tables of the phases."""

from __future__ import annotations

from atlas.tables import Column, TableSchema

__all__ = ["CURVES", "FIREWALL", "METRICS", "PHASE_SCHEMAS"]

METRICS = TableSchema(
    name="worldmodel-phase-metrics",
    version=1,
    description="What atlas and world model are worth after a phase, on held-out trajectories.",
    columns=(
        Column("metric", "string", "Name of the metric.", required=True),
        Column("value", "number", "Mean over trajectories.", required=True),
        Column("standard_error", "number", "Over trajectories; empty where there is one."),
        Column("trajectories", "integer", "How many.", required=True),
    ),
    primary_key=("metric",),
)

CURVES = TableSchema(
    name="worldmodel-phase-curves",
    version=1,
    description="Losses while training, each on the batch of its step, before the weight.",
    columns=(
        Column("step", "integer", "Steps done.", required=True),
        Column("loss", "string", "Loss term, or a column of the firewall.", required=True),
        Column("value", "number", "Its value.", required=True),
    ),
    primary_key=("step", "loss"),
)

FIREWALL = TableSchema(
    name="worldmodel-firewall",
    version=1,
    description="Gradient of every loss by every group of parameters, before and after the joint phase.",
    columns=(
        Column("when", "string", "Before or after the training.", required=True),
        Column("parameters", "string", "Group of parameters.", required=True),
        Column("loss", "string", "Loss: base, zn-reg or dynamics.", required=True),
        Column("permitted", "boolean", "Whether the loss may train the group.", required=True),
        Column("gradient_norm", "number", "Norm of the gradient; empty where the group has no parameter."),
    ),
    primary_key=("when", "parameters", "loss"),
)

PHASE_SCHEMAS = {s.identifier: s for s in (METRICS, CURVES, FIREWALL)}
