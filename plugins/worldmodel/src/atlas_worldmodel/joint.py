"""The losses of the joint phase on one batch of sequences, each on the graph that the firewall gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from atlas_topoencoder.losses.terms import SLOT
from atlas_topoencoder.outputs import ModelOutputs
from attrs import frozen

from atlas.objective import Objective
from atlas_worldmodel.firewall import BASE, DYNAMICS, REGULARISER, Graphs, divide, loss_group

if TYPE_CHECKING:
    from atlas_topoencoder.companions import Companions
    from atlas_topoencoder.model import TopoEncoder
    from atlas_topoencoder.outputs import Encoding
    from atlas_topoencoder.views import Views

__all__ = ["AtlasTerms", "LatentSequence", "Viewing", "joint_losses", "latent_sequence"]

_VIEW_TERMS = {"orbit", "vicreg-invariance"}
_SHARED = {"centers", "centers_tangent", "codebook", "codebook_tangent"}
"""Fields of an encoding that belong to no example."""


class LatentSequence(NamedTuple):
    """What a world model is trained on; everything but `points` is constant.

    Attributes:
        points: `[B, T, D]`, in the ball; live in codes and structure filter, or constant.
        targets: The same points as constants.
        weights: Of the charts, `[B, T, N_c]`.
        charts: `[B, T]` int64.
        centers: Of the charts, `[N_c, D]`, in the ball.
        actions: `[B, T - 1, A]`; action t leads from frame t to frame t + 1.
        rewards: `[B, T - 1]`, of the same steps; None where they are not known.
    """

    points: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    charts: torch.Tensor
    centers: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor | None = None


DynamicsLoss = Callable[[LatentSequence], torch.Tensor]


@frozen
class AtlasTerms:
    """A TopoEncoder's terms by the firewall's column; None for a column without a term."""

    base: Objective | None
    regulariser: Objective | None

    @classmethod
    def of(cls, objective: Objective) -> AtlasTerms:
        """Return the terms of an objective, divided."""
        active = objective.active
        parts: dict[str, dict[str, float]] = {BASE: {}, REGULARISER: {}}
        for name, weight in active.items():
            parts[loss_group(objective.terms[name].group)][name] = weight
        made = {
            column: Objective([objective.terms[name] for name in weights], weights) if weights else None
            for column, weights in parts.items()
        }
        return cls(made[BASE], made[REGULARISER])


class Viewing(NamedTuple):
    """Other views of the examples, for the terms that compare them, drawn with a generator."""

    views: Views
    generator: Any


def latent_sequence(
    graphs: Graphs, actions: torch.Tensor, *, live: bool, encoding: Encoding
) -> LatentSequence:
    """Return the sequence of encoded frames `[B * T, ...]`.

    Args:
        graphs: Of the frames.
        actions: `[B, T - 1, A]`.
        live: Whether the points carry their graph.
        encoding: Of the frames.
    """
    shape = (actions.shape[0], actions.shape[1] + 1)
    points = graphs.dynamics if live else graphs.target
    return LatentSequence(
        torch.unflatten(points, 0, shape),
        torch.unflatten(graphs.target, 0, shape),
        torch.unflatten(encoding.weights.detach(), 0, shape),
        torch.unflatten(encoding.chart, 0, shape),
        encoding.centers.detach(),
        actions,
    )


def joint_losses(
    model: TopoEncoder,
    terms: AtlasTerms,
    dynamics: DynamicsLoss,
    x: torch.Tensor,
    actions: torch.Tensor,
    *,
    companions: Companions | None = None,
    viewing: Viewing | None = None,
) -> dict[str, torch.Tensor]:
    """Return the loss of each column of the firewall's table, before its weight.

    The sum of all, weighted, is differentiated once.

    Args:
        model: The encoder.
        terms: Of the atlas.
        dynamics: All of the world model's terms, weighted and summed.
        x: Frames, `[B, T, *shape]`.
        actions: `[B, T - 1, A]`.
        companions: Parameters of the atlas's terms.
        viewing: Needed by terms that compare views.
    """
    frames = x.flatten(0, 1)
    encoding = model.encode(frames)
    graphs = divide(model, encoding)
    losses: dict[str, torch.Tensor] = {}
    for column, objective, graph in (
        (BASE, terms.base, graphs.base),
        (REGULARISER, terms.regulariser, graphs.regulariser),
    ):
        if objective is not None:
            losses[column] = objective(
                {SLOT: _outputs(model, objective, graph, x, actions, companions, viewing)}
            ).total
    losses[DYNAMICS] = dynamics(latent_sequence(graphs, actions, live=True, encoding=encoding))
    return losses


def _outputs(
    model: TopoEncoder,
    objective: Objective,
    graph: Encoding,
    x: torch.Tensor,
    actions: torch.Tensor,
    companions: Companions | None,
    viewing: Viewing | None,
) -> ModelOutputs:
    """Return what terms read: all frames but each sequence's last, which is read as the next of another."""
    batch, length = x.shape[:2]
    number = torch.arange(batch * length, device=x.device).view(batch, length)
    here, later = number[:, :-1].flatten(), number[:, 1:].flatten()
    now, frames = _rows(graph, here), x.flatten(0, 1)[here]
    views: Mapping[str, Encoding] = {}
    if viewing is not None and _VIEW_TERMS & set(objective.active):
        seen = viewing.views.draw(frames, viewing.generator)
        views = {"view": divide(model, model.encode(seen)).base}
    return ModelOutputs(
        x=frames,
        encoding=now,
        decoding=model.decode(now.z_geo, now.z_tex),
        model=model,
        views=views,
        next=_rows(graph, later),
        actions=actions.flatten(0, 1),
        companions=companions,
    )


def _rows(encoding: Encoding, rows: torch.Tensor) -> Encoding:
    """Return the encoding of some of its examples."""
    taken: dict[str, Any] = {}
    for name in encoding._fields:
        value = getattr(encoding, name)
        if name not in _SHARED and value is not None:
            taken[name] = value[rows]
    return encoding._replace(**taken)
