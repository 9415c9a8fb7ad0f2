import numpy as np
import pytest

from deferral import rules
from deferral.risk import (
    accuracy,
    costs,
    per_sample,
    random_risk,
    risk,
    send_rate,
)


def draw(seed, stages=2, n=50):
    rng = np.random.default_rng(seed)
    correct = rng.random((stages, n)) < rng.uniform(0.3, 0.9, (stages, 1))
    return rng, correct, rng.integers(0, stages, n)


def slow_risk(correct, stop, query_cost, error_cost):
    total = 0.0
    for n, e in enumerate(stop):
        total += query_cost[e] + (0 if correct[e][n] else error_cost[e])
    return total / len(stop)


@pytest.mark.parametrize("stages", [1, 2, 5])
def test_risk_is_its_formula(stages):
    rng, correct, stop = draw(stages, stages)
    query, error = rng.random(stages).cumsum(), rng.random(stages)
    assert risk(correct, stop, query, error) == pytest.approx(
        slow_risk(correct, stop, query, error)
    )
    each = per_sample(correct, stop, query, error)
    assert each.shape == stop.shape
    assert each.mean() == pytest.approx(risk(correct, stop, query, error))


def test_risk_is_the_papers():
    """R = E[1{r=LOCAL} 1{m!=y} + 1{r=REMOTE} (c_e + c_1 1{e!=y})]."""
    _, (m, e), r = draw(7)
    paper = np.mean((r == 0) * ~m + (r == 1) * (0.25 + 1.25 * ~e))
    assert risk(np.stack([m, e]), r, *costs(1.25, 0.25)) == pytest.approx(paper)


def test_limits_are_the_nets():
    _, correct, stop = draw(3)
    n = len(stop)
    assert accuracy(correct, rules.never(n)) == pytest.approx(correct[0].mean())
    assert accuracy(correct, rules.always(n)) == pytest.approx(correct[1].mean())
    cost = costs(1.25, 0.25)
    assert risk(correct, rules.never(n), *cost) == pytest.approx(1 - correct[0].mean())
    expected = 0.25 + 1.25 * (1 - correct[1].mean())
    assert risk(correct, rules.always(n), *cost) == pytest.approx(expected)


def test_accuracy_and_send_rate():
    correct = np.array([[True, False, True], [False, True, False], [True, True, True]])
    assert accuracy(correct, np.array([0, 1, 2])) == 1
    assert accuracy(correct, np.array([0, 0, 1])) == pytest.approx(1 / 3)
    assert send_rate(np.array([0, 2, 1, 0])) == 0.5


def test_random_is_linear_between_the_nets():
    _, correct, _ = draw(5)
    cost, n = costs(1.25, 0.1), correct.shape[1]
    ends = [risk(correct, s, *cost) for s in (rules.never(n), rules.always(n))]
    for rate in (0, 0.2, 0.5, 1):
        assert random_risk(correct, rate, *cost) == pytest.approx(np.dot([1 - rate, rate], ends))


def test_random_is_the_mean_of_draws():
    rng, correct, _ = draw(6)
    cost = costs(1.25, 0.3)
    stops = [(rng.random(correct.shape[1]) < 0.3).astype(int) for _ in range(4000)]
    risks = [risk(correct, s, *cost) for s in stops]
    assert random_risk(correct, 0.3, *cost) == pytest.approx(np.mean(risks), abs=0.005)


@pytest.mark.filterwarnings("error")
def test_no_samples_have_no_risk():
    none, stop = np.zeros((2, 0), bool), np.zeros(0, int)
    assert np.isnan(risk(none, stop, *costs(1, 0)))
    assert np.isnan(accuracy(none, stop))
    assert np.isnan(send_rate(stop))


def test_what_does_not_fit_is_refused():
    _, correct, stop = draw(1)
    cost = costs(1, 0)
    with pytest.raises(ValueError, match="does not fit"):
        risk(correct, stop[1:], *cost)
    with pytest.raises(ValueError, match="one value a stage"):
        risk(correct, stop, cost[0][:1], cost[1])
    for wrong in (stop + 1, stop - 1):
        with pytest.raises(ValueError, match=r"stages outside 0\.\.1"):
            accuracy(correct, wrong)
