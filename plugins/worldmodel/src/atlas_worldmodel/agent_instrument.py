"""The instrument `agent`: agents that learn from scratch, and their returns from fixed starts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from atlas_topoencoder.devices import PLAIN, Device, open_device
from attrs import field, frozen

from atlas.contracts import StepContext
from atlas.errors import BadInput
from atlas.objective import Objective
from atlas.randomness import RandomStreams, derive_seed
from atlas_worldmodel.agent import Agent
from atlas_worldmodel.agent_checkpoint import encode_actor, encode_agent, read_agent
from atlas_worldmodel.agent_settings import AgentSettings
from atlas_worldmodel.collect_instrument import mean_quantity
from atlas_worldmodel.collection import Law, draw_actions, planned, play
from atlas_worldmodel.environments import Environment, open_environment
from atlas_worldmodel.given_world import GivenWorld, given_world
from atlas_worldmodel.policy_terms import POLICY_TERMS

__all__ = ["agent_of", "objective_of", "run"]

_TASKS = {"imagination": "policy-imagination", "reinforce": "policy-reinforce"}


@frozen
class _Starts:
    """Fixed starts of an evaluation: seeds, or the simulator's states."""

    seeds: tuple[int, ...]
    states: tuple[tuple[float, ...], ...] | None = None


@frozen
class _Kept:
    """Where an agent's state is kept, with what was noted so far.

    Attributes:
        path: Of the file.
        identity: All that the numbers depend on besides the state.
        returns: Rows of the table of returns.
        learning: Rows of the table of figures.
    """

    path: Path
    identity: str
    returns: list[dict[str, Any]] = field(factory=list)
    learning: list[dict[str, Any]] = field(factory=list)


def run(context: StepContext) -> None:
    """Train agents and measure their returns.

    Raises:
        BadInput: Parameters do not fit each other or the environment.
        InstrumentFailed: The environment raised, or a loss is not finite.
    """
    params = context.params
    torch.set_num_threads(context.threads)
    torch.use_deterministic_algorithms(True)
    environment = open_environment(params["environment"], params["action_repeat"])
    starts = _starts(params["evaluation"], context.random)
    for state in starts.states or ():
        environment.reset(0, state)  # refuses one that does not fit before anything is trained
    given = given_world(context, environment) if params["world"] == "mechanical" else None
    device = open_device(params["device"], "float32", compiles=params["compile"])
    context.fact("device", device.name)
    context.fact("environment", f"{environment.source}, {environment.name}")
    context.fact("torch", torch.__version__)
    context.fact("start.seeds", " ".join(str(seed) for seed in starts.seeds))
    if given is not None:
        context.fact("trajectories", given.world.facts["trajectories"])
        environment = given.environment
    returns: list[dict[str, Any]] = []
    learning: list[dict[str, Any]] = []
    last: list[float] = []
    for number in range(params["repetitions"]):
        random = RandomStreams(derive_seed(context.random.seed, f"agent {number}"))
        kept = _trained(context, agent_of(params, environment, random, given, device), starts, number)
        returns += kept.returns
        learning += kept.learning
        final = [row["return"] for row in kept.returns if row["round"] == params["rounds"]]
        last.append(float(np.mean(final)))
    context.table("returns", returns)
    context.table("learning", learning)
    if len(last) > 1:
        context.record(mean_quantity("final_return", np.array(last), "agents"))
    else:
        context.record(mean_quantity("final_return", np.array(final), "starts of one agent"))
    context.record(mean_quantity("blind_return", _blind(context, environment, starts), "starts"))


def agent_of(
    params: Mapping[str, Any],
    environment: Environment,
    random: RandomStreams,
    given: GivenWorld | None = None,
    device: Device = PLAIN,
) -> Agent:
    """Return an agent before its first round, from the instrument's parameters.

    Args:
        params: Of the instrument.
        environment: Where it acts.
        random: Of everything that is drawn.
        given: A world that was learned before; None for one of its own.
        device: Where it learns.

    Raises:
        BadInput: Parameters do not fit each other.
    """
    settings = AgentSettings(improvement=params["improvement"], **params["learning"])
    if given is not None and settings.improvement == "reinforce":
        raise BadInput(
            "REINFORCE learns from what its policy plays, and with a given world nothing is played",
            where="world",
            fix="set `improvement: imagination`, or `world: ensemble`",
        )
    if given is None and settings.improve_batch % settings.members:
        raise BadInput(
            f"{settings.improve_batch} paths cannot be shared by {settings.members} members",
            where="learning.improve_batch",
            fix=f"give a multiple of {settings.members}",
        )
    if params["rounds"] <= settings.blind_rounds and settings.improvement == "reinforce":
        raise BadInput(
            f"REINFORCE learns from rounds that its policy plays, and all {params['rounds']} are blind",
            where="learning.blind_rounds",
        )
    objective = objective_of(params["improvement"], params["loss"])
    return Agent(environment, settings, objective, random, Law(**params["law"]), given, device)


def objective_of(improvement: str, weights: Mapping[str, float]) -> Objective:
    """Return the sum of the task's term and the others by weight.

    Raises:
        BadInput: A name or weight cannot be meant.
    """
    unused = next(term for way, term in _TASKS.items() if way != improvement)
    if unused in weights:
        raise BadInput(
            f"improvement by {improvement} does not read the term {unused!r}",
            where=f"loss.{unused}",
            fix=f"leave it out, or set `improvement` to the way that {unused!r} belongs to",
        )
    return Objective([term for name, term in POLICY_TERMS.items() if name != unused], weights)


def _starts(params: Mapping[str, Any], random: RandomStreams) -> _Starts:
    states = params.get("states")
    if states is not None:
        return _Starts(tuple(range(len(states))), tuple(tuple(state) for state in states))
    seeds = random.generator("evaluation starts").integers(2**31, size=params["starts"])
    return _Starts(tuple(int(seed) for seed in seeds))


def _trained(context: StepContext, agent: Agent, starts: _Starts, number: int) -> _Kept:
    """Train one agent, from its kept state where there is one, and keep its final weights."""
    params = context.params
    identity = json.dumps({"params": dict(params), "seed": agent.random.seed, "torch": torch.__version__})
    kept = _resume(agent, _Kept(context.keep / f"agent{number}.safetensors", identity))
    rounds, every = params["rounds"], params["evaluation"]["every"]

    def progress(message: str, **figures: Any) -> None:
        share = figures.pop("done") / max(1, figures.pop("total"))
        done = 100 * (number * rounds + agent.round) + round(100 * share)
        context.progress(
            f"agent {number + 1}, round {agent.round + 1} of {rounds}: {message}",
            done=min(done, 100 * rounds * params["repetitions"]),
            total=100 * rounds * params["repetitions"],
            **figures,
        )

    while agent.round < rounds:
        figures = agent.advance(progress)
        for name, value in figures.items():
            kept.learning.append({"repetition": number, "round": agent.round, "figure": name, "value": value})
        if agent.round % every == 0 or agent.round == rounds:
            for start, found in enumerate(agent.returns(starts.seeds, starts.states)):
                kept.returns.append(
                    {
                        "repetition": number,
                        "round": agent.round,
                        "environment_steps": agent.transitions * params["action_repeat"],
                        "start": start,
                        "return": found,
                    }
                )
        _save(agent, kept)
    context.attach(f"agent{number}.safetensors", encode_actor(agent))
    return kept


def _save(agent: Agent, kept: _Kept) -> None:
    """Put the state in place of the one before, whole or not at all."""
    facts = {
        "identity": kept.identity,
        "round": agent.round,
        "returns": kept.returns,
        "learning": kept.learning,
    }
    fresh = kept.path.with_suffix(".part")
    fresh.write_bytes(encode_agent(agent.state(), facts))
    fresh.replace(kept.path)


def _resume(agent: Agent, kept: _Kept) -> _Kept:
    """Bring an agent to its kept state, if there is one that fits; else it begins anew."""
    if not kept.path.is_file():
        return kept
    try:
        tensors, facts = read_agent(kept.path)
    except BadInput:
        return kept  # torn by the kill: the agent begins anew, and its numbers are the same
    if facts["identity"] != kept.identity:
        return kept
    agent.restore(tensors, facts["round"])
    return _Kept(kept.path, kept.identity, facts["returns"], facts["learning"])


def _blind(context: StepContext, environment: Environment, starts: _Starts) -> np.ndarray:
    """Return the returns of actions drawn under the law, from the same starts."""
    limit, law = environment.time_limit, Law(**context.params["law"])
    found: list[float] = []
    for number, seed in enumerate(starts.seeds):
        draws = context.random.generator("blind evaluation", number)
        act = planned(draw_actions(law, environment.action_space, 1, limit, draws)[0])
        state: Sequence[float] | None = None if starts.states is None else starts.states[number]
        episode = play(environment, act, steps=limit, seed=seed, state=state)
        found.append(float(episode.rewards.sum(dtype=np.float64)))
    return np.array(found)
