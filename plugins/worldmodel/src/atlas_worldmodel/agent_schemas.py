"""The tables of collecting and of agents."""

from __future__ import annotations

from atlas.tables import Column, TableSchema

__all__ = ["AGENT_SCHEMAS", "EPISODES", "LEARNING", "RETURNS"]

_REPETITION = Column("repetition", "integer", "Number of the agent, from 0.", required=True)
_ROUND = Column("round", "integer", "Rounds done.", required=True)

EPISODES = TableSchema(
    name="worldmodel-episodes",
    version=1,
    description="Trajectories of a file, one a row.",
    columns=(
        Column("trajectory", "integer", "Its number in the file, from 0.", required=True),
        Column("transitions", "integer", "Its steps.", required=True),
        Column("return", "number", "Sum of its rewards.", required=True),
        Column("terminated", "boolean", "It ended in a state from which nothing follows.", required=True),
        Column("truncated", "boolean", "It was cut by the limit of time.", required=True),
    ),
    primary_key=("trajectory",),
)

RETURNS = TableSchema(
    name="worldmodel-returns",
    version=1,
    description="Undiscounted returns of mean forces from fixed starts, as an agent learns.",
    columns=(
        _REPETITION,
        _ROUND,
        Column(
            "environment_steps", "integer", "Steps of the environment that it learned from.", required=True
        ),
        Column("start", "integer", "Number of the start, from 0.", required=True),
        Column("return", "number", "Sum of the rewards.", required=True),
    ),
    primary_key=("repetition", "round", "start"),
)

LEARNING = TableSchema(
    name="worldmodel-learning",
    version=1,
    description="Figures of each round: loss terms before their weight at its end, and what it played.",
    columns=(
        _REPETITION,
        _ROUND,
        Column(
            "figure",
            "string",
            "A loss term, `world` for the model's loss, or `played_return`.",
            required=True,
        ),
        Column("value", "number", "Its value.", required=True),
    ),
    primary_key=("repetition", "round", "figure"),
)

AGENT_SCHEMAS = {s.identifier: s for s in (EPISODES, RETURNS, LEARNING)}
