"""World models made of covariant attention: one whose every operator is a head, one whose forces are.

Both look at the same tokens: the atlas, a token at each chart's centre with learned vectors and scalars, and
the memory, a token at each point lately passed with its velocity and action. `HeadsWorld` takes kick, drift
and thermostat each from a head of its own, as seed 002, section 4.D, describes. `ForcesWorld` keeps what is
known exactly, the geodesic flight, and learns force, turn and friction. Time is counted in steps of the
environment.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from atlas_topoencoder.geometry import conformal_factor, gyration
from torch import nn
from torch.nn import functional

from atlas.randomness import RandomStreams
from atlas_worldmodel.attention import CovariantHead, Sizes, Tokens, draw_attention, see
from atlas_worldmodel.integrator import Dynamics
from atlas_worldmodel.potentials import Potential, gradient
from atlas_worldmodel.rollouts import Memory, limited
from atlas_worldmodel.splitting import State, drift, kick, rotate

__all__ = [
    "Advance",
    "AtlasTokens",
    "AttentionForces",
    "ForcesWorld",
    "HeadsWorld",
    "Pull",
    "dynamics_of",
]


class AtlasTokens(nn.Module):
    """The tokens that heads attend to, from the atlas and from the memory.

    Args:
        charts: N_c.
        sizes: Of the heads.
        actions: Numbers of an action, A.
        memory: Points that are remembered, M.
    """

    def __init__(self, charts: int, sizes: Sizes, *, actions: int, memory: int) -> None:
        super().__init__()
        self.frames = nn.Parameter(torch.empty(charts, sizes.token_vectors, sizes.latent))
        self.marks = nn.Parameter(torch.empty(charts, sizes.token_scalars))
        self.lift = nn.Parameter(torch.empty(sizes.token_vectors, 1))
        self.ages = nn.Parameter(torch.empty(memory, sizes.token_scalars))
        self.action = nn.Parameter(torch.empty(sizes.token_scalars, actions))

    def forward(self, centers: torch.Tensor, memory: Memory) -> Tokens:
        """Return the tokens of chart centres `[N_c, D]` and a memory: N_c + M of them."""
        batch = memory.points.shape[0]
        passed = self.ages + functional.linear(memory.actions, self.action)
        return Tokens(
            torch.cat((centers.expand(batch, -1, -1), memory.points), 1),
            torch.cat(
                (self.frames.expand(batch, -1, -1, -1), self.lift * memory.velocities.unsqueeze(-2)), 1
            ),
            torch.cat((self.marks.expand(batch, -1, -1), passed), 1),
        )


class Pull(NamedTuple):
    """What acts at points.

    Attributes:
        force: A covector, `[B, D]`.
        field: A two-form that turns velocities, `[B, D, D]`.
        friction: Rate at which velocities are forgotten, `[B, 1]`, positive.
    """

    force: torch.Tensor
    field: torch.Tensor
    friction: torch.Tensor


class AttentionForces(nn.Module):
    """The kick head as a source of forces: a covector, a turning two-form and a friction at a point.

    They depend on the position, the action and the tokens, and not on the velocity, so that a kick is what it
    is called. The force is no gradient of a potential and the two-form is not closed: nothing is conserved
    by construction but the speed under the turn.

    Args:
        sizes: Of the head.
        planes: Pairs of vectors that span the two-form.
    """

    def __init__(self, sizes: Sizes, planes: int = 2) -> None:
        super().__init__()
        self.head = CovariantHead(sizes._replace(site_vectors=0), vectors=1 + 2 * planes, scalars=1)

    def forward(self, z: torch.Tensor, origin: torch.Tensor, action: torch.Tensor, tokens: Tokens) -> Pull:
        """Return what acts at points `[B, D]` under actions `[B, A]`."""
        seen = see(z, tokens)
        vectors, said = self.head(z, origin, z.unsqueeze(-2)[:, :0], action, seen, tokens.scalars)
        ahead, beside = vectors[:, 1:].chunk(2, 1)
        plane = ahead.mT @ beside
        factor = conformal_factor(z)
        field = factor.unsqueeze(-1).square() * (plane - plane.mT)
        return Pull(factor * vectors[:, 0], field, functional.softplus(said - 2.0))


def dynamics_of(
    forces: AttentionForces, origin: torch.Tensor, action: torch.Tensor, tokens: Tokens
) -> Dynamics:
    """Return dynamics for `integrator.simulate` in which attention pushes and turns, without its friction.

    The push does work, which the integrator books.

    Args:
        forces: Of the kick head.
        origin: `[D]`.
        action: `[B, A]`, held.
        tokens: Of the particles, held.
    """
    return Dynamics(
        field=lambda z: forces(z, origin, action, tokens).field,
        policy=lambda z: forces(z, origin, action, tokens).force,
    )


class Advance(NamedTuple):
    """A step, with the energy that came in on it, `[B]`: work of attention's force, and heat of the friction.

    What the energy changes beyond their sum is the step's error.
    """

    state: State
    work: torch.Tensor
    heat: torch.Tensor


class ForcesWorld(nn.Module):
    """The explicit step B R A O A R B with forces and friction from attention.

    The friction is that of the point where the step begins.

    Args:
        charts: N_c.
        sizes: Of the heads; `site_vectors` 1, `site_scalars` the numbers of an action.
        memory: Points that are remembered, M.
        random: Streams that the initial weights are drawn from.
        potential: Whose negative gradient pushes too; its parameters are not this module's. None for none.
    """

    def __init__(
        self,
        charts: int,
        sizes: Sizes,
        *,
        memory: int,
        random: RandomStreams,
        potential: Potential | None = None,
    ) -> None:
        super().__init__()
        self.tokens = AtlasTokens(charts, sizes, actions=sizes.site_scalars, memory=memory)
        self.forces = AttentionForces(sizes)
        self.potential = potential
        draw_attention(self, random)

    def begin(
        self,
        state: State,
        before: torch.Tensor,
        memory: Memory,
        centers: torch.Tensor,
        origin: torch.Tensor,
    ) -> State:
        """Return the state at a point reached with a velocity: what its last step ended with.

        A step that arrives with the mean velocity of its two flights has half its friction and half a kick
        still to come.
        """
        acts = self.forces(state.z, origin, before, self.tokens(centers, memory))
        return _settled(state, acts.friction, self.total(state.z, acts))

    def forward(
        self,
        state: State,
        action: torch.Tensor,
        memory: Memory,
        centers: torch.Tensor,
        origin: torch.Tensor,
    ) -> State:
        """Return the state a step later."""
        return self.advance(state, action, memory, centers, origin).state

    def advance(
        self,
        state: State,
        action: torch.Tensor,
        memory: Memory,
        centers: torch.Tensor,
        origin: torch.Tensor,
    ) -> Advance:
        """Return the state a step later, with work and heat; the arguments are those of `forward`."""
        tokens = self.tokens(centers, memory)
        before = self.forces(state.z, origin, action, tokens)
        kicked = kick(state, self.total(state.z, before), 0.5)
        work = _work(before.force, state, kicked)
        flying = drift(limited(rotate(kicked, before.field, 0.5)), 0.5)
        slowed = State(flying.z, flying.w * torch.exp(-before.friction))
        arrived = drift(slowed, 0.5)
        after = self.forces(arrived.z, origin, action, tokens)
        turned = rotate(arrived, after.field, 0.5)
        kicked = kick(turned, self.total(arrived.z, after), 0.5)
        work = work + _work(after.force, turned, kicked)
        return Advance(limited(kicked), work, slowed.kinetic_energy - flying.kinetic_energy)

    def total(self, z: torch.Tensor, acts: Pull) -> torch.Tensor:
        """Return the covectors that push at points, attention's and the potential's, `[B, D]`."""
        if self.potential is None:
            return acts.force
        return acts.force - gradient(self.potential, z, graph=torch.is_grad_enabled())

    def energy(self, state: State) -> torch.Tensor:
        """Return kinetic and potential energy together, `[B]`."""
        kinetic = state.kinetic_energy
        return kinetic if self.potential is None else kinetic + self.potential(state.z)


class HeadsWorld(nn.Module):
    """A step whose kick, drift and thermostat are each a head of attention.

    The drift head adds a vector to the velocity along which the point moves, and the velocity is carried
    along that geodesic; the thermostat head says the friction at the middle of the step. At zero the heads
    give free flight with a small friction.

    Args:
        charts: N_c.
        sizes: As of `ForcesWorld`.
        memory: Points that are remembered, M.
        random: Streams that the initial weights are drawn from.
    """

    def __init__(self, charts: int, sizes: Sizes, *, memory: int, random: RandomStreams) -> None:
        super().__init__()
        self.tokens = AtlasTokens(charts, sizes, actions=sizes.site_scalars, memory=memory)
        self.kick = AttentionForces(sizes)
        self.drift = CovariantHead(sizes, vectors=1, scalars=0)
        self.thermostat = CovariantHead(sizes, vectors=0, scalars=1)
        draw_attention(self, random)

    def begin(
        self,
        state: State,
        before: torch.Tensor,
        memory: Memory,
        centers: torch.Tensor,
        origin: torch.Tensor,
    ) -> State:
        """Return the state at a point reached with a velocity; see `ForcesWorld.begin`."""
        tokens = self.tokens(centers, memory)
        acts = self.kick(state.z, origin, before, tokens)
        return _settled(state, self._friction(state, before, tokens, origin), acts.force)

    def forward(
        self,
        state: State,
        action: torch.Tensor,
        memory: Memory,
        centers: torch.Tensor,
        origin: torch.Tensor,
    ) -> State:
        """Return the state a step later."""
        tokens = self.tokens(centers, memory)
        before = self.kick(state.z, origin, action, tokens)
        state = limited(rotate(kick(state, before.force, 0.5), before.field, 0.5))
        state = self._drifted(state, origin, action, tokens)
        state = State(state.z, state.w * torch.exp(-self._friction(state, action, tokens, origin)))
        state = self._drifted(state, origin, action, tokens)
        after = self.kick(state.z, origin, action, tokens)
        return limited(kick(rotate(state, after.field, 0.5), after.force, 0.5))

    def _friction(
        self, state: State, action: torch.Tensor, tokens: Tokens, origin: torch.Tensor
    ) -> torch.Tensor:
        seen = see(state.z, tokens)
        _, said = self.thermostat(state.z, origin, state.w.unsqueeze(-2), action, seen, tokens.scalars)
        return functional.softplus(said - 2.0)

    def _drifted(self, state: State, origin: torch.Tensor, action: torch.Tensor, tokens: Tokens) -> State:
        seen = see(state.z, tokens)
        vectors, _ = self.drift(state.z, origin, state.w.unsqueeze(-2), action, seen, tokens.scalars)
        moved = drift(limited(State(state.z, state.w + vectors[:, 0])), 0.5)
        return State(moved.z, _carried(state.z, moved.z, state.w))


def _work(force: torch.Tensor, before: State, after: State) -> torch.Tensor:
    """Return the work of half a kick by a covector, `[B]`: half the force on the mean velocity."""
    shrink = 1 - before.z.square().sum(-1)
    return shrink / 4 * (force * (before.w + after.w) / 2).sum(-1)


def _settled(state: State, friction: torch.Tensor, force: torch.Tensor) -> State:
    """Return the state after what is left of a step with that mean velocity of its two flights."""
    kept = torch.exp(-friction)
    return limited(kick(State(state.z, state.w * (2 * kept / (1 + kept))), force, 0.5))


def _carried(z: torch.Tensor, there: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal vector after parallel transport along the geodesic."""
    return gyration(there, -z, w)
