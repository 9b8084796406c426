"""Each loss term against a reference written in loops, and that each descends."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.companions import Companions
from atlas_topoencoder.losses.terms import PHASE_1, SEED_WEIGHTS, SLOT, TERMS
from atlas_topoencoder.model import TopoEncoder
from atlas_topoencoder.outputs import ModelOutputs

from atlas.errors import BadInput
from atlas.objective import Objective
from atlas.randomness import RandomStreams

B, D, CHARTS, CODES, CLASSES = 7, 3, 4, 5, 3

# The references are written from the formulas with numpy in float64; both sides are float64, and the
# tolerance of 1e-6 is what the clamps of the vectorised forms (1e-12 to 1e-6 under a root) leave.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def outputs() -> ModelOutputs:
    streams = RandomStreams(3)
    architecture = Architecture(
        shape=(6,), hidden=8, latent=D, charts=CHARTS, codes=CODES, soft_equivariant=True, shared_router=False
    )
    model = TopoEncoder(architecture, streams).double()
    companions = Companions(charts=CHARTS, latent=D, classes=CLASSES, actions=2, hidden=5, streams=streams)
    generator = streams.generator("test")
    with torch.no_grad():  # away from the special point of the initial weights
        for parameter in model.parameters():
            parameter += 0.3 * torch.from_numpy(generator.standard_normal(parameter.shape))
        for router in (model.router, model.decoder_router):
            router.centers_tangent *= 0.3
    draw = lambda *shape: torch.from_numpy(generator.standard_normal(shape))  # noqa: E731
    x = draw(B, 6)
    encoding, decoding = model(x)
    return ModelOutputs(
        x=x,
        encoding=encoding,
        decoding=decoding,
        model=model,
        labels=torch.tensor([0, 1, 2, 0, 1, 2, 0]),
        views={"view": model.encode(x + 0.1 * draw(B, 6))},
        next=model.encode(x + 0.2 * draw(B, 6)),
        actions=draw(B, 2),
        companions=companions.double(),
        anchors=torch.tensor([0, 3, -1, 1, 2, 2, 0]),
    )


def arrays(o: ModelOutputs) -> dict[str, np.ndarray]:
    e = o.encoding
    found = {
        name: getattr(e, name).detach().numpy()
        for name in (
            "z_geo",
            "z_n",
            "z_tex",
            "z_q",
            "z_q_st",
            "local",
            "z_q_charts",
            "c_bar",
            "centers",
            "codebook",
            "scores",
            "z_n_charts",
        )
    }
    return found | {"p": softmax(found["scores"]), "x": o.x.numpy()}


def softmax(s: np.ndarray) -> np.ndarray:
    return np.array([[math.exp(v) / sum(math.exp(u) for u in row) for v in row] for row in s])


def dist(a: np.ndarray, b: np.ndarray) -> float:
    gap = sum((a - b) ** 2)
    return math.acosh(1 + 2 * gap / ((1 - a @ a) * (1 - b @ b)))


def log0(y: np.ndarray) -> np.ndarray:
    n = math.sqrt(y @ y)
    return math.atanh(n) / n * y


def plus(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    xy, xx, yy = x @ y, x @ x, y @ y
    return ((1 + 2 * xy + yy) * x + (1 - xx) * y) / (1 + 2 * xy + xx * yy)


def h(p: np.ndarray) -> float:
    return -sum(v * math.log(v) for v in p if v > 0)


def pairs(points: np.ndarray, margin: float) -> float:
    gaps = [max(0.0, margin - dist(points[i], points[j])) for i in range(len(points)) for j in range(i)]
    return sum(gaps) / len(gaps)


def usage(o: ModelOutputs) -> np.ndarray:
    p, lengths = arrays(o)["p"], o.encoding.code_sq_distances().detach().numpy()
    use = np.zeros((CHARTS, CODES))
    for b in range(B):
        for k in range(CHARTS):
            weights = [math.exp(-d / 0.1) for d in lengths[b, k]]
            for j in range(CODES):
                use[k, j] += p[b, k] * weights[j] / sum(weights) / B
    return use


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def gaussian(z: np.ndarray) -> float:
    total = 0.0
    for column in z.T:
        mean, var = sum(column) / B, sum((column - sum(column) / B) ** 2) / B + 1e-4
        total += (mean**2 + var - 1 - math.log(var)) / 2
    return total / D


def cosines(a: np.ndarray, b: np.ndarray) -> float:
    return sum((u @ v) ** 2 / ((u @ u) * (v @ v) + 1e-8) for u, v in zip(a, b, strict=True)) / B


def between(z: np.ndarray, p: np.ndarray) -> float:
    mean = sum(z) / B
    total = sum((row - mean) @ (row - mean) for row in z)
    found = 0.0
    for k in range(CHARTS):
        own = sum(p[b, k] * z[b] for b in range(B)) / sum(p[:, k])
        found += sum(p[:, k]) * (own - mean) @ (own - mean)
    return found / (total + 1e-4)


def reference(name: str, o: ModelOutputs) -> float:
    a = arrays(o)
    p, x = a["p"], a["x"]
    logs = np.array([log0(z) for z in a["z_geo"]])
    mean_p = np.array([sum(p[:, k]) / B for k in range(CHARTS)])
    centred = logs - logs.mean(0)
    classes = None if o.companions is None else o.companions.chart_classes().detach().numpy()
    labels = o.labels.numpy() if o.labels is not None else np.zeros(0)

    def mse(y: torch.Tensor) -> float:
        return sum((v - w) ** 2 for v, w in zip(y.detach().numpy().ravel(), x.ravel(), strict=True)) / x.size

    def vq() -> float:
        total = 0.0
        for b in range(B):
            for k in range(CHARTS):
                to_code = log0(plus(-a["local"][b], a["z_q_charts"][b, k]))
                to_point = log0(plus(-a["z_q_charts"][b, k], a["local"][b]))
                total += p[b, k] * (to_code @ to_code + 0.25 * (to_point @ to_point)) / D
        return total / B

    def uniformity() -> float:
        total = 0.0
        for i in range(B):
            tau = math.sqrt(D) * (1 - a["z_geo"][i] @ a["z_geo"][i]) / 2
            total += math.log(
                sum(math.exp(-tau * dist(a["z_geo"][i], a["z_geo"][j])) for j in range(B) if j != i) / (B - 1)
            )
        return total / B

    def jump() -> float:
        local = [[np.tanh(n) / n * v for v in row for n in [math.sqrt(v @ v)]] for row in a["z_n_charts"]]
        found = []
        for i in range(CHARTS):
            for j in range(CHARTS):
                mass = sum(p[b, i] * p[b, j] for b in range(B))
                if i == j or mass < 1e-4:
                    continue
                total = 0.0
                for b in range(B):
                    z = torch.from_numpy(np.array([local[b][i]]))
                    there = o.model.jump.between(z, torch.tensor([i]), torch.tensor([j]))[0].detach().numpy()
                    total += p[b, i] * p[b, j] * dist(there, local[b][j]) ** 2
                found.append(total / mass)
        return sum(found) / len(found)

    def chart_means() -> np.ndarray:
        means = [sum(p[b, k] * logs[b] for b in range(B)) / sum(p[:, k]) for k in range(CHARTS)]
        return np.array([np.tanh(math.sqrt(m @ m)) / math.sqrt(m @ m) * m for m in means])

    def disentangle() -> float:
        r = [math.sqrt(v @ v) for v in logs]
        total = 0.0
        for k in range(CHARTS):
            total += (sum((p[b, k] - mean_p[k]) * (r[b] - sum(r) / B) for b in range(B)) / B) ** 2
        return total

    def metric() -> float:
        total, number = 0.0, 0
        for i in range(B):
            for j in range(B):
                if labels[i] != labels[j]:
                    overlap = sum(p[i, k] * p[j, k] for k in range(CHARTS))
                    total, number = total + overlap * max(0.0, overlap) ** 2, number + 1
        return total / number

    def enclosure() -> float:
        c = o.companions
        assert c is not None and o.next is not None and o.actions is not None
        known = torch.cat(
            [o.encoding.probabilities, torch.tensor(np.array([log0(z) for z in a["z_q_st"]])), o.actions], 1
        )
        hidden = torch.nn.functional.gelu(known @ c.next_in.T)
        q = softmax((hidden @ c.next_out.T).detach().numpy())
        return -sum(math.log(q[b, k]) for b, k in enumerate(o.next.chart.tolist())) / B

    def ratio() -> float:
        by_metric, chords = o.encoding.code_sq_distances(), o.encoding.code_chords
        values = [
            (0.5 * math.log(m / math.asinh(math.sqrt(c)) ** 2)) ** 2
            for m, c in zip(by_metric.flatten().tolist(), chords.flatten().tolist(), strict=True)
        ]
        return sum(values) / len(values)

    weights = [w.detach().numpy() for w in o.model.encoder_weights()]
    smaller = [w @ w.T if w.shape[0] < w.shape[1] else w.T @ w for w in weights]
    use = usage(o)
    view, later = o.views["view"], o.next
    assert later is not None
    q = softmax(view.scores.detach().numpy())
    z_view = view.z_geo.detach().numpy()
    decoded = softmax(o.decoding.scores.detach().numpy())  # type: ignore[union-attr]
    table: dict[str, Callable[[], float]] = {
        "reconstruction": lambda: mse(o.decoding.reconstruction),
        "base-reconstruction": lambda: mse(o.decoding.base),
        "symbol-reconstruction": lambda: mse(o.model.decode_codes(o.encoding.chart, o.encoding.code).base),
        "vq": vq,
        "anchoring": lambda: (
            -sum(math.log(p[b, k]) for b, k in enumerate([0, 3, -1, 1, 2, 2, 0]) if k >= 0) / 6
        ),
        "routing-entropy": lambda: sum(h(row) for row in p) / B,
        "diversity": lambda: math.log(CHARTS) - h(mean_p),
        "supervised-balance": lambda: math.log(CHARTS) - h(mean_p),
        "uniformity": uniformity,
        "radial-calibration": lambda: (
            sum(
                (math.sqrt(z @ z) - 1 + h(row) / math.log(CHARTS)) ** 2
                for z, row in zip(a["z_geo"], p, strict=True)
            )
            / B
        ),
        "codebook-spread": lambda: sum(pairs(row, 1.0) for row in a["codebook"]) / CHARTS,
        "chart-collapse": lambda: max(mean_p) - 1 / CHARTS,
        "code-collapse": lambda: sum(sum(u) * (math.log(CODES) - h(u / sum(u))) for u in use),
        "per-chart-code-entropy": lambda: sum(math.log(CODES) - h(u / sum(u)) for u in use) / CHARTS,
        "code-entropy": lambda: math.log(CHARTS * CODES) - h(use.ravel()),
        "window": lambda: max(0.0, 0.1 - h(mean_p) + sum(h(row) for row in p) / B),
        "consistency": lambda: sum(kl(p[b], decoded[b]) for b in range(B)) / B,
        "jump": jump,
        "codebook-center": lambda: (
            sum(sum((sum(log0(e) for e in row) / CODES) ** 2) for row in a["codebook"]) / CHARTS
        ),
        "variance": lambda: max(0.0, 0.05 * D - sum(v @ v for v in centred) / B),
        "chart-separation": lambda: pairs(chart_means(), 2.0),
        "center-separation": lambda: pairs(a["centers"], 1.0),
        "residual-scale": lambda: sum(z @ z for z in a["z_n"]) / B,
        "equivariance-mixing": lambda: float(
            abs(o.model.quantiser.metric.mixing.detach().numpy()).mean()  # type: ignore[union-attr]
        ),
        "equivariance-ratio": ratio,
        "disentangle": disentangle,
        "orthogonality": lambda: (
            sum(np.log(np.linalg.svd(w, compute_uv=False)).var() for w in weights) / len(weights)
        ),
        "isometry": lambda: (
            sum(sum((g - np.eye(len(g))).ravel() ** 2) / len(g) for g in smaller) / len(smaller)
        ),
        "nuisance-prior": lambda: gaussian(a["z_n"]),
        "texture-prior": lambda: gaussian(a["z_tex"]),
        "orbit": lambda: sum(kl(p[b], q[b]) + kl(q[b], p[b]) for b in range(B)) / B / 2,
        "vicreg-invariance": lambda: (
            sum(dist(u, v) ** 2 for u, v in zip(a["z_geo"], z_view, strict=True)) / B
        ),
        "vicreg-variance": lambda: (
            sum(max(0.0, 0.25 - math.sqrt(sum(c**2) / B + 1e-4)) for c in centred.T) / D
        ),
        "vicreg-covariance": lambda: (
            sum((centred[:, i] @ centred[:, j] / (B - 1)) ** 2 for i in range(D) for j in range(D) if i != j)
            / D
        ),
        "supervised-route": lambda: -sum(math.log(p[b] @ classes[:, labels[b]]) for b in range(B)) / B,
        "supervised-purity": lambda: sum(mean_p[k] * h(classes[k]) for k in range(CHARTS)),
        "supervised-metric": metric,
        "slowness": lambda: (
            sum(
                (2 / (1 - u @ u)) ** 2 * ((v - u) @ (v - u))
                for u, v in (
                    (
                        plus(a["c_bar"][b], a["z_q_st"][b]),
                        plus(later.c_bar[b].detach().numpy(), later.z_q_st[b].detach().numpy()),
                    )
                    for b in range(B)
                )
            )
            / B
        ),
        "enclosure": enclosure,
        "texture-independence": lambda: between(a["z_tex"], p),
        "texture-orthogonality": lambda: (
            cosines(a["z_tex"], a["z_n"]) + cosines(a["z_tex"], np.array([log0(z) for z in a["z_q"]]))
        ),
    }
    return table[name]()


@pytest.mark.parametrize("name", TERMS)
def test_a_term_is_what_its_formula_says(name: str, outputs: ModelOutputs) -> None:
    value = TERMS[name].function(outputs)
    assert value.item() == pytest.approx(reference(name, outputs), rel=TOLERANCE, abs=TOLERANCE)


# A hinge that is met has no gradient by right; these are tried where they act.
_BEYOND = {"window", "variance", "vicreg-variance", "chart-separation"}


@pytest.mark.parametrize("name", sorted(set(TERMS) - _BEYOND))
def test_a_term_has_a_gradient(name: str, outputs: ModelOutputs) -> None:
    assert outputs.companions is not None
    parameters = [*outputs.model.parameters(), *outputs.companions.parameters()]
    value = TERMS[name].function(outputs)
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    lengths = [g.norm() for g in found if g is not None]
    assert all(torch.isfinite(length) for length in lengths)
    assert max(lengths, default=torch.tensor(0.0)) > 0


@pytest.mark.parametrize("name", sorted(_BEYOND))
def test_a_hinge_has_a_gradient_where_it_is_not_met(name: str, outputs: ModelOutputs) -> None:
    scores = (0.001 * outputs.encoding.scores.detach()).requires_grad_()
    z_geo = (0.01 * outputs.encoding.z_geo.detach()).requires_grad_()
    near = outputs._replace(
        encoding=outputs.encoding._replace(scores=scores, probabilities=scores.softmax(-1), z_geo=z_geo)
    )
    TERMS[name].function(near).backward()
    found = [leaf.grad for leaf in (scores, z_geo) if leaf.grad is not None]
    assert sum(gradient.norm().item() for gradient in found) > 0


def test_the_terms_of_one_example_are_finite(outputs: ModelOutputs) -> None:
    assert outputs.companions is not None
    x = outputs.x[:1]
    model = outputs.model
    encoding, decoding = model(x)
    one = ModelOutputs(
        x=x,
        encoding=encoding,
        decoding=decoding,
        model=model,
        labels=torch.tensor([1]),
        views={"view": model.encode(x + 0.1)},
        next=model.encode(x + 0.2),
        actions=torch.zeros(1, 2, dtype=x.dtype),
        companions=outputs.companions,
        anchors=torch.tensor([2]),
    )
    value = Objective(TERMS.values(), dict.fromkeys(TERMS, 1.0))({SLOT: one})
    value.total.backward()
    assert {name: math.isfinite(term.item()) for name, term in value.terms.items()} == dict.fromkeys(
        TERMS, True
    )
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("orbit", "views"),
        ("supervised-route", "labels"),
        ("slowness", "next"),
        ("equivariance-mixing", "metric"),
    ],
)
def test_a_term_says_what_it_misses(name: str, missing: str, outputs: ModelOutputs) -> None:
    plain = TopoEncoder(
        Architecture(shape=(6,), hidden=8, latent=D, charts=CHARTS, codes=CODES), RandomStreams(0)
    )
    encoding, decoding = plain(outputs.x.float())
    with pytest.raises(BadInput, match=missing if missing != "next" else "sequences"):
        TERMS[name].function(ModelOutputs(outputs.x.float(), encoding, decoding, plain))


def test_the_first_phase_has_its_thirteen_terms() -> None:
    assert len(PHASE_1) == 13
    assert all(SEED_WEIGHTS[name] > 0 for name in PHASE_1)
