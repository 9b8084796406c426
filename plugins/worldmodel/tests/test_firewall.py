"""The firewall: the seed's table by its measured gradients, and one backward pass against three."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.geometry import distance
from atlas_topoencoder.losses.terms import SLOT, TERMS
from atlas_topoencoder.model import TopoEncoder
from atlas_topoencoder.outputs import Encoding, ModelOutputs
from atlas_worldmodel.firewall import (
    BASE,
    DYNAMICS,
    LOSSES,
    PERMITTED,
    REGULARISER,
    audit,
    audit_text,
    divide,
    loss_group,
    parameter_groups,
    require_kept,
)
from torch import nn

from atlas.errors import BadInput, InstrumentFailed
from atlas.objective import Objective
from atlas.randomness import RandomStreams

SEED_TABLE = {
    "extractor": "++-",
    "router": "++-",
    "chart-centers": "++-",
    "soft-equivariant": "++-",
    "codebook": "+++",
    "structure-filter": "-++",
    "world-model": "--+",
}
"""Seed 002, section 6.1, row by row: base, nuisance, dynamics."""

WEIGHTS = {
    "reconstruction": 1.0,
    "vq": 1.0,
    "code-collapse": 0.5,
    "texture-prior": 0.01,
    "texture-orthogonality": 0.01,
    "variance": 0.1,
    "uniformity": 0.1,
    "radial-calibration": 0.1,
    "residual-scale": 0.01,
    "nuisance-prior": 0.01,
    "jump": 0.1,
}
ALPHA = {BASE: 0.1, REGULARISER: 0.1, DYNAMICS: 1.0}

KINDS = [
    {},
    {"soft_equivariant": True},
    {"router": "attention", "shared_router": False, "texture": False},
    {"routing": "straight-through", "soft_equivariant": True},
]


def made(**changes: object) -> tuple[TopoEncoder, nn.Module, torch.Tensor]:
    """Return a model that has left its initial symmetry, a world model and examples, in float64."""
    sizes = {"shape": [12], "hidden": 16, "latent": 4, "charts": 3, "codes": 5, **changes}
    model = TopoEncoder(Architecture(**sizes), RandomStreams(7)).double()  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=random, dtype=torch.float64))
    world = nn.Linear(4, 4).double()
    x = torch.tensor(np.random.default_rng(0).random((24, 12)))
    return model, world, x


def terms(group: str, texture: bool) -> Objective:
    chosen = {
        name: weight
        for name, weight in WEIGHTS.items()
        if loss_group(TERMS[name].group) == group and (texture or not name.startswith("texture"))
    }
    return Objective([TERMS[name] for name in chosen], chosen)


def of_atlas(model: TopoEncoder, x: torch.Tensor, encoding: Encoding, group: str) -> torch.Tensor:
    decoding = model.decode(encoding.z_geo, encoding.z_tex)
    outputs = ModelOutputs(x=x, encoding=encoding, decoding=decoding, model=model)
    return terms(group, model.architecture.texture)({SLOT: outputs}).total


def predicted(world: nn.Module, now: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return a stand-in for all dynamics terms: the distance of a prediction for the next row."""
    guess = now + 0.1 * torch.tanh(world(now))
    return distance(guess[:-1], target[1:]).mean()


def one_pass(model: TopoEncoder, world: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    graphs = divide(model, model.encode(x))
    return {
        BASE: of_atlas(model, x, graphs.base, BASE),
        REGULARISER: of_atlas(model, x, graphs.regulariser, REGULARISER),
        DYNAMICS: predicted(world, graphs.dynamics, graphs.target),
    }


def three_passes(model: TopoEncoder, world: nn.Module, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """Return the gradients of the seed's procedure, which edits them between three passes of one graph."""
    groups = parameter_groups(model, world)
    encoding = model.encode(x)
    for parameter in (p for group in groups.values() for p in group):
        parameter.grad = torch.zeros_like(parameter)
    (ALPHA[BASE] * of_atlas(model, x, encoding, BASE)).backward(retain_graph=True)
    for parameter in groups["structure-filter"]:
        parameter.grad.zero_()
    (ALPHA[REGULARISER] * of_atlas(model, x, encoding, REGULARISER)).backward(retain_graph=True)
    protected = [p for n in ("extractor", "router", "chart-centers", "soft-equivariant") for p in groups[n]]
    saved = [p.grad.clone() for p in protected]
    (ALPHA[DYNAMICS] * predicted(world, encoding.z_geo, encoding.z_geo.detach())).backward()
    for parameter, gradient in zip(protected, saved, strict=True):
        parameter.grad.copy_(gradient)
    return {name: [p.grad.clone() for p in group] for name, group in groups.items()}


def test_the_declared_table_is_the_seeds() -> None:
    marks = {row: "".join("+" if loss in PERMITTED[row] else "-" for loss in LOSSES) for row in SEED_TABLE}
    assert marks == SEED_TABLE


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_measured_gradients_are_exactly_those_of_the_table(changes: dict[str, object]) -> None:
    model, world, x = made(**changes)
    cells = audit(one_pass(model, world, x), parameter_groups(model, world))
    assert len(cells) == len(PERMITTED) * len(LOSSES)
    assert [(c.parameters, c.loss, c.norm) for c in cells if not c.kept] == []
    absent = {c.parameters for c in cells if c.norm is None}
    assert absent - {"soft-equivariant"} == {"critic"}  # the stand-in of a world model has none
    assert ("soft-equivariant" in absent) is not model.architecture.soft_equivariant


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_every_parameter_is_in_one_row(changes: dict[str, object]) -> None:
    model, world, _ = made(**changes)
    rows = [id(p) for group in parameter_groups(model, world).values() for p in group]
    assert sorted(rows) == sorted(id(p) for p in [*model.parameters(), *world.parameters()])


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_the_graphs_differ_in_nothing_but_what_carries_a_gradient(changes: dict[str, object]) -> None:
    """Tolerance: the logarithms and sums are taken again in float64, some tens of roundings."""
    model, _, x = made(**changes)
    encoding = model.encode(x)
    graphs = divide(model, encoding)
    for name in ("z_n_charts", "z_n", "z_tex", "z_q_st", "z_geo"):
        for graph in (graphs.base, graphs.regulariser):
            assert torch.allclose(getattr(graph, name), getattr(encoding, name), rtol=0, atol=1e-13), name
    assert torch.allclose(graphs.dynamics, encoding.z_geo, rtol=0, atol=1e-13)
    assert not graphs.target.requires_grad


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_one_pass_gives_the_gradients_of_three_but_for_codes_and_their_metric(
    changes: dict[str, object],
) -> None:
    """Three passes leave codes and metric what the base loss alone gives: the latent point is
    straight-through. One pass adds the two losses that the table grants them. Tolerance as above."""
    model, world, x = made(**changes)
    expected = three_passes(model, world, x)
    groups = parameter_groups(model, world)
    losses = one_pass(model, world, x)
    for parameter in (p for group in groups.values() for p in group):
        parameter.grad = torch.zeros_like(parameter)
    torch.stack([ALPHA[name] * loss for name, loss in losses.items()]).sum().backward()
    differing = set()
    for name, group in groups.items():
        for parameter, gradient in zip(group, expected[name], strict=True):
            scale = 1e-11 * float(gradient.abs().max() + 1)
            if not torch.allclose(parameter.grad, gradient, rtol=0, atol=scale):
                differing.add(name)
    named = {"codebook", "soft-equivariant"} if model.architecture.soft_equivariant else {"codebook"}
    assert differing == named
    base = torch.autograd.grad(ALPHA[BASE] * one_pass(model, world, x)[BASE], groups["codebook"])
    assert torch.allclose(base[0], expected["codebook"][0], rtol=0, atol=1e-11)


def test_a_loss_that_reads_what_it_may_not_train_is_named() -> None:
    model, world, x = made()
    losses = one_pass(model, world, x)
    losses[DYNAMICS] = losses[DYNAMICS] + model.encode(x).z_geo.square().sum()
    cells = audit(losses, parameter_groups(model, world))
    with pytest.raises(InstrumentFailed, match="dynamics trains extractor"):
        require_kept(cells)
    assert "(!)" in audit_text(cells)


def test_a_loss_without_a_term_for_what_it_should_train_is_named() -> None:
    model, world, x = made()
    losses = one_pass(model, world, x)
    encoding = divide(model, model.encode(x)).base
    losses[BASE] = model.decode(encoding.z_geo, encoding.z_tex).reconstruction.square().mean()
    with pytest.raises(InstrumentFailed, match="base does not train codebook"):
        require_kept(audit(losses, parameter_groups(model, world)))


def test_an_audit_of_unknown_rows_is_refused() -> None:
    _, world, _ = made()
    losses: Mapping[str, torch.Tensor] = {DYNAMICS: world(torch.zeros(4).double()).sum()}
    with pytest.raises(BadInput, match="no 'worlds'"):
        audit(losses, {"worlds": list(world.parameters())})
