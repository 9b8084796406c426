"""The firewall of the joint phase: which parameters each loss may train, and the audit that measures it.

The rule is a table. It is kept by the graphs that the losses are given, so that one backward pass suffices
and no gradient is edited afterwards: a loss cannot train what its graph does not contain. The table of seed
002, section 6.1, is honoured to the letter, its codebook row included, which editing gradients cannot give:
the latent point of the encoder is straight-through, and no loss on it reaches a code. Rows for the critic,
the decoder and the jump operator are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from atlas_topoencoder.points import exp0, log0_difference, point
from attrs import frozen
from torch import nn

from atlas.errors import BadInput, InstrumentFailed

if TYPE_CHECKING:
    from atlas_topoencoder.model import TopoEncoder
    from atlas_topoencoder.outputs import Encoding
    from atlas_topoencoder.quantiser import Quantised

__all__ = [
    "BASE",
    "DYNAMICS",
    "LOSSES",
    "PERMITTED",
    "REGULARISER",
    "Cell",
    "Graphs",
    "audit",
    "audit_text",
    "divide",
    "loss_group",
    "parameter_groups",
    "require_kept",
]

BASE = "base"
"""Quality of the atlas: all terms of a TopoEncoder but those of the nuisance."""
REGULARISER = "zn-reg"
"""Terms that act through the structure filter."""
DYNAMICS = "dynamics"
"""Terms of the world model."""
LOSSES = (BASE, REGULARISER, DYNAMICS)

_ENCODER = frozenset({BASE, REGULARISER})

PERMITTED: Mapping[str, frozenset[str]] = {
    "extractor": _ENCODER,
    "router": _ENCODER,
    "chart-centers": _ENCODER,
    "soft-equivariant": _ENCODER,
    "codebook": frozenset(LOSSES),
    "structure-filter": frozenset({REGULARISER, DYNAMICS}),
    "world-model": frozenset({DYNAMICS}),
    "critic": frozenset({DYNAMICS}),
    "decoder": frozenset({BASE}),
    "jump-operator": frozenset({REGULARISER}),
}
"""Losses that may train each group of parameters. Seed 002, section 6.1; the last three rows are ours."""

ASSIGNMENT_TEMPERATURE = 0.1
"""Of soft codes, in squared tangent units; that of the code terms."""


def loss_group(term_group: str) -> str:
    """Return the column that a loss term's gradient group belongs to.

    Supervised and sequence terms judge the atlas and stop at the straight-through code: they are base.
    """
    return term_group if term_group in (REGULARISER, DYNAMICS) else BASE


def parameter_groups(model: TopoEncoder, world: nn.Module | None = None) -> dict[str, list[nn.Parameter]]:
    """Return all parameters by the table's rows, each in one row; a row may be empty.

    A decoder's own router is part of the decoder, and a world model's `critic` is a row of its own.
    """
    centers = model.router.centers_tangent
    metric = model.quantiser.metric
    own = model.own_decoder_router
    parts = [] if world is None else list(world.named_parameters())
    return {
        "extractor": [
            *model.extractor.parameters(),
            *model.value.parameters(),
            *([] if model.detail is None else model.detail.parameters()),
        ],
        "router": [p for p in model.router.parameters() if p is not centers],
        "chart-centers": [centers],
        "soft-equivariant": [] if metric is None else list(metric.parameters()),
        "codebook": [model.quantiser.tangent],
        "structure-filter": list(model.structure_filter.parameters()),
        "world-model": [p for name, p in parts if not name.startswith("critic.")],
        "critic": [p for name, p in parts if name.startswith("critic.")],
        "decoder": [*model.decoder.parameters(), *([] if own is None else own.parameters())],
        "jump-operator": list(model.jump.parameters()),
    }


@frozen(eq=False)
class Graphs:
    """One batch of encodings, equal in value, each with the graph that its losses may use.

    Attributes:
        base: The structure filter's parameters are constant.
        regulariser: All live, and the latent point reaches codes and soft-equivariant metric too.
        dynamics: The latent point, live in codes and structure filter alone, `[B, D]`, in the ball.
        target: The latent point as a constant, `[B, D]`: what a prediction is compared with. A live target
            would move to where it is predicted, and the codes would collapse.
    """

    base: Encoding
    regulariser: Encoding
    dynamics: torch.Tensor
    target: torch.Tensor


def divide(model: TopoEncoder, encoding: Encoding) -> Graphs:
    """Return the graphs of a batch that the model has encoded.

    Args:
        model: Whose encoding it is.
        encoding: With its own graph, as `TopoEncoder.encode` returns it.
    """
    from atlas_topoencoder.model import compose

    e, radius = encoding, model.architecture.max_radius
    frozen_filter = {name: p.detach() for name, p in model.structure_filter.named_parameters()}
    z_n_charts = torch.func.functional_call(model.structure_filter, frozen_filter, (e.residual_charts,))
    z_n = _blended(e.weights, z_n_charts)
    z_tex = log0_difference(point(e.z_q.detach()), point(e.local)) - z_n
    if model.detail is not None:
        z_tex = z_tex + model.detail(e.features)
    base = e._replace(
        z_n_charts=z_n_charts,
        z_n=z_n,
        z_tex=z_tex,
        z_geo=compose(e.c_bar, e.z_q_st, z_n, radius),
    )
    weights = e.weights.detach()
    quantised = model.quantiser(point(e.local.detach()))
    live = exp0(_blended(weights, quantised.z_q_tangent)).z
    assigned = exp0(_blended(weights, _assigned(quantised, model.quantiser.tangent))).z
    z_q = e.z_q_st + _without_value(assigned)
    regulariser = e._replace(z_q_st=z_q, z_geo=compose(e.c_bar, z_q, e.z_n, radius))
    moved = _blended(weights, model.structure_filter(e.residual_charts.detach()))
    return Graphs(base, regulariser, compose(e.c_bar.detach(), live, moved, radius), e.z_geo.detach())


def _blended(weights: torch.Tensor, of_charts: torch.Tensor) -> torch.Tensor:
    """Return the weighted sum over charts of `[B, N_c, D]`, `[B, D]`."""
    return (weights.unsqueeze(1) @ of_charts).squeeze(1)


def _without_value(x: torch.Tensor) -> torch.Tensor:
    """Return zero with the gradient of `x`."""
    return x - x.detach()


def _assigned(quantised: Quantised, codebook: torch.Tensor) -> torch.Tensor:
    """Return the logarithms of the chosen codes, live in the codes and in the metric that chose them.

    The value is the nearest code's; the metric's gradient is that of the mean code under the softmax of
    `-distance^2 / temperature`, the codes held constant in it.
    """
    if quantised.metric_sq_distances is None:
        return quantised.z_q_tangent
    shares = (quantised.metric_sq_distances / -ASSIGNMENT_TEMPERATURE).softmax(-1)
    mean = torch.einsum("bnk,nkd->bnd", shares, codebook.detach())
    return quantised.z_q_tangent + _without_value(mean)


@frozen
class Cell:
    """The gradient of one loss by one group of parameters.

    Attributes:
        parameters: The row.
        loss: The column.
        permitted: Whether the table lets the loss train the group.
        norm: Euclidean norm of the gradient; None where the group has no parameter.
    """

    parameters: str
    loss: str
    permitted: bool
    norm: float | None

    @property
    def kept(self) -> bool:
        """Whether the gradient is exactly zero where the table forbids it, and not where it allows it."""
        if self.norm is None:
            return True
        return self.norm > 0 if self.permitted else self.norm == 0


def audit(losses: Mapping[str, torch.Tensor], groups: Mapping[str, Sequence[nn.Parameter]]) -> list[Cell]:
    """Measure the gradient of every loss by every group of parameters, row by row.

    The losses' graphs are kept, and no parameter's own gradient is touched.

    Args:
        losses: Scalars with their graphs, by column.
        groups: Parameters by row.

    Raises:
        BadInput: A row or a column is not one of the table's.
    """
    for name, known in [*((n, LOSSES) for n in losses), *((n, PERMITTED) for n in groups)]:
        if name not in known:
            raise BadInput(f"the firewall's table has no {name!r}", fix=f"name one of: {', '.join(known)}")
    norms: dict[tuple[str, str], float | None] = {}
    everything = [parameter for group in groups.values() for parameter in group]
    for loss, value in losses.items():
        found = iter(torch.autograd.grad(value, everything, retain_graph=True, allow_unused=True))
        for row, group in groups.items():
            gradients = [next(found) for _ in group]
            norms[row, loss] = _norm(gradients) if group else None
    return [Cell(row, loss, loss in PERMITTED[row], norms[row, loss]) for row in groups for loss in losses]


def _norm(gradients: Sequence[torch.Tensor | None]) -> float:
    """Return the norm in float64, where no square of a float32 underflows to zero."""
    squares = [float(g.double().square().sum()) for g in gradients if g is not None]
    return float(sum(squares) ** 0.5)


def require_kept(cells: Sequence[Cell]) -> None:
    """Refuse a training whose gradients are not those of the table.

    Raises:
        InstrumentFailed: Names the cells.
    """
    broken = [cell for cell in cells if not cell.kept]
    if broken:
        said = "; ".join(
            f"{cell.loss} {'does not train' if cell.permitted else 'trains'} {cell.parameters}"
            for cell in broken
        )
        raise InstrumentFailed(
            f"the gradients are not those of the firewall's table: {said}",
            where="firewall",
            fix="give the loss a term that reads what it does not train; read what it must not train from "
            "the graph that `divide` returns for it",
        )


def audit_text(cells: Sequence[Cell]) -> str:
    """Return the audit as a table for a terminal: norms, and a mark where one is not as permitted."""
    losses = list(dict.fromkeys(cell.loss for cell in cells))
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        if cell.norm is None:
            text = "no parameters"
        elif cell.norm == 0:
            text = "0"
        else:
            text = f"{cell.norm:.2e}"
        rows.setdefault(cell.parameters, {})[cell.loss] = text if cell.kept else f"{text}  (!)"
    head = ["gradient of", *losses]
    table = [head, *([name, *(row[loss] for loss in losses)] for name, row in rows.items())]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
