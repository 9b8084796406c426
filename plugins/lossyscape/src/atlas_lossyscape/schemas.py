"""The tables of `potential` and `tension`."""

from __future__ import annotations

from atlas.tables import Column, TableSchema

__all__ = ["POTENTIAL", "POTENTIAL_DESCENT", "POTENTIAL_TOKENS", "SCHEMAS", "TENSION"]

_SLICE = Column("slice", "string", "Stimulus slice.", required=True)

POTENTIAL = TableSchema(
    name="potential",
    version=2,
    description="The drop of the loss within reach of each slice, both ways, and its state.",
    columns=(
        _SLICE,
        Column("loss", "number", "Mean loss.", unit="nat", required=True),
        Column("gradient_norm", "number", "Norm of its gradient.", required=True),
        Column("newton", "number", "Newton decrement over certified positive pairs.", unit="nat"),
        Column("newton_low", "number", "With eigenvalues at the upper end of their residuals.", unit="nat"),
        Column("newton_high", "number", "At the lower end.", unit="nat"),
        Column("newton_krylov", "number", "Over all positive Ritz pairs, by a product.", unit="nat"),
        Column("krylov_bound", "number", "The largest drop there lies within it of that.", unit="nat"),
        Column("krylov_unmet", "number", "Norm of the model's gradient after its step, of |g|."),
        Column("newton_step", "number", "Length of the Newton step over certified pairs."),
        Column("share_certified", "number", "Part of |g|^2 along certified positive pairs."),
        Column("share_negative", "number", "Part along Ritz pairs that are not positive."),
        Column("share_open", "number", "Part along positive pairs without certificate."),
        Column("descent", "number", "Drop of the loss by the trust-region descent.", unit="nat"),
        Column("descent_distance", "number", "How far it went."),
        Column("descent_reached", "boolean", "The gradient had vanished at its end."),
        Column("noise_floor", "number", "Decrement that sampling alone would show.", unit="nat"),
        Column("noise_floor_se", "number", "Jackknife standard error of that.", unit="nat"),
        Column("noise_se", "number", "Jackknife standard error of decrement less floor.", unit="nat"),
        Column(
            "state",
            "string",
            "charged if decrement less floor is above zero at 95%; undetermined below 3 items.",
            required=True,
            enum=("charged", "discharged", "undetermined"),
        ),
    ),
    primary_key=("slice",),
)

POTENTIAL_DESCENT = TableSchema(
    name="potential-descent",
    version=1,
    description="Steps of the trust-region descent.",
    columns=(
        _SLICE,
        Column("step", "integer", "From 1.", required=True),
        Column("radius", "number", "Of the trust region.", required=True),
        Column("promised", "number", "Drop of the quadratic model.", unit="nat", required=True),
        Column("drop", "number", "Drop of the loss; empty where it was not finite.", unit="nat"),
        Column("taken", "boolean", "The parameters moved.", required=True),
        Column("loss", "number", "Loss afterwards.", unit="nat", required=True),
        Column("gradient_norm", "number", "Gradient's norm afterwards.", required=True),
    ),
    primary_key=("slice", "step"),
)

POTENTIAL_TOKENS = TableSchema(
    name="potential-tokens",
    version=2,
    description="Loss, gradient and curvature along it of single tokens.",
    columns=(
        _SLICE,
        Column("item", "string", "Stimulus item.", required=True),
        Column("position", "integer", "Of the token in its item, from 0.", required=True),
        Column("token", "integer", "Id in the model's vocabulary.", required=True),
        Column("count", "integer", "How often it stands in the whole stimulus.", required=True),
        Column("loss", "number", "Its loss, the logarithm of its perplexity.", unit="nat", required=True),
        Column("gradient_norm", "number", "Of its own loss.", required=True),
        Column("curvature", "number", "Of the slice's loss along that gradient.", unit="nat"),
        Column("pair", "integer", "Pair of the matching, from frequent to rare."),
        Column("role", "string", "In that pair.", enum=("token", "control")),
    ),
    primary_key=("slice", "item", "position"),
)

TENSION = TableSchema(
    name="tension",
    version=2,
    description="What holds the model in place on each slice, and its state by the stated thresholds.",
    columns=(
        _SLICE,
        Column("gradient_curvature", "number", "Along the gradient.", unit="nat", required=True),
        Column("relative_curvature", "number", "Of the largest eigenvalue's magnitude.", required=True),
        Column("top_share", "number", "Part of |g|^2 in the certified top space.", required=True),
        Column("top_share_se", "number", "Jackknife standard error over items; none below three."),
        Column("num_certified", "integer", "Eigenvectors that span that space.", required=True),
        Column("num_matvecs", "integer", "Products spent.", required=True),
        Column("drift", "number", "Drift under noise, of free diffusion's, in all directions."),
        Column("drift_se", "number", "Standard error over replicas."),
        Column("drift_top", "number", "The same for noise within the certified top space."),
        Column("drift_top_se", "number", "Standard error over replicas."),
        Column(
            "state",
            "string",
            "taut if all three thresholds are met, slack if none is, mixed between.",
            required=True,
            enum=("taut", "slack", "mixed"),
        ),
    ),
    primary_key=("slice",),
)

SCHEMAS = {s.identifier: s for s in (POTENTIAL, POTENTIAL_DESCENT, POTENTIAL_TOKENS, TENSION)}
