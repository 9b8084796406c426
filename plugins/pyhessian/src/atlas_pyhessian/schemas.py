"""The tables of a curvature measurement."""

from __future__ import annotations

from atlas.tables import Column, TableSchema

__all__ = [
    "ALIGNMENT",
    "BLOCKS",
    "BLOCK_SPECTRUM",
    "DENSITY",
    "DIRECTIONS",
    "LOSSES",
    "PATH",
    "PROBES",
    "SCHEMAS",
    "SERIES",
    "SPECTRUM",
    "TENSORS",
]

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
    version=2,
    description="One row per random probe z, with P the projection away from the Ritz vectors.",
    columns=(
        _SLICE,
        Column("probe", "integer", "Number of the probe, from 0.", required=True),
        Column(
            "trace_sample",
            "number",
            "Ritz values' sum plus z^T P H P z; of a sketch, the probe's own estimate of the trace.",
            unit="nat",
            required=True,
        ),
        Column("remainder", "number", "The same less the Ritz values' sum.", unit="nat"),
        Column(
            "squared_length",
            "number",
            "Estimate of the squared Frobenius norm less the sum of the squared Ritz values.",
            unit="nat2",
        ),
    ),
    primary_key=("slice", "probe"),
)

TENSORS = TableSchema(
    name="curvature-tensors",
    version=1,
    description="Trace and Frobenius norm of the loss Hessian by parameter tensor, from the trace's probes.",
    columns=(
        _SLICE,
        Column("parameter", "string", "Its name; a tied weight is under its first name.", required=True),
        Column("size", "integer", "Its number of entries.", required=True),
        Column(
            "trace",
            "number",
            "Trace of its diagonal block. The sum over tensors estimates the whole trace, with more scatter.",
            unit="nat",
            required=True,
        ),
        Column("standard_error", "number", "Of the trace, between probes.", unit="nat", required=True),
        Column("trace_low", "number", "Lower end of its 95% interval.", unit="nat", required=True),
        Column("trace_high", "number", "Upper end.", unit="nat", required=True),
        Column(
            "frobenius_squared",
            "number",
            "Sum of the squares of its rows of the whole Hessian.",
            unit="nat2",
            required=True,
        ),
        Column("frobenius_standard_error", "number", "Of that sum.", unit="nat2", required=True),
        Column("frobenius_share", "number", "Its part of that sum over all tensors.", required=True),
    ),
    primary_key=("slice", "parameter"),
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

_BLOCK = Column("block", "string", "Name of the block.", required=True)
_DIRECTION = Column("direction", "string", "`gradient`, or the target it leads to.", required=True)

BLOCKS = TableSchema(
    name="curvature-blocks",
    version=1,
    description="Diagonal blocks of the curvature matrix: ends with verified residuals, and trace.",
    columns=(
        _SLICE,
        _BLOCK,
        Column("parameters", "string", "Names of its parameters, joined by spaces.", required=True),
        Column("size", "integer", "Number of its entries.", required=True),
        Column("lambda_max", "number", "Largest eigenvalue.", unit="nat", required=True),
        Column("lambda_max_residual", "number", "Its verified residual norm.", unit="nat", required=True),
        Column("lambda_min", "number", "Smallest eigenvalue.", unit="nat", required=True),
        Column("lambda_min_residual", "number", "Its verified residual norm.", unit="nat", required=True),
        Column("trace", "number", "Trace; empty where it was left out.", unit="nat"),
        Column(
            "trace_standard_error", "number", "Of the trace, from the scatter between probes.", unit="nat"
        ),
        Column("trace_low", "number", "Lower end of its 95% interval.", unit="nat"),
        Column("trace_high", "number", "Upper end.", unit="nat"),
        Column("frobenius_squared", "number", "Squared Frobenius norm of the block.", unit="nat2"),
        Column("frobenius_standard_error", "number", "Of that norm.", unit="nat2"),
        Column("num_matvecs", "integer", "Products of the block alone, all told.", required=True),
        Column(
            "converged",
            "boolean",
            "Residuals are within the tolerance and the search was completed.",
            required=True,
        ),
    ),
    primary_key=("slice", "block"),
)

BLOCK_SPECTRUM = TableSchema(
    name="curvature-block-spectrum",
    version=1,
    description="Extreme eigenvalues of each diagonal block by falling magnitude, with verified residuals.",
    columns=(SPECTRUM.columns[0], _BLOCK, *SPECTRUM.columns[1:]),
    primary_key=("slice", "block", "index"),
)

DIRECTIONS = TableSchema(
    name="curvature-directions",
    version=1,
    description="What a unit direction d meets: gradient g and matrix H at the checkpoint measured.",
    columns=(
        _SLICE,
        _DIRECTION,
        Column("distance", "number", "Length of the way to that target; empty for the gradient."),
        Column("slope", "number", "g.d.", unit="nat", required=True),
        Column("curvature", "number", "d^T H d.", unit="nat", required=True),
        Column("product_norm", "number", "||H d||.", unit="nat", required=True),
        Column(
            "residual_norm",
            "number",
            "||H d - (d^T H d) d||: zero for an eigenvector; some eigenvalue lies as near to the curvature.",
            unit="nat",
            required=True,
        ),
        Column(
            "certified_share",
            "number",
            "Part of |d|^2 within the span of the certified eigenvectors; of a random direction it is about "
            "their number over the number of parameters.",
        ),
    ),
    primary_key=("slice", "direction"),
)

ALIGNMENT = TableSchema(
    name="curvature-alignment",
    version=1,
    description="Cosines of a direction with the certified eigenvectors, whose signs are free.",
    columns=(
        _SLICE,
        _DIRECTION,
        Column("index", "integer", "The eigenvector's position in `spectrum`.", required=True),
        Column("eigenvalue", "number", "Its eigenvalue.", unit="nat", required=True),
        Column("cosine", "number", "Magnitude of its inner product with the direction.", required=True),
    ),
    primary_key=("slice", "direction", "index"),
)

PATH = TableSchema(
    name="curvature-path",
    version=1,
    description="The loss on the straight line to another target, by the chosen parameters alone.",
    columns=(
        _SLICE,
        _DIRECTION,
        Column("position", "number", "0 here, 1 there.", required=True),
        Column("distance", "number", "Length of the way so far.", required=True),
        Column("loss", "number", "Mean loss there, evaluated.", unit="nat", required=True),
        Column(
            "predicted",
            "number",
            "By slope and curvature at 0; with another matrix than the Hessian, by that matrix.",
            unit="nat",
            required=True,
        ),
    ),
    primary_key=("slice", "direction", "position"),
)

SERIES = TableSchema(
    name="curvature-series",
    version=1,
    description="A series of checkpoints, each measured with the same random draws.",
    columns=(
        Column("position", "integer", "Number of the checkpoint in the series, from 1.", required=True),
        Column("label", "string", "The checkpoint, as the manifest names it.", required=True),
        Column("step", "integer", "Training step that the label names; empty where it names none."),
        _SLICE,
        Column("lambda_max", "number", "Largest eigenvalue.", unit="nat", required=True),
        Column("lambda_max_residual", "number", "Its verified residual norm; empty without one.", unit="nat"),
        Column("lambda_min", "number", "Smallest eigenvalue.", unit="nat"),
        Column("lambda_min_residual", "number", "Its verified residual norm; empty without one.", unit="nat"),
        Column("trace", "number", "Trace; empty where it was left out.", unit="nat"),
        Column("trace_standard_error", "number", "Its standard error.", unit="nat"),
        Column("trace_low", "number", "Lower end of its 95% interval.", unit="nat"),
        Column("trace_high", "number", "Upper end.", unit="nat"),
        Column("loss", "number", "Mean loss.", unit="nat", required=True),
        Column("gradient_norm", "number", "Norm of its gradient.", unit="nat", required=True),
    ),
    primary_key=("position", "slice"),
)

_ALL = (
    LOSSES,
    SPECTRUM,
    PROBES,
    TENSORS,
    DENSITY,
    BLOCKS,
    BLOCK_SPECTRUM,
    DIRECTIONS,
    ALIGNMENT,
    PATH,
    SERIES,
)
SCHEMAS = {schema.identifier: schema for schema in _ALL}
