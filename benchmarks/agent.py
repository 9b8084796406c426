"""Returns of agents that learn by imagination, beside planners and variants of themselves.

    python benchmarks/agent.py measure TASK [--variant NAME] [--seed N ...] [--seconds S]
    python benchmarks/agent.py rows
    python benchmarks/agent.py table

TASK is pendulum or cartpole; their settings are those of manifests/agent-*.yaml. `measure` trains and keeps
what came out, a file an agent, below results/agent/; `rows` writes the result rows from these files and
`table` prints the ablation. After the last round of a pendulum, a planner (cross-entropy method, horizon 20,
48 plans, 2 refinements) acts with the agent's own world models, and with the simulator's equations, from the
same starts: what planning at each step would reach. The reward that all but the latter see is learned. The
variant `mechanical world` of the pendulum is manifests/agent-pendulum-mechanical.yaml, and `encoded world`
agent-pendulum-encoded.yaml, run with that seed for one agent: an agent's steps of the environment are those
that its world, and its encoder, are learned from.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from atlas_worldmodel.agent import Agent
from atlas_worldmodel.agent_instrument import agent_of
from atlas_worldmodel.collection import Law, collect, draw_actions, planned, play
from atlas_worldmodel.environments import Environment, open_environment
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.given_world import GivenWorld
from atlas_worldmodel.mechanical_world import MechanicalWorld
from atlas_worldmodel.observation_chart import coordinates_of
from atlas_worldmodel.world_terms import WORLD_TERMS
from atlas_worldmodel.world_training import Schedule, WorldFit, fitted_model
from attrs import frozen
from rows import RESULTS, result_row, versions, write

from atlas.objective import Objective
from atlas.randomness import RandomStreams
from atlas.record import open_record

ROOT = Path(__file__).resolve().parent.parent
KEPT = RESULTS / "agent"
PACKAGES = ("atlas-worldmodel", "torch", "gymnasium", "dm-control", "mujoco")
STARTS = tuple(range(8))

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "agent": {},
    "without zeno": {"loss": {"policy-zeno": 0.0}},
    "without entropy": {"loss": {"policy-entropy": 0.0}},
    "one world model": {"learning": {"members": 1}},
    "value alone, no path": {"learning": {"trace": 0.0}},
    "reinforce": {"improvement": "reinforce"},
    "mechanical world": {"world": "mechanical"},
    "encoded world": {"world": "mechanical"},
}
"""What each changes of the manifest."""


@frozen
class Task:
    """A task with its settings.

    Attributes:
        manifest: File of its settings.
        steps: Steps of the environment after which it is judged.
        floor: Return that must be reached.
        ambition: Return that would be good.
    """

    manifest: str
    steps: int
    floor: float
    ambition: float


TASKS = {
    "pendulum": Task("agent-pendulum.yaml", 1000, -160.0, -140.0),
    "cartpole": Task("agent-cartpole-swingup.yaml", 100_000, 500.0, 830.0),
}


def parameters(task: Task, variant: str) -> dict[str, Any]:
    """Return the manifest's parameters, the card's defaults filled in, with a variant's changes."""
    manifest = yaml.safe_load((ROOT / "manifests" / task.manifest).read_text("utf-8"))
    given = manifest["steps"][0]["params"]
    for key, value in VARIANTS[variant].items():
        given[key] = {**given.get(key, {}), **value} if isinstance(value, Mapping) else value
    return _filled(schema("agent"), given)


def schema(instrument: str) -> Mapping[str, Any]:
    """Return what the card says of an instrument's parameters."""
    card = ROOT / "plugins/worldmodel/src/atlas_worldmodel/atlas-plugin.yaml"
    provided: Mapping[str, Any] = yaml.safe_load(card.read_text("utf-8"))["provides"]
    params: Mapping[str, Any] = provided["instruments"][instrument]["params"]
    return params


def _filled(schema: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(given)
    for name, part in schema["properties"].items():
        if name not in values and "default" in part:
            values[name] = part["default"]
        if name in values and "properties" in part:
            values[name] = _filled(part, values[name])
    return values


def measure(name: str, variant: str, seed: int, seconds: float) -> None:
    """Train one agent and keep its returns; it ends early where the seconds are over."""
    if variant == "encoded world":
        keep(name, variant, seed, measured_in_encoded_world(seed))
        return
    torch.set_num_threads(1)
    task = TASKS[name]
    params = parameters(task, variant)
    repeat = params["action_repeat"]
    environment = open_environment(params["environment"], repeat)
    states = params["evaluation"].get("states")
    begun = time.process_time()
    given = learned(environment, seed) if params["world"] == "mechanical" else None
    agent = agent_of(params, environment, RandomStreams(seed), given)
    curve: list[dict[str, Any]] = []
    while agent.round < params["rounds"] and time.process_time() - begun < seconds:
        agent.advance(_silent)
        last = agent.round == params["rounds"] or time.process_time() - begun >= seconds
        if agent.round % params["evaluation"]["every"] == 0 or last:
            returns = agent.returns(STARTS, states)
            curve.append({"steps": agent.transitions * repeat, "returns": list(returns)})
            print(name, variant, seed, curve[-1]["steps"], f"{statistics.mean(returns):.1f}", flush=True)
    found: dict[str, Any] = {"curve": curve, "cpu_s": time.process_time() - begun}
    if name == "pendulum" and variant == "agent":
        found["planner"] = planned_returns(_through(agent), states, seed)
        found["true planner"] = planned_returns(_pendulum, states, seed)
    keep(name, variant, seed, found)


def keep(name: str, variant: str, seed: int, found: Mapping[str, Any]) -> None:
    """Write what came out of one agent."""
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / f"{name}-{variant.replace(' ', '-').replace(',', '')}-{seed}.json"
    path.write_text(json.dumps({**found, "seed": seed, "versions": versions(PACKAGES)}) + "\n", "utf-8")


def measured_in_encoded_world(seed: int) -> dict[str, Any]:
    """Run the manifest of encoded worlds for one agent and return its returns, and its world's errors."""
    manifest = ROOT / "manifests" / "agent-pendulum-encoded.yaml"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from atlas.cli import main; main()", "run", str(manifest)]
        given = ["--set", f"seed={seed}", "--set", "steps.agent.params.repetitions=1"]
        before = _cpu_of_children()
        subprocess.run([*command, *given], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (run,) = (path.parent for path in Path(folder).glob("runs/*/report.html"))
        view = open_record(run)
        rounds: dict[tuple[int, int], list[float]] = {}
        for row in view.tables("agent")["returns"]:
            rounds.setdefault((row["round"], row["environment_steps"]), []).append(row["return"])
        return {
            "curve": [{"steps": steps, "returns": returns} for (_, steps), returns in rounds.items()],
            "cpu_s": _cpu_of_children() - before,
            "encoded": [dict(row) for row in view.tables("world")["encoded"]],
        }


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def learned(environment: Environment, seed: int) -> GivenWorld:
    """Return a world of a pendulum as manifests/agent-pendulum-mechanical.yaml learns it."""
    manifest = yaml.safe_load((ROOT / "manifests/agent-pendulum-mechanical.yaml").read_text("utf-8"))
    gathered, params = (step["params"] for step in manifest["steps"][:2])
    random = RandomStreams(seed)
    data = collect(
        environment, transitions=gathered["transitions"], steps=gathered["steps"], law=Law(), random=random
    )
    params = _filled(schema("worldmodel"), params)
    known, _ = data.split(0.2, random.generator("split"))
    named, sizes = coordinates_of(params["coordinates"], data.observation_size), params["model"]
    model = fitted_model(
        named,
        known,
        FieldSizes(sizes["hidden"], sizes["field"]),
        bound_speed=sizes["bound_speed"],
        random=random,
    )
    schedule = Schedule(**params["schedule"])
    fit = WorldFit(model, known, Objective(WORLD_TERMS.values(), params["loss"]), schedule, random)
    while fit.step < schedule.steps:
        fit.advance()
    world = MechanicalWorld(model.eval(), {})
    world.normalise(data)
    return GivenWorld(world, data, environment, data.transitions)


def _silent(*message: Any, **figures: Any) -> None:
    """Take progress and say nothing."""


# The planner

Model = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Observations `[B, 3]` and actions in -1 .. 1 `[B, 1]` to the next observations and rewards."""


def _pendulum(observation: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The simulator's equations: g = 10, m = l = 1, dt = 0.05."""
    torque = 2 * action[:, 0]
    angle = torch.atan2(observation[:, 1], observation[:, 0])
    speed = observation[:, 2]
    reward = -(angle.square() + 0.1 * speed.square() + 0.001 * torque.square())
    speed = (speed + (15 * angle.sin() + 3 * torque) * 0.05).clamp(-8, 8)
    angle = angle + 0.05 * speed
    return torch.stack([angle.cos(), angle.sin(), speed], 1), reward


def _through(agent: Agent) -> Model:
    def model(observation: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        after = agent.world.step(observation, action)
        return after.state, after.reward

    return model


@torch.no_grad()
def planned_returns(model: Model, states: Sequence[Sequence[float]], seed: int) -> list[float]:
    """Return what a planner reaches from the simulator's states, all at once."""
    environments = [open_environment("Pendulum-v1") for _ in states]
    seen = np.stack([e.reset(0, s) for e, s in zip(environments, states, strict=True)])
    horizon, plans, elite = 20, 50, 6
    generator = torch.Generator().manual_seed(seed)
    mean = torch.zeros(len(states), horizon)
    returns = np.zeros(len(states))
    for _ in range(environments[0].time_limit):
        spread = torch.full_like(mean, 0.6)
        for _ in range(2):
            drawn = torch.randn(plans, *mean.shape, generator=generator)
            actions = (mean + spread * drawn).clamp(-1, 1)
            state = torch.from_numpy(seen).expand(plans, -1, -1).reshape(-1, 3)
            worth = torch.zeros(len(state))
            for step in range(horizon):
                state, reward = model(state, actions[:, :, step].reshape(-1, 1))
                worth += reward
            best = worth.view(plans, -1).topk(elite, 0).indices
            chosen = actions.gather(0, best.unsqueeze(-1).expand(-1, -1, horizon))
            mean, spread = chosen.mean(0), chosen.std(0) + 0.025
        outcomes = [e.step(2 * a) for e, a in zip(environments, mean[:, :1].numpy(), strict=True)]
        seen = np.stack([outcome.observation for outcome in outcomes])
        returns += [outcome.reward for outcome in outcomes]
        mean = torch.cat([mean[:, 1:], torch.zeros(len(states), 1)], 1)
    return returns.tolist()


# Rows


def blind_return(task: Task) -> float:
    """Return the mean return of actions drawn under the manifest's law."""
    params = parameters(task, "agent")
    environment = open_environment(params["environment"], params["action_repeat"])
    limit, law, found = environment.time_limit, Law(**params["law"]), []
    for number in STARTS:
        draws = RandomStreams(0).generator("blind", number)
        act = planned(draw_actions(law, environment.action_space, 1, limit, draws)[0])
        found.append(float(play(environment, act, steps=limit, seed=number).rewards.sum()))
    return statistics.mean(found)


def kept(name: str, variant: str) -> list[dict[str, Any]]:
    """Return what was kept of a variant, by seed."""
    stem = f"{name}-{variant.replace(' ', '-').replace(',', '')}-"
    files = [p for p in KEPT.glob(f"{stem}*.json") if p.stem.removeprefix(stem).isdigit()]
    return sorted((json.loads(p.read_text("utf-8")) for p in files), key=lambda found: found["seed"])


def last_means(name: str, variant: str) -> list[float]:
    """Return each agent's mean return over the starts at its last evaluation."""
    return [statistics.mean(found["curve"][-1]["returns"]) for found in kept(name, variant)]


def rows() -> list[dict[str, Any]]:
    """Return the rows of what was kept."""
    made = []
    for name, task in TASKS.items():
        agents = kept(name, "agent")
        if not agents:
            continue
        means = last_means(name, "agent")
        value = statistics.mean(means)
        steps = max(found["curve"][-1]["steps"] for found in agents)
        baseline = blind_return(task)
        against = "actions drawn blind, held for 5 steps, from the same starts"
        if name == "pendulum":
            baseline = statistics.mean(statistics.mean(found["planner"]) for found in agents)
            ceiling = statistics.mean(statistics.mean(found["true planner"]) for found in agents)
            against = (
                f"a cross-entropy planner with the same world models; with the simulator's own equations it "
                f"reaches {ceiling:.1f}"
            )
        seconds = statistics.mean(found["cpu_s"] for found in agents)
        row = result_row(
            f"agent.{name}",
            f"mean return of the latent policy's mean force from 8 fixed starts after {steps} steps of "
            f"the environment, no planner; {seconds:.0f} s of CPU an agent; sd over agents",
            value,
            unit="return",
            target=f">= {task.floor:g}, ambition {task.ambition:g}",
            met=value >= task.floor and steps <= task.steps,
            sd=statistics.stdev(means) if len(means) > 1 else None,
            n=len(means),
            baseline=baseline,
            baseline_version=against,
            packages=PACKAGES,
            machine="x86_64, 1 thread an agent, Linux",
        )
        made.append({**row, "versions": agents[0]["versions"]})
        if name == "pendulum":
            made += given_world_row(task, "mechanical world", "a mechanical world", value, within=True)
            through = "a mechanical world in the ball of an encoder"
            made += given_world_row(task, "encoded world", through, value, within=False)
    return made


def given_world_row(
    task: Task, variant: str, told: str, baseline: float, *, within: bool
) -> list[dict[str, Any]]:
    """Return the row of agents that imagine through a world that they were given, where there are any."""
    agents = kept("pendulum", variant)
    if not agents:
        return []
    means = last_means("pendulum", variant)
    value = statistics.mean(means)
    steps = max(found["curve"][-1]["steps"] for found in agents)
    seconds = statistics.mean(found["cpu_s"] for found in agents)
    row = result_row(
        f"agent.pendulum-{variant.split()[0]}",
        f"the same of agents that imagine through {told}, learned anew for each from {steps} "
        f"blind steps; {seconds:.0f} s of CPU an agent, its world's among them; sd over agents",
        value,
        unit="return",
        target=f">= {task.floor:g}, ambition {task.ambition:g}" if within else "none; a comparison",
        met=value >= task.floor and steps <= task.steps if within else None,
        sd=statistics.stdev(means) if len(means) > 1 else None,
        n=len(means),
        baseline=baseline,
        baseline_version="agents that imagine through their own ensembles, the first row",
        packages=PACKAGES,
        machine="x86_64, 1 thread an agent, Linux",
    )
    return [{**row, "versions": agents[0]["versions"]}]


def table() -> str:
    """Return the ablation on the pendulum as text."""
    lines = ["| variant | return | sd over agents | agents |", "| --- | --- | --- | --- |"]
    for variant in VARIANTS:
        means = last_means("pendulum", variant)
        if means:
            sd = statistics.stdev(means) if len(means) > 1 else math.nan
            lines.append(f"| {variant} | {statistics.mean(means):.1f} | {sd:.1f} | {len(means)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("action", choices=["measure", "rows", "table"])
    parser.add_argument("task", nargs="?", choices=list(TASKS))
    parser.add_argument("--variant", default="agent", choices=list(VARIANTS))
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=math.inf)
    given = parser.parse_args()
    if given.action == "measure":
        for seed in given.seed:
            measure(given.task, given.variant, seed, given.seconds)
    elif given.action == "rows":
        write(rows(), RESULTS / "agent.json")
    else:
        print(table())


if __name__ == "__main__":
    main()
