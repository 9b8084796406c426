"""Potential and tension of quadratics, whole: every number against dense linear algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from atlas_lossyscape import potential, tension
from lossyscape_desk import Bowl, Desk, defaults, items

from atlas.contracts import Slice
from atlas.errors import BadInput, InstrumentFailed
from atlas.quantities import Quantity
from atlas.record import canonical_json
from atlas.tables import QUANTITIES, to_csv

VALUES = torch.tensor([9.0, -6.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125], dtype=torch.float64)
POSITIVE = VALUES.abs()
NAMES = ("a", "b", "c", "d", "e")
WEIGHTS = dict(zip(NAMES, (3.0, 5.0, 2.0, 7.0, 4.0), strict=True))


def bowl(values):
    """Return a target, its eigenvectors in rows, and the items' gradients `[5, 8]` by token."""
    rng = torch.Generator().manual_seed(4)
    vectors = torch.linalg.qr(torch.randn(8, 8, generator=rng, dtype=torch.float64))[0].T
    matrix = vectors.T @ (values[:, None] * vectors)
    gradients = torch.randn(5, 8, generator=rng, dtype=torch.float64) + 1
    target = Bowl((matrix + matrix.T) / 2, dict(zip(NAMES, gradients, strict=True)), WEIGHTS)
    return target, vectors, gradients


def measured(tmp_path, module, name, target, inputs=None, **params):
    desk = Desk(tmp_path, {"": target}, (Slice("all", items(*NAMES)),), {**defaults(name), **params})
    desk.inputs = inputs or {}
    module.measure(desk)
    return desk, {q.quantity: q for q in desk.quantities}


def mean(gradients, without=None):
    kept = [i for i in range(5) if i != without]
    weights = torch.tensor([WEIGHTS[NAMES[i]] for i in kept], dtype=torch.float64)
    return (weights[:, None] * gradients[kept]).sum(0) / weights.sum()


def jackknife(values):
    values = np.array(values)
    return math.sqrt(((values - values.mean()) ** 2).sum() * (len(values) - 1) / len(values))


# All in float64, in a space of eight dimensions that Lanczos spans: tolerances are rounding's.


@pytest.fixture(scope="module")
def drop(tmp_path_factory):
    target, vectors, gradients = bowl(POSITIVE)
    desk, found = measured(
        tmp_path_factory.mktemp("drop"), potential, "potential", target, tokens=0, batch_size=2
    )
    return desk.tables, found, vectors, gradients, target


def test_the_whole_decrement_of_a_convex_bowl_is_found_both_ways(drop):
    tables, found, vectors, gradients, _ = drop
    squares = (vectors @ mean(gradients)).square()
    exact = float((squares / POSITIVE).sum()) / 2

    assert found["potential_newton"].value == pytest.approx(exact, rel=1e-8)
    assert found["potential_krylov"].value == pytest.approx(exact, rel=1e-8)
    (row,) = tables["potential"]
    assert row["newton_step"] == pytest.approx(math.sqrt(float((squares / POSITIVE**2).sum())), rel=1e-8)
    assert row["share_certified"] == pytest.approx(1.0)
    assert row["krylov_unmet"] == pytest.approx(0.0, abs=1e-8)
    assert row["newton_low"] <= row["newton"] <= row["newton_high"]


def test_loss_and_gradient_are_those_of_all_tokens(drop):
    _, found, _, gradients, _ = drop

    assert found["loss"].value == pytest.approx(5.0)
    assert found["gradient_norm"].value == pytest.approx(float(mean(gradients).norm()), rel=1e-12)
    assert found["loss"].num_samples == 21


def test_the_noise_of_the_items_is_taken_off(drop):
    _, found, vectors, gradients, _ = drop
    share = torch.tensor([WEIGHTS[name] / 21 for name in NAMES], dtype=torch.float64)[:, None]
    parts = share * gradients @ vectors.T

    def floor(p, s):
        return float(((p - s * p.sum(0)).square().sum(0) / POSITIVE).sum()) / 2 * len(p) / (len(p) - 1)

    floors, apart = [], []
    for left in range(5):
        kept = [i for i in range(5) if i != left]
        scale = 1 / (1 - share[left])
        p, s = parts[kept] * scale, share[kept] * scale
        floors.append(floor(p, s) / float(scale))
        apart.append(float((p.sum(0).square() / POSITIVE).sum()) / 2 - floor(p, s))
    noise, above = found["potential_noise"], found["potential_above_noise"]
    assert (noise.value, noise.uncertainty) == (
        pytest.approx(floor(parts, share)),
        pytest.approx(jackknife(floors)),
    )
    # 2.7764 is the 97.5% quantile of Student's t with four degrees of freedom.
    assert above.uncertainty == pytest.approx(2.7764 * jackknife(apart), rel=1e-4)
    assert above.value == pytest.approx(found["potential_newton"].value - noise.value)


def test_descent_falls_and_leaves_the_weights_as_they_were(drop):
    tables, found, _, _, target = drop
    losses = [row["loss"] for row in tables["descent"]]

    assert found["potential_descent"].value == pytest.approx(5.0 - losses[-1])
    assert 0 < found["potential_descent"].value <= found["potential_newton"].value * (1 + 1e-9)
    apart = found["potential_disagreement"]
    assert apart.value == found["potential_krylov"].value - found["potential_descent"].value > 0
    assert apart.uncertainty == found["potential_krylov"].uncertainty
    assert not target.module.x.detach().any()


@pytest.fixture(scope="module")
def hold(tmp_path_factory):
    target, vectors, gradients = bowl(VALUES)
    folder = tmp_path_factory.mktemp("hold")
    walk = {"steps": 3, "replicas": 2, "rate": 0.5, "kick": 0.01}
    desk, found = measured(
        folder, tension, "tension", target, top_k=2, batch_size=2, tolerance=1e-10, drift=walk
    )
    return desk, found, vectors, gradients


def test_curvature_along_the_gradient_is_relative_to_the_largest_magnitude(hold):
    desk, found, vectors, gradients = hold
    squares = (vectors @ mean(gradients)).square()
    along = float((VALUES * squares).sum() / squares.sum())

    assert found["gradient_curvature"].value == pytest.approx(along, rel=1e-9)
    assert found["relative_curvature"].value == pytest.approx(along / 9, rel=1e-9)
    assert 0 <= found["relative_curvature"].uncertainty < 1e-9
    (row,) = desk.tables["tension"]
    assert row["relative_curvature"] == found["relative_curvature"].value


def test_the_bound_of_the_relative_curvature_holds_a_loose_eigenvalue(tmp_path, hold):
    _, exact, _, _ = hold
    walk = {"steps": 2, "replicas": 2, "rate": 0.5, "kick": 0.01}
    _, found = measured(tmp_path, tension, "tension", bowl(VALUES)[0], top_k=1, tolerance=0.1, drift=walk)

    relative = found["relative_curvature"]
    assert 1e-12 < abs(relative.value - exact["relative_curvature"].value) <= relative.uncertainty


def test_the_share_of_the_top_space_has_its_jackknife_error(hold):
    desk, found, vectors, gradients = hold
    (row,) = desk.tables["tension"]

    def share(without=None):
        squares = (vectors @ mean(gradients, without)).square()
        return float(squares[: row["num_certified"]].sum() / squares.sum())

    assert row["num_certified"] == 2
    assert found["top_share"].value == pytest.approx(share(), rel=1e-9)
    # Not scaled up: a share does not depend on the gradient's length.
    assert found["top_share"].uncertainty == pytest.approx(jackknife([share(i) for i in range(5)]), rel=1e-9)


def test_the_drift_in_the_top_space_is_that_of_its_two_eigenvalues(hold):
    desk, found, _, _ = hold
    ratios = []
    for replica in range(2):
        kicks = np.stack(
            [desk.random.generator(f"all top drift {replica}", t).standard_normal(2) for t in range(3)]
        )
        kicks /= np.linalg.norm(kicks, axis=1, keepdims=True)
        factors = np.stack([(1 - 0.5 / 9 * np.array([9.0, -6.0])) ** (2 - t) for t in range(3)])
        ratios.append(np.linalg.norm((factors * kicks).sum(0)) / np.linalg.norm(kicks.sum(0)))

    drift = found["drift_ratio_top"]
    assert drift.value == pytest.approx(np.mean(ratios), rel=1e-6)
    assert drift.uncertainty == pytest.approx(np.std(ratios, ddof=1) / math.sqrt(2), rel=1e-5)


def test_the_state_follows_the_row(hold):
    desk, _, _, _ = hold
    (row,) = desk.tables["tension"]
    met = [row["relative_curvature"] >= 0.1, row["top_share"] >= 0.1, row["drift_top"] <= 0.7]

    assert row["state"] == {3: "taut", 0: "slack"}.get(sum(met), "mixed")


def seen(folder, *, loss=5.0, largest=9.0, second=-6.0):
    """Seal what a curvature step would have recorded of the bowl."""
    _, _, gradients = bowl(VALUES)
    length = float(mean(gradients).norm())
    rows = [Quantity("loss", loss, 0.0, "exact"), Quantity("gradient_norm", length, 0.0, "exact")]
    for index, value in enumerate((largest, second), start=1):
        rows.append(Quantity("eigenvalue", value, 1e-6, "residual_bound", index=index))
    facts = {"operator": "hessian", "num_parameters": "8", "dtype": "torch.float64"}
    files = {
        "quantities.csv": to_csv(QUANTITIES, [row.as_record() for row in rows]),
        "facts.json": canonical_json(facts),
        "spectrum.csv": b"",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {f"raw/curvature/{name}": folder / name for name in files}


LITTLE = {"steps": 2, "replicas": 2, "rate": 0.5, "kick": 0.01}


def test_a_spectrum_of_another_loss_is_refused(tmp_path):
    with pytest.raises(BadInput, match="loss of all"):
        measured(
            tmp_path, tension, "tension", bowl(VALUES)[0], seen(tmp_path, loss=5.1), top_k=2, drift=LITTLE
        )


def test_a_spectrum_with_an_eigenvalue_that_is_not_found_is_refused(tmp_path):
    with pytest.raises(InstrumentFailed, match="here and 12 in step curvature"):
        measured(
            tmp_path, tension, "tension", bowl(VALUES)[0], seen(tmp_path, largest=12.0), top_k=2, drift=LITTLE
        )


def test_a_spectrum_that_fits_is_taken(tmp_path, hold):
    _, found = measured(
        tmp_path, tension, "tension", bowl(VALUES)[0], seen(tmp_path), top_k=2, tolerance=1e-10, drift=LITTLE
    )

    assert found["relative_curvature"].value == pytest.approx(hold[1]["relative_curvature"].value, rel=1e-9)


def test_a_repeated_eigenvalue_that_the_earlier_step_found_is_found_here_too(tmp_path):
    twice = torch.tensor([9.0, 9.0, -6.0, 4.0, 2.0, 1.0, 0.5, 0.25], dtype=torch.float64)
    inputs = seen(tmp_path, second=9.0)
    desk, _ = measured(tmp_path, tension, "tension", bowl(twice)[0], inputs, top_k=2, drift=LITTLE)

    # One start vector sees one vector of each eigenspace; the share in both needs the fresh start.
    _, vectors, gradients = bowl(twice)
    direction = mean(gradients) / mean(gradients).norm()
    (row,) = desk.tables["tension"]
    assert row["top_share"] == pytest.approx(float((vectors[:2] @ direction).square().sum()), rel=1e-6)
