"""Modes, gains and signals against the exact linear recursion, and a small network against its prediction."""

from pathlib import Path

import numpy as np
import pytest
from atlas_lossyscape.harmonics import experiment
from atlas_lossyscape.harmonics.gain import cyclic_growth, gain, resonant_frequency
from atlas_lossyscape.harmonics.modes import Optimizer, mode, preconditioned_spectrum
from atlas_lossyscape.harmonics.network import eigenpairs, hessian
from atlas_lossyscape.harmonics.signals import autoregression, matrix_pencil

from atlas.randomness import RandomStreams

BALL = Optimizer("heavy-ball", 0.1, 0.9, 0.02)


@pytest.mark.parametrize("value", [0.0, 0.3, 5.0, 40.0])
def test_roots_are_the_eigenvalues_of_the_linear_recursion(value):
    step = np.array([[1 + 0.9 - 0.1 * (value + 0.02), -0.9], [1, 0]])
    expected = np.linalg.eigvals(step)
    found = np.array(mode(BALL, value).roots)
    # Rounding of a 2x2 eigenvalue problem.
    assert np.abs(np.sort_complex(expected) - np.sort_complex(found)).max() < 1e-12


@pytest.mark.parametrize("optimizer", [Optimizer("gd", 0.1), BALL, Optimizer("adam", 0.1, 0.9)])
def test_a_mode_turns_unstable_at_the_edge(optimizer):
    edge = optimizer.edge - optimizer.decay
    assert mode(optimizer, edge * 0.999).stable
    assert not mode(optimizer, edge * 1.001).stable
    assert mode(optimizer, edge * 1.001).frequency == np.pi


def test_adams_modes_are_those_of_its_own_update_on_a_quadratic():
    generator = np.random.default_rng(0)
    half = generator.normal(size=(4, 4))
    matrix, moments = half @ half.T, generator.uniform(0.5, 2, 4)
    adam = Optimizer("adam", 0.05, 0.9)
    scale = 1 / (np.sqrt(moments) + 1e-8)
    block = np.block(
        [
            [np.eye(4) - 0.05 * 0.1 * scale[:, None] * matrix, -0.05 * 0.9 * np.diag(scale)],
            [0.1 * matrix, 0.9 * np.eye(4)],
        ]
    )
    values, _ = preconditioned_spectrum(matrix, moments, 1e-8)
    roots = np.array([root for value in values for root in mode(adam, float(value)).roots])
    expected = np.linalg.eigvals(block)
    # Each root of the state matrix [theta, m] is one of ours; the tolerance is rounding at 8x8.
    assert np.abs(expected[:, None] - roots[None, :]).min(axis=1).max() < 1e-10


def test_gain_is_the_amplitude_of_a_driven_recursion_and_peaks_where_it_is_said_to():
    omega, value = 0.5, 2.0
    x = np.zeros(4000)
    for t in range(1, 3999):
        x[t + 1] = BALL.coefficient(value) * x[t] - 0.9 * x[t - 1] - 0.1 * np.cos(omega * t)
    # The start has died by then: 0.9^(1000/2); sampling of a cosine off the grid costs 1e-3.
    assert np.abs(x[2000:]).max() == pytest.approx(gain(BALL, value, omega), rel=1e-3)
    grid = np.linspace(0.01, 3.13, 20001)
    peak = grid[np.argmax([gain(BALL, value, w) for w in grid])]
    assert resonant_frequency(BALL, value) == pytest.approx(peak, abs=2e-4)


def test_a_cyclic_rate_of_no_amplitude_leaves_the_damping():
    assert cyclic_growth(BALL, 2.0, 12, 0.0) == pytest.approx(-mode(BALL, 2.0).damping, rel=1e-9)


def test_a_pencil_reads_the_frequency_of_a_simulated_quadratic():
    for value in (0.5, 1.0, 2.0, 5.0, 9.0):
        x = [1.0, 1.0]
        for _ in range(80):
            x.append(BALL.coefficient(value) * x[-1] - 0.9 * x[-2])
        # The signal is exactly two exponentials; what is left is rounding.
        assert matrix_pencil(np.array(x)).frequency == pytest.approx(mode(BALL, value).frequency, rel=1e-6)


def test_an_autoregression_under_noise_finds_the_frequency_within_its_error():
    generator = np.random.default_rng(1)
    expected, hits = mode(BALL, 2.0).frequency, 0
    for _ in range(100):
        x = np.zeros(1500)
        force = generator.normal(size=1500)
        for t in range(1, 1499):
            x[t + 1] = BALL.coefficient(2.0) * x[t] - 0.9 * x[t - 1] + force[t]
        found = autoregression(x[200:])
        hits += abs(found.frequency - expected) < 1.96 * found.standard_error
    # Binomial(100, .95): fewer than 88 has a chance below 0.5%; more than 100 cannot be.
    assert hits >= 88


def test_the_hessian_of_the_network_is_that_of_automatic_differentiation():
    torch = pytest.importorskip("torch")
    network, theta = experiment.draw(RandomStreams(7), 0.01)
    inputs, targets = torch.tensor(network.inputs), torch.tensor(network.targets)

    def loss(point):
        hidden = torch.tanh(inputs @ point[:6].reshape(3, 2).T + point[6:9])
        error = hidden @ point[9:12] + point[12] - targets
        return 0.5 * (error**2).mean() + 0.005 * point @ point

    exact = torch.func.hessian(loss)(torch.tensor(theta)).numpy()
    # Both are exact to rounding.
    assert np.abs(exact - hessian(network, theta)).max() < 1e-12


def test_without_decay_the_network_swings_at_the_frequencies_of_its_curvature():
    network, theta = experiment.draw(RandomStreams(7), 0.0)
    rate = 0.45 * 3.8 / float(eigenpairs(network, theta)[0][0])
    rows = experiment.free(network, theta, Optimizer("heavy-ball", rate, 0.9), "free")
    # The motion is quadratic to a part in 1e5 of the push.
    assert len(rows) >= 5
    assert max(row.relative_error for row in rows) < 1e-4
    assert all(row.decay_only == 0 for row in rows)


def test_batch_order_drives_the_network_with_the_predicted_gain():
    network, theta = experiment.draw(RandomStreams(7), 0.0)
    rate = 0.045 * 3.8 / float(eigenpairs(network, theta)[0][0])
    rows = experiment.sweep_order(network, theta, Optimizer("heavy-ball", rate, 0.9), 2, (8, 24, 40))
    # The halves' own curvature differs from the whole's by the drive's 1e-4.
    assert all(row.measured == pytest.approx(row.predicted, rel=1e-3) for row in rows)


def test_the_shipped_manifest_finds_every_leg_within_five_percent(atlas):
    outcome = atlas("run", str(Path(__file__).parents[3] / "manifests" / "harmonics.yaml"))
    assert outcome.code == 0, outcome.err
    rows = atlas.view(atlas.runs()[0].name).tables("harmonics")["harmonics-comparison"]
    assert {row["leg"] for row in rows} == {"free", "free-decay", "noise", "edge"}
    assert max(row["relative_error"] for row in rows) < 0.05
