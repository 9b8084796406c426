"""The tables of the link sheet."""

from __future__ import annotations

from atlas.tables import Column, TableSchema

__all__ = ["REFERENCES", "RELATIONS", "SCHEMAS"]

_KEY = (
    Column("signal", "string", "Which proxy, by its id in the vocabulary.", required=True),
    Column("step", "string", "Step that measured the value.", required=True),
    Column("slice", "string", "Key under which it is recorded: slice, checkpoint or both.", required=True),
    Column("index", "integer", "Among quantities of the same name; 1 for the only one.", required=True),
)

RELATIONS = TableSchema(
    name="link-relations",
    version=1,
    description="Each proxy's values relative to the declared reference; what they mean is left blank.",
    columns=(
        *_KEY,
        Column("quantity", "string", "What stands for the proxy.", required=True),
        Column("value", "number", "As measured; empty where undefined."),
        Column("reference", "string", "What it is compared with.", required=True),
        Column("count", "integer", "Reference values that it could be compared with.", required=True),
        Column("above", "integer", "Of these, clearly exceeded.", required=True),
        Column("below", "integer", "Of these, clearly not reached.", required=True),
        Column(
            "relation",
            "string",
            "high: clearly above the declared share of the reference; low: clearly below it; else within.",
            required=True,
            enum=("high", "low", "within", "undetermined"),
        ),
        Column("toward", "string", "Relation that the proxy is about.", required=True, enum=("high", "low")),
        Column("status", "string", "As sealed.", required=True, enum=("PROVISIONAL",)),
        Column("note", "string", "Why it is undetermined."),
        Column(
            "call",
            "string",
            "Does the term apply here? A Technician's call.",
            enum=("applies", "does not apply", "cannot tell"),
            judgement=True,
        ),
    ),
    primary_key=("signal", "step", "slice", "index"),
)

REFERENCES = TableSchema(
    name="link-references",
    version=1,
    description="Every comparison behind the relations.",
    columns=(
        *_KEY,
        Column("reference", "string", "Slice, checkpoint or run that it is compared with.", required=True),
        Column("value", "number", "The reference's own.", required=True),
        Column("uncertainty", "number", "Of that value.", required=True),
        Column("uncertainty_kind", "string", "What it is.", required=True),
        Column("difference", "number", "Value less reference; of magnitudes for eigenvalues.", required=True),
        Column("low", "number", "Lower end of the difference: bound, or 95%.", required=True),
        Column("high", "number", "Upper end.", required=True),
        Column("side", "string", "Where the value lies.", required=True, enum=("above", "below", "open")),
    ),
    primary_key=("signal", "step", "slice", "index", "reference"),
)

SCHEMAS = {s.identifier: s for s in (RELATIONS, REFERENCES)}
