"""The tables of the harmonics instruments."""

from __future__ import annotations

from atlas.tables import Column, TableSchema

__all__ = ["COMPARISON", "MODES", "SCHEMAS", "SWEEP"]

_INDEX = Column("index", "integer", "Position of the eigenvalue, from 1.", required=True)
_RAD = "rad/step"

MODES = TableSchema(
    name="harmonics-modes",
    version=1,
    description="The discrete-time mode that the optimiser gives each eigenvalue.",
    columns=(
        Column("slice", "string", "Stimulus slice of the spectrum.", required=True),
        _INDEX,
        Column("eigenvalue", "number", "Of the loss, without decay.", required=True),
        Column("residual_norm", "number", "Bound on the eigenvalue's error."),
        Column("frequency", "number", "Predicted.", unit=_RAD, required=True),
        Column("frequency_low", "number", "Lower end under the bound.", unit=_RAD),
        Column("frequency_high", "number", "Upper end.", unit=_RAD),
        Column("damping", "number", "-log |z| a step; empty where a mode dies in one step."),
        Column("resonant_frequency", "number", "Drive of the largest gain.", unit=_RAD),
        Column("underdamped", "boolean", "The roots are a complex pair.", required=True),
        Column("stable", "boolean", "The mode decays.", required=True),
    ),
    primary_key=("slice", "index"),
)

COMPARISON = TableSchema(
    name="harmonics-comparison",
    version=2,
    description="Observed against predicted frequencies, a row a leg, mode and rate.",
    columns=(
        Column("leg", "string", "Part of the experiment.", required=True),
        _INDEX,
        Column("rule", "string", "The optimiser's.", required=True),
        Column(
            "edge_share", "number", "Eigenvalue with decay in units of the edge at this rate.", required=True
        ),
        Column("eigenvalue", "number", "Of the loss without decay; of Adam, preconditioned.", required=True),
        Column("residual_norm", "number", "Bound on the eigenvalue's error.", required=True),
        Column("predicted", "number", "From the loss's curvature and decay.", unit=_RAD, required=True),
        Column("predicted_low", "number", "Lower end under the bound.", unit=_RAD, required=True),
        Column("predicted_high", "number", "Upper end.", unit=_RAD, required=True),
        Column("decay_only", "number", "From the decay alone.", unit=_RAD, required=True),
        Column("wrong_rate", "number", "Control: at 1.25 times the rate.", unit=_RAD, required=True),
        Column("wrong_eigenvalue", "number", "Control: of the next eigenvalue.", unit=_RAD, required=True),
        Column("both_ends", "number", "At the edge: by the curvature at both ends of the swing.", unit=_RAD),
        Column("observed", "number", "From the recorded projection.", unit=_RAD, required=True),
        Column("standard_error", "number", "Of the observed frequency.", unit=_RAD, required=True),
        Column("relative_error", "number", "|observed - predicted| / predicted.", required=True),
        Column("resolved", "boolean", "The standard error is at most 2.5% of predicted.", required=True),
        Column("rate_rejected", "boolean", "Missed by over 5% and 3 standard errors.", required=True),
        Column("eigenvalue_rejected", "boolean", "Likewise.", required=True),
        Column("damping", "number", "Predicted -log |z| a step.", required=True),
        Column("observed_damping", "number", "The same, observed.", required=True),
        Column("damping_error", "number", "Its standard error.", required=True),
    ),
    primary_key=("leg", "index", "edge_share"),
)

SWEEP = TableSchema(
    name="harmonics-sweep",
    version=2,
    description="Response of one mode to drives of several periods.",
    columns=(
        Column("drive", "string", "Batch order or cyclic rate.", required=True, enum=("order", "rate")),
        Column("period", "number", "Steps.", required=True),
        Column("frequency", "number", "2 pi / period.", unit=_RAD, required=True),
        Column("predicted", "number", "Gain (order), or growth a step (rate).", required=True),
        Column("measured", "number", "The same, measured.", required=True),
        Column("standard_error", "number", "Of the measured.", required=True),
    ),
    primary_key=("drive", "period"),
)

SCHEMAS = {schema.identifier: schema for schema in (MODES, COMPARISON, SWEEP)}
