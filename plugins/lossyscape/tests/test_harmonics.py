"""Modes, gains and signals against the exact linear recursion, and a small network against its prediction."""

from pathlib import Path

import numpy as np
import pytest
from atlas_lossyscape.harmonics import experiment
from atlas_lossyscape.harmonics.certificate import certified_pairs
from atlas_lossyscape.harmonics.comparison import compare
from atlas_lossyscape.harmonics.edge import at_edge
from atlas_lossyscape.harmonics.gain import cyclic_growth, gain, resonant_frequency
from atlas_lossyscape.harmonics.modes import Optimizer, frequency_interval, mode, preconditioner
from atlas_lossyscape.harmonics.network import eigenpairs, hessian
from atlas_lossyscape.harmonics.signals import (
    Observed,
    autoregression,
    component,
    from_repeats,
    from_windows,
    matrix_pencil,
)
from atlas_lossyscape.harmonics.sweeps import order_peak, rate_peak, sweep_order, sweep_rate
from atlas_lossyscape.harmonics.training import EPSILON, rest, train

from atlas.errors import BadInput
from atlas.randomness import RandomStreams

BALL = Optimizer("heavy-ball", 0.1, 0.9, 0.02)


NESTEROV = Optimizer("nesterov", 0.1, 0.9, 0.02)


@pytest.fixture(scope="module")
def at_minimum():
    """A network without decay, its minimum, and the certified eigenpairs there."""
    network, theta = experiment.draw(RandomStreams(7), 0.0)
    return network, theta, certified_pairs(network, theta)


def optimizer(rule, share, pairs):
    return Optimizer(rule, share * Optimizer(rule, 1.0, 0.9).edge / float(pairs.values[0]), 0.9)


@pytest.mark.parametrize("value", [0.0, 0.3, 5.0, 9.0])
@pytest.mark.parametrize("rule", ["heavy-ball", "nesterov"])
def test_roots_are_the_eigenvalues_of_the_update_that_training_takes(rule, value):
    taken = Optimizer(rule, 0.1, 0.9, 0.02)
    columns = []
    for now, before in ((1.0, 0.0), (0.0, 1.0)):
        start = rest(np.array([now]))
        start = type(start)(start.now, np.array([before]), start.first, start.second)
        _, end = train(start, taken, lambda x, _: (value + 0.02) * x, 1)
        columns.append([end.now[0], end.before[0]])
    expected = np.linalg.eigvals(np.array(columns).T)
    # Rounding of a 2x2 eigenvalue problem, whose double roots are known to its square root.
    assert (
        np.abs(np.sort_complex(expected) - np.sort_complex(np.array(mode(taken, value).roots))).max() < 1e-7
    )


@pytest.mark.parametrize("rule", ["gd", "heavy-ball", "nesterov", "adam"])
def test_a_mode_turns_unstable_at_the_edge(rule):
    taken = Optimizer(rule, 0.1, 0.9)
    assert mode(taken, taken.edge * 0.999).stable
    assert not mode(taken, taken.edge * 1.001).stable
    assert mode(taken, taken.edge * 1.001).frequency == np.pi


def test_adam_refuses_a_decay_that_would_shift_nothing():
    with pytest.raises(BadInput, match="decay does not shift"):
        Optimizer("adam", 0.1, 0.9, 0.01)


def test_the_interval_of_a_frequency_is_what_the_residual_bound_allows():
    for rule in ("heavy-ball", "nesterov"):
        taken = Optimizer(rule, 0.1, 0.9)
        span = frequency_interval(taken, 2.0, 0.3)
        grid = [mode(taken, value).frequency for value in np.linspace(1.7, 2.3, 101)]
        assert (span.low, span.high) == (min(grid), max(grid))
        assert span.low < span.value < span.high


def test_adams_modes_are_those_of_its_own_update_on_a_quadratic():
    generator = np.random.default_rng(0)
    half = generator.normal(size=(4, 4))
    matrix, moments = half @ half.T, generator.uniform(0.5, 2, 4)
    adam = Optimizer("adam", 0.05, 0.9)
    scale, inverse = preconditioner(moments, 1e-8), 1 / (np.sqrt(moments) + 1e-8)
    block = np.block(
        [
            [np.eye(4) - 0.05 * 0.1 * inverse[:, None] * matrix, -0.05 * 0.9 * np.diag(inverse)],
            [0.1 * matrix, 0.9 * np.eye(4)],
        ]
    )
    values = np.linalg.eigvalsh(scale[:, None] * matrix * scale)
    roots = np.array([root for value in values for root in mode(adam, float(value)).roots])
    expected = np.linalg.eigvals(block)
    # Each root of the state matrix [theta, m] is one of ours; the tolerance is rounding at 8x8.
    assert np.abs(expected[:, None] - roots[None, :]).min(axis=1).max() < 1e-10


def test_adams_step_is_that_of_torch():
    torch = pytest.importorskip("torch")
    start, slopes = np.array([0.3, -1.2]), np.random.default_rng(0).normal(size=(9, 2))
    parameter = torch.nn.Parameter(torch.tensor(start))
    other = torch.optim.Adam([parameter], lr=0.01, betas=(0.9, 0.999), eps=EPSILON)
    _, end = train(rest(start), Optimizer("adam", 0.01, 0.9), lambda _, t: slopes[t], 9)
    for slope in slopes:
        parameter.grad = torch.tensor(slope)
        other.step()
    # Nine steps of rounding.
    assert np.abs(end.now - parameter.detach().numpy()).max() < 1e-14


@pytest.mark.parametrize(
    "taken", [BALL, NESTEROV, Optimizer("gd", 0.1), Optimizer("gd", 0.9), Optimizer("nesterov", 0.6, 0.5)]
)
def test_gain_is_the_amplitude_of_a_driven_recursion_and_peaks_where_it_is_said_to(taken):
    omega, value = 0.5, 2.0
    c, b = taken.recursion(value)
    x = np.zeros(4000)
    for t in range(1, 3999):
        x[t + 1] = c * x[t] - b * x[t - 1] - taken.rate * np.cos(omega * t)
    # The start has died by then: 0.9^(1000/2); sampling of a cosine off the grid costs 1e-3.
    assert np.abs(x[2000:]).max() == pytest.approx(gain(taken, value, omega), rel=1e-3)
    grid = np.linspace(0, np.pi, 20001)
    peak = grid[np.argmax([gain(taken, value, w) for w in grid])]
    assert resonant_frequency(taken, value) == pytest.approx(peak, abs=2e-4)


def test_a_cyclic_rate_of_no_amplitude_leaves_the_damping():
    assert cyclic_growth(BALL, 2.0, 12, 0.0) == pytest.approx(-mode(BALL, 2.0).damping, rel=1e-9)


def test_a_pencil_reads_the_frequency_and_damping_of_a_simulated_quadratic():
    for value in (0.5, 1.0, 2.0, 5.0, 9.0):
        c, b = BALL.recursion(value)
        x = [1.0, 1.0]
        for _ in range(80):
            x.append(c * x[-1] - b * x[-2])
        # The signal is exactly two exponentials; what is left is rounding.
        expected = mode(BALL, value)
        assert matrix_pencil(np.array(x)) == pytest.approx((expected.frequency, expected.damping), rel=1e-6)


def test_a_component_is_the_complex_amplitude_of_a_cosine():
    omega = 2 * np.pi / 12
    found = component(3 * np.cos(omega * np.arange(36) + 0.4) + 5, omega)
    assert found == pytest.approx(3 * np.exp(0.4j), rel=1e-12)


def test_an_autoregression_under_noise_finds_frequency_and_damping_within_their_errors():
    generator = np.random.default_rng(1)
    expected, hits, damped = mode(BALL, 2.0), 0, 0
    c, b = BALL.recursion(2.0)
    for _ in range(100):
        x = np.zeros(1500)
        force = generator.normal(size=1500)
        for t in range(1, 1499):
            x[t + 1] = c * x[t] - b * x[t - 1] + force[t]
        found = autoregression(x[200:])
        hits += abs(found.frequency - expected.frequency) < 1.96 * found.standard_error
        damped += abs(found.damping - expected.damping) < 1.96 * found.damping_error
    # Binomial(100, .95): fewer than 88 has a chance below 0.5%; more than 99 one of 0.6%.
    assert 88 <= hits <= 99
    assert 86 <= damped <= 99  # the estimate of b is low by about 1/T, a fifth of its error


def test_errors_over_repetitions_cover_the_true_frequency():
    generator, t, hits = np.random.default_rng(2), np.arange(60), 0
    clean = np.exp(-0.05 * t) * np.cos(0.7 * t)
    for _ in range(60):
        found = from_repeats(clean + 0.05 * generator.normal(size=(8, t.size)))
        hits += abs(found.frequency - 0.7) < 2.36 * found.standard_error  # Student's t of 7
    # Binomial(60, .95): fewer than 51 has a chance below 0.4%; 60 of 60 one of 5%.
    assert 51 <= hits <= 60
    wide = [from_repeats(clean + 0.05 * generator.normal(size=(8, t.size))).frequency for _ in range(60)]
    assert found.standard_error == pytest.approx(np.std(wide), rel=0.7)  # a chi of 7 scatters by 27%
    steady = np.cos(0.7 * np.arange(24 * 40))
    ongoing = [from_windows(steady + 0.2 * generator.normal(size=steady.size), 24) for _ in range(20)]
    spread = np.std([each.frequency for each in ongoing])
    assert np.mean([each.standard_error for each in ongoing]) == pytest.approx(spread, rel=0.5)


def test_an_alternation_is_known_to_the_resolution_of_its_record():
    signal = np.resize([1.0, -1.0], 1152)
    windows, repeats = from_windows(signal, 24), from_repeats(np.stack([signal[:96], 2 * signal[:96]]))
    assert (windows.frequency, windows.standard_error) == pytest.approx((np.pi, np.pi / 1152), rel=1e-12)
    assert (repeats.frequency, repeats.standard_error) == pytest.approx((np.pi, np.pi / 96), rel=1e-12)


def test_a_control_is_rejected_where_it_misses_by_five_percent_and_three_errors(at_minimum):
    _, _, pairs = at_minimum
    ball = optimizer("heavy-ball", 0.45, pairs)
    expected = mode(ball, float(pairs.values[1])).frequency

    def row(error):
        return compare("leg", 1, ball, pairs, Observed(expected, error, 0.05, 0.01))

    assert row(1e-6).rejects(row(1e-6).wrong_rate)
    assert row(1e-6).rejects(row(1e-6).wrong_eigenvalue)
    assert not row(1e-6).rejects(expected)
    assert not row(1e-6).rejects(1.04 * expected)
    assert not row(0.5).rejects(row(0.5).wrong_rate)
    assert (row(1e-6).resolved, row(0.5).resolved) == (True, False)


def test_the_hessian_of_the_network_is_that_of_automatic_differentiation(at_minimum):
    network, theta, pairs = at_minimum
    values, vectors, _ = eigenpairs(network, theta)
    # Lanczos differentiates torch's network, the dense matrix is a complex step through numpy's gradient.
    assert np.abs(values - pairs.values).max() < 1e-12
    assert np.abs(np.abs((vectors * pairs.vectors).sum(0)) - 1).max() < 1e-12
    assert pairs.residual_norms.max() < 1e-9 * values[0]


def test_certified_pairs_under_a_scale_are_those_of_the_preconditioned_matrix(at_minimum):
    network, theta, _ = at_minimum
    scale = np.random.default_rng(3).uniform(0.5, 2, theta.size)
    values, vectors = np.linalg.eigh(scale[:, None] * hessian(network, theta) * scale)
    pairs = certified_pairs(network, theta, scale)
    assert np.abs(values[::-1] - pairs.values).max() < 1e-11
    assert np.abs(np.abs((vectors[:, ::-1] * pairs.vectors).sum(0)) - 1).max() < 1e-8


def test_without_decay_the_network_swings_at_the_frequencies_of_its_curvature(at_minimum):
    network, theta, pairs = at_minimum
    for rule in ("heavy-ball", "nesterov"):
        rows = experiment.free(network, theta, optimizer(rule, 0.45, pairs), "free")
        assert len(rows) >= 5
        # Pushes of both signs cancel the cubic term of the loss; the quartic is 1e-10 of the quadratic.
        assert max(row.relative_error for row in rows) < 1e-5
        assert max(abs(row.observed.damping / row.expected.damping - 1) for row in rows) < 1e-4
        assert all(row.decay_only == 0 for row in rows)
        assert all(row.rejects(row.wrong_rate) for row in rows)


def test_the_top_mode_follows_its_prediction_up_to_the_edge(at_minimum):
    network, theta, _ = at_minimum
    rows = experiment.approach(network, theta, 0.9)
    assert [round(row.edge_share, 12) for row in rows] == list(experiment.SHARES)
    assert max(row.relative_error for row in rows) < 1e-5
    assert rows[-1].observed.frequency < 0.92 * np.pi


@pytest.mark.parametrize("rule", ["heavy-ball", "nesterov"])
def test_training_is_held_at_the_edge_of_its_rule_and_swings_as_predicted(at_minimum, rule):
    network, theta, _ = at_minimum
    held = at_edge(network, theta, rule, 0.9, RandomStreams(7))
    # 2 / rate, the edge of gradient descent, would be 1.9 (heavy ball) or 0.68 (Nesterov) of what is held.
    assert held.sharpness == pytest.approx(1, abs=1e-3)
    assert held.over == 1.0025
    fast = [row for row in held.rows[1:] if row.edge_share > 0.05]
    assert len(fast) >= 4
    assert max(row.relative_error for row in fast) < 0.05
    assert all(row.resolved and row.rejects(row.wrong_rate) for row in fast)
    # Pushes are 1e-9 and the arithmetic 1e-16: hence 1e-7. Slow modes, which the mean curvature misses, too.
    assert max(abs(row.observed.frequency / row.both_ends - 1) for row in held.rows[1:]) < 1e-4
    assert max(row.relative_error for row in held.rows[1:]) > 5e-4


def test_adam_with_living_moments_swings_at_the_frequencies_of_its_preconditioned_curvature(at_minimum):
    network, theta, _ = at_minimum
    rows, scatter = experiment.under_adam(network, theta, 0.9, RandomStreams(7), steps=8000, share=0.45)
    assert len(rows) >= 5
    assert 0 < scatter < 0.1
    assert rows[0].edge_share > 0.1  # the motion itself raises v, and lowers the share that was asked for
    assert max(row.relative_error for row in rows) < 0.05
    assert all(row.rejects(row.wrong_rate) for row in rows)


def test_batch_order_drives_the_network_with_the_predicted_gain(at_minimum):
    network, theta, pairs = at_minimum
    ball = optimizer("heavy-ball", 0.045, pairs)
    rows = sweep_order(network, theta, ball, pairs, 2, range(4, 44, 4), RandomStreams(7))
    scores = [(row.measured - row.predicted) / row.standard_error for row in rows]
    # Student's t of 11: the mean square of ten is 1.22 +- 0.6; the halves' own curvature adds 1e-4.
    assert 0.2 < np.mean(np.square(scores)) < 3
    assert max(abs(row.measured / row.predicted - 1) for row in rows) < 0.05
    peak = order_peak(rows)
    assert abs(peak.frequency - resonant_frequency(ball, pairs.values[2])) < 4 * peak.standard_error
    assert abs(peak.frequency - pairs.values[2]) > 100 * peak.standard_error


def test_a_cyclic_rate_pumps_the_network_as_floquet_says_with_its_peak_near_twice_the_frequency(at_minimum):
    network, theta, pairs = at_minimum
    ball = optimizer("heavy-ball", 0.045, pairs)
    rows = sweep_rate(network, theta, ball, pairs, 2, range(8, 18), 0.5, RandomStreams(7))
    assert max(abs(row.measured - row.predicted) for row in rows) < 1e-4
    scores = [(row.measured - row.predicted) / row.standard_error for row in rows]
    assert 0.1 < np.sqrt(np.mean(np.square(scores))) < 2  # the errors are of the size of the deviations
    assert 0 < rate_peak(rows).standard_error < 1e-3
    assert rate_peak(rows).frequency == pytest.approx(2 * mode(ball, pairs.values[2]).frequency, rel=0.02)


@pytest.mark.slow
def test_the_shipped_manifest_compares_every_leg(atlas):
    outcome = atlas("run", str(Path(__file__).parents[3] / "manifests" / "harmonics.yaml"))
    assert outcome.code == 0, outcome.err
    rows = atlas.view(atlas.runs()[0].name).tables("harmonics")["harmonics-comparison"]
    edges = {f"edge-{rule}" for rule in ("gd", "heavy-ball", "nesterov", "adam")}
    legs = ("free", "free-nesterov", "free-decay", "approach", "noise", "adam")
    assert {row["leg"] for row in rows} == edges | set(legs)
    below = [row for row in rows if row["leg"] not in edges]
    assert max(row["relative_error"] for row in below) < 0.05
