"""The tables of a training."""

from __future__ import annotations

from atlas.tables import Column, TableSchema

__all__ = ["CHARTS", "CODES", "CURVES", "METRICS", "POINTS", "SCHEMAS", "SNAPSHOTS"]

_REPETITION = Column("repetition", "integer", "Number of the training, from 0.", required=True)
_X = Column("x", "number", "Horizontal place in the disc.", required=True)
_Y = Column("y", "number", "Vertical place in the disc.", required=True)
_CHART = Column("chart", "integer", "Chart, from 0.", required=True)

METRICS = TableSchema(
    name="topoencoder-metrics",
    version=1,
    description="What each training reached on held-out examples.",
    columns=(
        _REPETITION,
        Column("metric", "string", "Name of the metric.", required=True),
        Column("value", "number", "Its value; empty where undefined."),
        Column("standard_error", "number", "By a bootstrap over examples; empty where undefined."),
        Column("examples", "integer", "Examples behind it.", required=True),
        Column("note", "string", "Why it is undefined."),
    ),
    primary_key=("repetition", "metric"),
)

CURVES = TableSchema(
    name="topoencoder-curves",
    version=1,
    description="Loss terms while training, each on the batch of its step, before the weight.",
    columns=(
        _REPETITION,
        Column("step", "integer", "Steps done.", required=True),
        Column("term", "string", "Loss term.", required=True),
        Column("value", "number", "Its value on that step's batch.", required=True),
        Column("weight", "number", "Its weight in the sum.", required=True),
        Column("group", "string", "Its gradient group.", required=True),
        Column("gradient_norm", "number", "Norm of its gradient on the next batch; empty where not taken."),
    ),
    primary_key=("repetition", "step", "term"),
)

CHARTS = TableSchema(
    name="topoencoder-charts",
    version=1,
    description="Charts of the first training: centre, use by test examples, commonest class.",
    columns=(
        _CHART,
        _X,
        _Y,
        Column("radius", "number", "Hyperbolic distance of the centre from the origin.", required=True),
        Column("examples", "integer", "Test examples in it.", required=True),
        Column("class", "string", "Commonest class among them; empty without labels or examples."),
        Column("purity", "number", "Share of that class."),
    ),
    primary_key=("chart",),
)

CODES = TableSchema(
    name="topoencoder-codes",
    version=1,
    description="Codes of the first training, placed in their charts, with their use.",
    columns=(
        _CHART,
        Column("code", "integer", "Code of the chart, from 0.", required=True),
        _X,
        _Y,
        Column("examples", "integer", "Training and test examples that chose it.", required=True),
    ),
    primary_key=("chart", "code"),
)

POINTS = TableSchema(
    name="topoencoder-points",
    version=1,
    description="Test examples of the first training in the disc.",
    columns=(
        Column("row", "integer", "Row of the data set.", required=True),
        _X,
        _Y,
        Column("radius", "number", "Hyperbolic distance from the origin, in all dimensions.", required=True),
        _CHART,
        Column("code", "integer", "Code of the chart.", required=True),
        Column("class", "string", "Class; empty without labels."),
    ),
    primary_key=("row",),
)

SNAPSHOTS = TableSchema(
    name="topoencoder-snapshots",
    version=1,
    description="The same test examples of the first training at several steps.",
    columns=(
        Column("step", "integer", "Steps done.", required=True),
        Column("row", "integer", "Row of the data set.", required=True),
        _X,
        _Y,
        _CHART,
        Column("class", "string", "Class; empty without labels."),
    ),
    primary_key=("step", "row"),
)

SCHEMAS = {s.identifier: s for s in (METRICS, CURVES, CHARTS, CODES, POINTS, SNAPSHOTS)}
