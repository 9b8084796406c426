"""The tables of a curvature measurement."""

from __future__ import annotations

from atlas.tables import Column, TableSchema

__all__ = ["DENSITY", "LOSSES", "PROBES", "SCHEMAS", "SPECTRUM"]

_SLICE = Column("slice", "string", "Stimulus slice; `all` where undivided.", required=True)

LOSSES = TableSchema(
    name="curvature-loss",
    version=1,
    description="The loss at which the curvature was taken, by micro-batch; checked before any product.",
    columns=(
        _SLICE,
        Column("batch", "integer", "Micro-batch, from 0.", required=True),
        Column("items", "string", "Ids of its stimulus items, joined by spaces."),
        Column("weight", "number", "Scored tokens or examples: its weight in the mean.", required=True),
        Column("loss", "number", "Mean loss.", unit="nat", required=True),
    ),
    primary_key=("slice", "batch"),
)

SPECTRUM = TableSchema(
    name="curvature-spectrum",
    version=1,
    description="Extreme eigenvalues of the loss Hessian by falling magnitude, with verified residuals.",
    columns=(
        _SLICE,
        Column("index", "integer", "Position by falling magnitude, from 1.", required=True),
        Column("eigenvalue", "number", "Rayleigh quotient of the vector.", unit="nat", required=True),
        Column(
            "residual_norm",
            "number",
            "||H v - lambda v|| of the unit vector v, by a product of its own; some eigenvalue lies within "
            "this distance. Empty where the engine gives none.",
            unit="nat",
        ),
        Column("relative_residual", "number", "The same, divided by the largest magnitude of the slice."),
        Column("end", "string", "`max` or `min` where it is an algebraic end.", enum=("max", "min")),
        Column("converged", "boolean", "The residual is within the tolerance.", required=True),
    ),
    primary_key=("slice", "index"),
)

PROBES = TableSchema(
    name="curvature-probes",
    version=1,
    description="One row per random probe z, with P the projection away from the Ritz vectors.",
    columns=(
        _SLICE,
        Column("probe", "integer", "Number of the probe, from 0.", required=True),
        Column("trace_sample", "number", "Ritz values' sum plus z^T P H P z.", unit="nat", required=True),
        Column("remainder", "number", "z^T P H P z alone.", unit="nat"),
        Column("squared_length", "number", "|H P z|^2, for the Frobenius norm.", unit="nat2"),
    ),
    primary_key=("slice", "probe"),
)

DENSITY = TableSchema(
    name="curvature-density",
    version=2,
    description="How many eigenvalues lie in each interval, by stochastic Lanczos quadrature.",
    columns=(
        _SLICE,
        Column("low", "number", "Lower edge.", unit="nat", required=True),
        Column("high", "number", "Upper edge.", unit="nat", required=True),
        Column("count", "number", "Eigenvalues in between.", required=True),
        Column(
            "standard_error",
            "number",
            "Of the count, from the scatter between probes; what the steps cannot resolve is not in it.",
            required=True,
        ),
        Column(
            "count_low",
            "number",
            "Least number at 95%, with scatter, what the steps cannot resolve, and residuals.",
            required=True,
        ),
        Column("count_high", "number", "Largest number at 95%, likewise.", required=True),
    ),
    primary_key=("slice", "low"),
)

SCHEMAS = {schema.identifier: schema for schema in (LOSSES, SPECTRUM, PROBES, DENSITY)}
