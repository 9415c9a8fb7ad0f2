"""The measures of routers, against their definitions written out."""

import numpy as np
import pytest

from deferral.curves import Curve, area_below, deferral_curve
from deferral.gap import cost_at_quality, needed, quality_at_cost, recovered


@pytest.fixture
def routed():
    """A router's curve on 400 samples, and what each of the two models got right."""
    rng = np.random.default_rng(0)
    correct = np.stack([rng.random(400) < 0.6, rng.random(400) < 0.9])
    score = rng.normal(size=400) - correct[0]
    return deferral_curve(score, correct, np.array([0, 1.0]), np.ones(2)), correct, score


def test_gap_recovered_is_as_routellm_defines_it(routed):
    curve, correct, score = routed
    weak, strong = correct.mean(1)
    order = np.argsort(-score)
    called = np.arange(401) / 400
    quality = np.array(
        [np.r_[correct[1][order[:k]], correct[0][order[k:]]].mean() for k in range(401)]
    )
    part = (quality - weak) / (strong - weak)
    np.testing.assert_allclose(recovered(curve), part, atol=1e-12)
    assert area_below(recovered(curve), curve.rate) == pytest.approx(
        (part[1:] + part[:-1]).mean() / 2
    )
    for wanted in (0.5, 0.8):
        first = called[np.argmax(part >= wanted)]
        assert first - 1 / 400 <= needed(curve.rate, recovered(curve), wanted) <= first


def test_a_random_router_recovers_half():
    straight = Curve(np.linspace(0, 1, 5), 0.6 + 0.3 * np.linspace(0, 1, 5), np.zeros(5))
    assert area_below(recovered(straight), straight.rate) == pytest.approx(0.5)
    assert needed(straight.rate, recovered(straight), 0.8) == pytest.approx(0.8)


def test_equal_models_leave_no_gap():
    flat = Curve(np.array([0, 1.0]), np.array([0.7, 0.7]), np.zeros(2))
    assert np.isnan(recovered(flat)).all()
    assert np.isnan(needed(flat.rate, recovered(flat), 0.5))


def test_cost_and_quality_at_equal_value(routed):
    curve, _, _ = routed
    cost = 2 + 3 * curve.rate
    fine = np.linspace(0, 1, 200_001)
    quality_between = np.interp(fine, curve.rate, curve.accuracy)
    for wanted in (curve.accuracy[0], 0.75, 0.85):
        slow = 2 + 3 * fine[np.argmax(quality_between >= wanted)]
        assert cost_at_quality(cost, curve.accuracy, wanted) == pytest.approx(slow, abs=1e-4)
    for budget in (2.5, 3.7, 5.0):
        slow = quality_between[2 + 3 * fine <= budget + 1e-12].max()
        assert quality_at_cost(cost, curve.accuracy, budget) == pytest.approx(slow, abs=1e-4)
    assert np.isnan(cost_at_quality(cost, curve.accuracy, 1.01))
