"""The model: what it composes, what carries a gradient, and what bounds hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from atlas_topoencoder import spectral
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.classifier import InvariantChartClassifier
from atlas_topoencoder.extractors import make_extractor
from atlas_topoencoder.geometry import distance, logmap0_difference, mobius_add
from atlas_topoencoder.jump import FactorizedJumpOperator
from atlas_topoencoder.model import TopoEncoder, compose
from atlas_topoencoder.points import point
from atlas_topoencoder.spectral import NormGatedGELU, SpectralLinear, refresh_spectral
from atlas_topoencoder.weights import draw_weights, standardise
from torch.func import functional_call

from atlas.errors import BadInput
from atlas.randomness import RandomStreams

ROUNDING = 1e-5
"""Some tens of float32 roundings: chains of a dozen operations on numbers of order 1."""


def small(**changes: object) -> Architecture:
    sizes = {"shape": [12], "hidden": 16, "latent": 4, "charts": 3, "codes": 5}
    return Architecture(**{**sizes, **changes})  # type: ignore[arg-type]


def model_of(**changes: object) -> TopoEncoder:
    return TopoEncoder(small(**changes), RandomStreams(7))


def examples(count: int = 32, *shape: int) -> torch.Tensor:
    drawn = np.random.default_rng(0).random((count, *(shape or (12,))))
    return torch.tensor(drawn, dtype=torch.float32)


KINDS = [
    {},
    {"routing": "hard"},
    {"routing": "straight-through"},
    {"router": "attention", "shared_router": False},
    {"soft_equivariant": True, "texture": False},
    {"shape": [1, 8, 8], "extractor": "conv"},
    {"shape": [2, 7, 9], "extractor": "conv"},
    {"shape": [1, 8, 8], "extractor": "retina"},
]


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_every_architecture_trains_a_step_with_finite_gradients(changes: dict[str, object]) -> None:
    model = model_of(**changes)
    x = examples(6, *model.architecture.shape)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    model.follow(optimizer)
    encoding, decoding = model(x)
    assert decoding.reconstruction.shape == x.shape
    (decoding.reconstruction - x).square().mean().backward()
    optimizer.step()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert torch.allclose(encoding.weights.sum(1), torch.ones(6), atol=ROUNDING)


def test_one_seed_makes_one_model_whatever_was_drawn_before() -> None:
    first = model_of().state_dict()
    torch.rand(3), np.random.rand(3)
    again = model_of().state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("detail", [True, False])
def test_code_nuisance_and_texture_add_up_to_the_residual(detail: bool) -> None:
    model = model_of(detail=detail)
    encoding, _ = model(examples())
    residual = logmap0_difference(encoding.z_q, encoding.local)
    if model.detail is not None:
        residual = residual + model.detail(encoding.features)
    assert torch.allclose(encoding.z_n + encoding.z_tex, residual, atol=ROUNDING)


def test_the_detail_reaches_the_texture_and_nothing_that_charts_codes_or_dynamics_read() -> None:
    model = model_of()
    before, _ = model(examples())
    with torch.no_grad():
        model.detail.bias.add_(1.0)
    after, _ = model(examples())
    assert torch.allclose(after.z_tex, before.z_tex + 1.0, atol=ROUNDING)
    assert torch.equal(after.z_geo, before.z_geo) and torch.equal(after.weights, before.weights)


def test_before_charts_are_placed_all_charts_decode_alike() -> None:
    model = model_of()
    point = model.encode(examples()).v
    first, last = (model.decode(point, weights=torch.eye(3)[k].expand(32, 3)).base for k in (0, 2))
    assert torch.allclose(first, last, atol=ROUNDING)


def test_the_codes_of_an_encoding_are_the_nearest_of_each_chart() -> None:
    encoding, _ = model_of()(examples())
    distances = distance(encoding.local[:, None, None], encoding.codebook)
    assert torch.equal(encoding.codes, distances.argmin(-1))
    assert torch.allclose(encoding.code_sq_distances(), (distances / 2) ** 2, atol=1e-4)
    winners = encoding.codebook.expand(32, -1, -1, -1).gather(
        2, encoding.codes[..., None, None].expand(-1, -1, 1, 4)
    )
    assert torch.equal(winners.squeeze(2), encoding.z_q_charts)


def test_the_straight_through_code_has_the_value_of_the_code_and_the_gradient_of_the_point() -> None:
    model = model_of()
    encoding, _ = model(examples())
    assert torch.allclose(encoding.z_q_st, encoding.z_q, atol=ROUNDING)
    codebook, value = model.quantiser.tangent, model.value.weight
    through = torch.autograd.grad(
        encoding.z_q_st.sum(), [codebook, value], allow_unused=True, retain_graph=True
    )
    assert through[0] is None
    assert through[1] is not None and through[1].abs().sum() > 0
    (live,) = torch.autograd.grad(encoding.z_q.sum(), codebook)
    assert live.abs().sum() > 0


def test_composition_is_the_encoders_and_lets_any_part_be_held() -> None:
    encoding, _ = model_of()(examples())
    parts = encoding.c_bar.detach(), encoding.z_q.detach().requires_grad_(), encoding.z_n.detach()
    composed = compose(*parts, 6.0)
    assert torch.allclose(composed, encoding.z_geo, atol=ROUNDING)
    composed.sum().backward()
    assert parts[1].grad is not None and parts[1].grad.abs().sum() > 0


def test_points_stay_within_the_radius_however_long_the_tangents() -> None:
    model = model_of(max_radius=4.0)
    with torch.no_grad():
        for parameter in (model.value.weight, model.quantiser.tangent, model.router.centers_tangent):
            parameter.mul_(1e3)
    model.refresh()
    encoding, decoding = model(examples())
    bound = np.tanh(2.0) + 1e-6
    assert max(p.norm(dim=-1).max().item() for p in (encoding.v, encoding.z_geo, encoding.centers)) <= bound
    assert decoding.reconstruction.isfinite().all()


@pytest.mark.parametrize("stack", [None, 3])
def test_refreshing_brings_every_map_within_its_bound_and_leaves_the_others(stack: int | None) -> None:
    layer = SpectralLinear(6, 9, stack=stack, bound=2.0)
    draw_weights(layer, RandomStreams(0))
    with torch.no_grad():
        layer.matrices()[0].mul_(5.0)
    before = layer.weight.detach().clone()
    refresh_spectral([layer], iterations=100)
    norms = torch.linalg.matrix_norm(layer.matrices(), 2)
    # An orthogonal start has all its singular values equal, where power iteration is exact at once.
    assert norms[0].item() == pytest.approx(2.0, rel=1e-5)
    assert torch.equal(layer.weight[9:], before[9:])


def test_one_iteration_a_step_tracks_the_norm_while_it_grows() -> None:
    layer = SpectralLinear(8, 8, bound=1.0)
    draw_weights(layer, RandomStreams(0))
    drift = torch.tensor(np.random.default_rng(1).standard_normal((8, 8)), dtype=torch.float32)
    for _ in range(200):
        with torch.no_grad():
            layer.weight.add_(drift, alpha=0.01)
        refresh_spectral([layer])
    # A step adds at most 0.01 |drift|, about 0.05, which one iteration has not seen yet.
    assert torch.linalg.matrix_norm(layer.weight, 2).item() <= 1.06


@pytest.mark.parametrize("size", [7, 8])
def test_the_retina_does_not_see_a_quarter_turn(size: int) -> None:
    architecture = small(shape=[1, size, size], extractor="retina")
    retina = make_extractor(architecture)
    draw_weights(retina, RandomStreams(0))
    x = examples(4, 1, size, size)
    assert torch.allclose(retina(x), retina(x.rot90(1, (2, 3))), atol=ROUNDING)
    assert not torch.allclose(retina(x), retina(x.flip(3)), atol=ROUNDING)


def test_standardised_points_are_centred_at_unit_length_and_reconstruct_the_mean() -> None:
    model = model_of()
    x = 5 + examples(200)
    standardise(model, x)
    value = model.value(model.extractor(x))
    assert torch.allclose(value.mean(0), torch.zeros(4), atol=1e-4)
    assert value.norm(dim=1).mean().item() == pytest.approx(1.0, rel=1e-4)
    assert torch.allclose(model.decoder.render[-1].bias, x.mean(0))


@pytest.fixture
def jump() -> FactorizedJumpOperator:
    operator = FactorizedJumpOperator(3, 4).double()
    generator = np.random.default_rng(2)
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter.copy_(torch.from_numpy(0.5 * generator.standard_normal(parameter.shape)))
    return operator


def test_jumps_are_isometries_that_compose_and_undo_each_other(jump: FactorizedJumpOperator) -> None:
    x, y = (
        0.4 * torch.randn(20, 4, generator=torch.Generator().manual_seed(s), dtype=torch.float64).tanh()
        for s in (0, 1)
    )
    i, j, k = (torch.full((20,), chart) for chart in range(3))
    there = jump.between(x, i, j)
    assert torch.allclose(jump.between(there, j, i), x, atol=1e-12)
    assert torch.allclose(jump.between(there, j, k), jump.between(x, i, k), atol=1e-12)
    assert torch.allclose(distance(there, jump.between(y, i, j)), distance(x, y), atol=1e-12)


def test_what_all_jumps_miss_by_is_what_each_misses_by(jump: FactorizedJumpOperator) -> None:
    z = 0.4 * torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64).tanh()
    misses = jump.sq_misses(point(z))
    for i in range(3):
        for j in range(3):
            there = jump.between(z[:, i], torch.full((5,), i), torch.full((5,), j))
            assert torch.allclose(misses[:, i, j], distance(there, z[:, j]) ** 2, atol=1e-6)


def test_the_classifier_is_invariant_and_leaves_the_encoder_alone() -> None:
    model, classifier = model_of(), InvariantChartClassifier(3, 2)
    with torch.no_grad():
        classifier.by_radius.normal_(generator=torch.Generator().manual_seed(0))
    encoding, _ = model(examples())
    logits = classifier(encoding)
    logits.sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert logits.shape == (32, 2)


def test_a_wrong_shape_for_images_is_one_clear_error() -> None:
    with pytest.raises(BadInput, match="reads images"):
        small(extractor="conv")


def test_codes_alone_decode_to_the_code_in_its_chart() -> None:
    model = model_of(texture=False)
    chart, code = torch.tensor([0, 2]), torch.tensor([1, 4])
    encoding = model.encode(examples())
    point = mobius_add(encoding.centers[chart], encoding.codebook[chart, code])
    wanted = model.decode(point).reconstruction
    assert torch.allclose(model.decode_codes(chart, code).reconstruction, wanted, atol=ROUNDING)


def test_gate_and_blend_in_one_are_the_gate_and_then_the_blend() -> None:
    gate = NormGatedGELU(16).double()
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(3, 4, 16, generator=rng, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(3, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, generator=rng, dtype=torch.float64, requires_grad=True)

    def blended(x: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return functional_call(_Blending(gate), {"gate.bias": bias}, (x, weights))

    apart = (functional_call(gate, {"bias": bias}, (x,)) * weights[..., None]).sum(1)
    assert torch.allclose(blended(x, weights, bias), apart, rtol=1e-14)
    assert torch.autograd.gradcheck(blended, (x, weights, bias))
    assert torch.autograd.gradgradcheck(blended, (x, weights, bias))


class _Blending(torch.nn.Module):
    def __init__(self, gate: NormGatedGELU) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return self.gate.blended(x, weights)


def test_portions_of_a_batch_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = NormGatedGELU(16).double()
    rng = torch.Generator().manual_seed(4)
    given = [torch.randn(size, generator=rng, dtype=torch.float64) for size in ((7, 4, 16), (7, 4), (7, 16))]
    x, weights, direction = (one.requires_grad_() for one in given)

    def measured() -> tuple[torch.Tensor, ...]:
        out = gate.blended(x, weights)
        return out, *torch.autograd.grad(out, (x, weights, gate.bias), direction)

    whole = measured()
    monkeypatch.setattr(spectral, "_CACHED", 3 * 4 * 16)  # three portions, the last of one example
    for one, other in zip(measured(), whole, strict=True):
        assert torch.allclose(one, other, rtol=1e-13)


def test_the_gate_is_differentiable_twice_and_never_lengthens() -> None:
    gate = NormGatedGELU(16).double()
    x = torch.randn(
        3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(lambda x, b: functional_call(gate, {"bias": b}, (x,)), (x, gate.bias))
    assert torch.autograd.gradgradcheck(lambda x, b: functional_call(gate, {"bias": b}, (x,)), (x, gate.bias))
    assert (gate(x).norm(dim=1) <= x.norm(dim=1)).all()
