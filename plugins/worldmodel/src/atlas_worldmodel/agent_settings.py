"""How an agent learns: sizes and schedule."""

from __future__ import annotations

from attrs import frozen

__all__ = ["AgentSettings"]


@frozen
class AgentSettings:
    """How an agent learns.

    Attributes:
        improvement: `imagination`, through the world model, or `reinforce`, by the score of what was played.
        round_transitions: Transitions that a round adds at least, in whole episodes.
        blind_rounds: Rounds whose actions do not depend on the state.
        members: Of the ensemble.
        world_hidden: Width of a member.
        policy_hidden: Width of policy and value.
        fit_steps: Steps of the world model a round.
        fit_batch: Transitions of a step and member.
        fit_rate: Learning rate of the world model at a round's beginning; it falls to a tenth.
        improve_steps: Steps of policy and value a round. By REINFORCE they are the value's: the policy takes
            one, since what was played speaks of the policy that played it alone.
        improve_batch: Paths of a step, a multiple of the members.
        horizon: Steps of a path.
        discount: Of the return, per step.
        trace: lambda of TD(lambda).
        rate: Learning rate of policy and value.
        clip: Greatest norm of a gradient.
        value_lag: Share of the old in the slow copy of the value, at each step.
    """

    improvement: str
    round_transitions: int
    blind_rounds: int
    members: int
    world_hidden: int
    policy_hidden: int
    fit_steps: int
    fit_batch: int
    fit_rate: float
    improve_steps: int
    improve_batch: int
    horizon: int
    discount: float
    trace: float
    rate: float
    clip: float
    value_lag: float
