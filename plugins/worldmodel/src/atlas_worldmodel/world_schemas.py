"""The tables of the learned world."""

from __future__ import annotations

from atlas.tables import Column, TableSchema

__all__ = ["WORLD_SCHEMAS"]

OPEN_LOOP = TableSchema(
    name="worldmodel-open-loop",
    version=1,
    description="Errors of prediction in units of the test frames' scatter, one horizon a row.",
    columns=(
        Column("horizon", "integer", "Steps ahead.", required=True),
        Column("nrmse", "number", "Root of the mean square over windows.", required=True),
        Column("standard_error", "number", "Of it, by the jackknife over trajectories."),
        Column("median", "number", "Median of the windows' own.", required=True),
        Column(
            "displaced",
            "number",
            "What a start 1e-3 of the scatter off grows to, by the model.",
            required=True,
        ),
        Column("still", "number", "Of the prediction that nothing changes.", required=True),
        Column("reward", "number", "Error of rewards in units of their scatter.", required=True),
        Column("windows", "integer", "How many.", required=True),
    ),
    primary_key=("horizon",),
)

CURVES = TableSchema(
    name="worldmodel-curves",
    version=1,
    description="Loss terms before their weight while the world is learned.",
    columns=(
        Column("step", "integer", "Steps done.", required=True),
        Column("term", "string", "Name of the loss term.", required=True),
        Column("value", "number", "Its value on the step's windows.", required=True),
    ),
    primary_key=("step", "term"),
)

PATHS = TableSchema(
    name="worldmodel-paths",
    version=1,
    description="Predicted and recorded observations of test trajectories, number by number.",
    columns=(
        Column("trajectory", "integer", "Number among the test trajectories, from 0.", required=True),
        Column("step", "integer", "Frames after the start.", required=True),
        Column("number", "integer", "Which number of the observation, from 0.", required=True),
        Column("predicted", "number", "By the model.", required=True),
        Column("recorded", "number", "In the file.", required=True),
    ),
    primary_key=("trajectory", "step", "number"),
)

ENERGY = TableSchema(
    name="worldmodel-energy",
    version=1,
    description="Change of the learned energy without action, in units of its scatter in the data.",
    columns=(
        Column("step", "integer", "Frames after the start.", required=True),
        Column("mean", "number", "Mean size of the change over starts, heat added back.", required=True),
        Column("largest", "number", "Largest.", required=True),
    ),
    primary_key=("step",),
)

ENCODED = TableSchema(
    name="worldmodel-encoded",
    version=1,
    description="Errors of prediction in an encoder's ball and of what is decoded there, one horizon a row.",
    columns=(
        Column("horizon", "integer", "Steps ahead.", required=True),
        Column("distance", "number", "Mean hyperbolic distance from the encoder's points.", required=True),
        Column("standard_error", "number", "Of it, over trajectories."),
        Column("still", "number", "Distance if nothing moves.", required=True),
        Column(
            "displaced",
            "number",
            "What a start 1e-3 of the scatter off grows to, by the model: a distance.",
            required=True,
        ),
        Column(
            "decoded",
            "number",
            "Error of the frame decoded by codes, without texture, in scatters of the test frames.",
            required=True,
        ),
        Column("decoded_error", "number", "Standard error of it, by the jackknife over trajectories."),
        Column("floor", "number", "The same error of what the encoder makes of the frame.", required=True),
        Column("decoded_still", "number", "The same if nothing moves.", required=True),
        Column("windows", "integer", "How many.", required=True),
    ),
    primary_key=("horizon",),
)

WORLD_SCHEMAS = {s.identifier: s for s in (OPEN_LOOP, CURVES, PATHS, ENERGY, ENCODED)}
