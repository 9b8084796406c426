"""The rule of charged and discharged, and the archaeological claim against planted correlations."""

from __future__ import annotations

import numpy as np
import pytest
from atlas_lossyscape.correlation import matched_spearman, partial_spearman, spearman
from atlas_lossyscape.matching import match_controls
from atlas_lossyscape.newton_decrement import DecrementNoise
from atlas_lossyscape.potential import state_of
from attrs import evolve


def test_charged_is_a_one_sided_limit_above_zero():
    # t(8) has its 95% quantile at 1.8595.
    noise = DecrementNoise(floor=3.0, floor_error=0.1, standard_error=1.0, batches=9)

    assert [state_of(drop, noise) for drop in (4.87, 4.85)] == ["charged", "discharged"]
    assert state_of(5.1, None) == "undetermined"


def planted(rng, count, correlation):
    """Return loss, curvature, rarity and position; the first two share what rarity and place give them."""
    x, other = rng.normal(size=(2, count))
    y = correlation * x + np.sqrt(1 - correlation**2) * other
    rarity, position = rng.permutation(count) / count, rng.integers(1, 16, size=count) / 16
    return 2 * rarity + position + 0.5 * x, np.exp(2 * rarity) + position + 0.5 * y, rarity, position


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_the_matched_interval_holds_a_planted_correlation_at_its_rate(correlation):
    # Of normal pairs Spearman's rho is 6 / pi asin(r / 2). 48 tokens, 24 pairs, 300 repetitions: below 274
    # with probability 1e-3 if 95% hold. Without controls none hold: loss and curvature share their causes.
    rng = np.random.default_rng(0)
    true = 6 / np.pi * np.arcsin(correlation / 2)
    matched = frequent = plain = 0
    for _ in range(300):
        loss, curvature, rarity, position = planted(rng, 48, correlation)
        matching = match_controls(rarity, position)
        found = matched_spearman(loss, curvature, matching)
        half = matched_spearman(loss, curvature, matching, slice(12))
        bare = spearman(loss, curvature)
        matched += found.low <= true <= found.high
        frequent += half.low <= true <= half.high
        plain += bare.low <= true <= bare.high

    assert matched >= 274 and frequent >= 274
    assert plain < 150


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_the_plain_interval_holds_a_planted_correlation_at_its_rate(correlation):
    rng = np.random.default_rng(0)
    true = 6 / np.pi * np.arcsin(correlation / 2)
    held = 0
    for _ in range(300):
        x, other = rng.normal(size=(2, 24))
        found = spearman(x, correlation * x + np.sqrt(1 - correlation**2) * other)
        held += found.low <= true <= found.high

    assert held >= 274  # as above


def test_the_partial_interval_holds_zero_where_rarity_makes_the_correlation():
    rng = np.random.default_rng(0)
    seen = holding = 0
    for _ in range(300):
        rarity = rng.normal(size=80)
        x, y = rarity + rng.normal(size=(2, 80))
        seen += spearman(x, y).low > 0
        found = partial_spearman(x, y, rarity)
        holding += found.low <= 0 <= found.high

    assert seen >= 270  # of a correlation of 0.5
    assert holding >= 274  # as above


def test_a_token_and_its_control_are_near_and_each_is_used_once():
    rng = np.random.default_rng(0)
    rarity, position = rng.permutation(41).astype(float), rng.integers(1, 16, size=41).astype(float)

    found = match_controls(rarity, position)

    assert len({*found.stimulus.tolist(), *found.control.tolist()}) == 40
    # A permuted assignment of the same controls is what no matching would give.
    shuffled = rng.permutation(found.control)
    for values, gap in ((rarity, found.rarity_gap), (position, found.position_gap)):
        apart = np.abs(values[found.stimulus] - values[found.control]).mean()
        assert apart < 0.7 * np.abs(values[found.stimulus] - values[shuffled]).mean()
        assert 0 < gap < 0.5


def test_matching_does_not_look_at_what_was_measured():
    rng = np.random.default_rng(0)
    loss, curvature, rarity, position = planted(rng, 24, 0.6)
    matching = match_controls(rarity, position)

    swapped = matched_spearman(-loss, curvature, matching)

    assert swapped.rho == pytest.approx(-matched_spearman(loss, curvature, matching).rho)


def test_token_and_control_can_change_places():
    rng = np.random.default_rng(0)
    loss, curvature, rarity, position = planted(rng, 24, 0.6)
    matching = match_controls(rarity, position)
    turned = np.arange(12) < 5
    stimulus = np.where(turned, matching.control, matching.stimulus)
    control = np.where(turned, matching.stimulus, matching.control)
    gaps = np.where(turned[:, None], -matching.gaps, matching.gaps)

    found = matched_spearman(loss, curvature, evolve(matching, stimulus=stimulus, control=control, gaps=gaps))

    assert found.rho == pytest.approx(matched_spearman(loss, curvature, matching).rho, rel=1e-12)


def test_a_correlation_of_constant_values_or_of_few_is_undefined():
    assert spearman(np.ones(9), np.arange(9.0)) is None
    assert spearman(np.arange(4.0), np.arange(4.0)) is None
