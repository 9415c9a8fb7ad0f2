import numpy as np
import pytest

from deferral import rules
from deferral.catalogue import CONFIDENCE
from deferral.risk import costs, risk, send_rate

DOUBTS = {name: rule.doubt for name, rule in CONFIDENCE.items()}

COSTS = [(1.0, 0.0), (1.25, 0.25), (1.0, 0.5), (0.5, 0.1)]


def draw(seed, n=40, ties=False):
    rng = np.random.default_rng(seed)
    correct = rng.random((2, n)) < np.array([[0.6], [0.8]])
    score = rng.normal(size=n) + 0.8 * ~correct[0]
    return rng, correct, np.round(score, 0) if ties else score


def every_cut(score):
    """Every set of samples that a threshold can send."""
    places = [-np.inf, *((a + b) / 2 for a, b in zip(*_neighbours(score), strict=True)), np.inf]
    return [(score > t).astype(int) for t in places]


def _neighbours(score):
    distinct = sorted(set(score.tolist()))
    return distinct[:-1], distinct[1:]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("cost", COSTS)
def test_best_threshold_is_brute_force(cost, ties):
    for seed in range(20):
        _, correct, score = draw(seed, ties=ties)
        t = rules.best_threshold(score, correct, *costs(*cost))
        found = risk(correct, rules.threshold(score, t), *costs(*cost))
        least = min(risk(correct, stop, *costs(*cost)) for stop in every_cut(score))
        assert found == pytest.approx(least, abs=1e-12)


def test_best_threshold_is_midway_and_sends_fewest():
    correct = np.array([[True, True, False, False], [True, True, True, True]])
    score = np.array([0.0, 1.0, 2.0, 4.0])
    assert rules.best_threshold(score, correct, *costs(1, 0.5)) == 1.5
    assert rules.best_threshold(score, correct, *costs(1, 1)) == np.inf  # asking gains nothing
    wrong = np.array([[False] * 4, [True] * 4])
    assert rules.best_threshold(score, wrong, *costs(1, 0)) == -np.inf
    free = np.ones((2, 4), bool)
    assert rules.best_threshold(score, free, *costs(1, 0)) == np.inf  # all cuts tie


def test_ties_are_not_parted():
    correct = np.array([[False, True, True], [True, True, True]])
    score = np.array([1.0, 1.0, 0.0])
    # Sending the first alone would cost 0.4 / 3; with its twin it costs 0.8 / 3, less than 1 / 3.
    t = rules.best_threshold(score, correct, *costs(1, 0.4))
    np.testing.assert_array_equal(rules.threshold(score, t), [1, 1, 0])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_neighbouring_floats_are_parted(kind):
    # The middle of two neighbours rounds to the upper one in one case and the lower in the other.
    one, two, three = kind(1), np.nextafter(kind(1), kind(2)), kind(1) + 2 * np.finfo(kind).eps
    correct = np.array([[True, False], [False, True]])
    for score in (np.array([one, two]), np.array([two, three])):
        t = rules.best_threshold(score, correct, *costs(1, 0.1))
        np.testing.assert_array_equal(rules.threshold(score, t), [0, 1])
        t = rules.rate_threshold(score, 0.5)
        np.testing.assert_array_equal(rules.threshold(score, t), [0, 1])


@pytest.mark.parametrize("ties", [False, True])
def test_rate_threshold_is_the_nearest_that_keeps_the_rate(ties):
    for seed in range(10):
        _, _, score = draw(seed, ties=ties)
        rates = [send_rate(stop) for stop in every_cut(score)]
        for rate in (0, 0.1, 0.29, 0.5, 0.975, 1, *rates):
            sent = send_rate(rules.threshold(score, rules.rate_threshold(score, rate)))
            assert sent == max(r for r in rates if r <= rate)


def test_rate_threshold_reaches_every_share():
    score = np.random.default_rng(0).normal(size=100)
    for percent in range(101):
        t = rules.rate_threshold(score, percent / 100)
        assert rules.threshold(score, t).sum() == percent


@pytest.mark.parametrize("cost", COSTS)
def test_no_rule_beats_the_oracle(cost):
    rng, correct, score = draw(1)
    n = len(score)
    best = risk(correct, rules.oracle(correct, *costs(*cost)), *costs(*cost))
    others = [rules.never(n), rules.always(n), rng.integers(0, 2, n), *every_cut(score)]
    assert all(best <= risk(correct, stop, *costs(*cost)) + 1e-12 for stop in others)


def test_oracle_of_many_stages_is_the_cheapest_and_ties_stop_early():
    rng = np.random.default_rng(0)
    correct, query, error = rng.random((4, 30)) < 0.5, np.arange(4) / 4, np.array([1, 1, 2, 1.5])
    for n, stop in enumerate(rules.oracle(correct, query, error)):
        prices = [query[e] + error[e] * (not correct[e, n]) for e in range(4)]
        assert stop == prices.index(min(prices))


def test_constant_rules():
    np.testing.assert_array_equal(rules.never(3), [0, 0, 0])
    np.testing.assert_array_equal(rules.always(3), [1, 1, 1])
    np.testing.assert_array_equal(rules.threshold(np.array([-1, 0, 1]), 0), [0, 0, 1])


@pytest.mark.parametrize("own_rate", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.6, 0.9, 1.0])
def test_thinning_and_topping_up_come_to_the_rate(own_rate, rate):
    rng = np.random.default_rng(0)
    stop = np.repeat([1, 0], [round(20_000 * own_rate), round(20_000 * (1 - own_rate))])
    bounded = rules.thin_or_top_up(stop, own_rate, rate, rng)
    assert set(bounded) <= {0, 1}
    assert send_rate(bounded) == pytest.approx(rate, abs=0.015)
    if rate <= own_rate:
        assert (bounded <= stop).all()  # thinning only keeps back
    if rate >= own_rate:
        assert (bounded >= stop).all()  # topping up only adds


def slow_window(stop, window):
    allowed = []
    for n, asks in enumerate(stop):
        allowed.append(int(asks and not any(allowed[max(0, n - window + 1) :])))
    return allowed


@pytest.mark.parametrize("window", [1, 2, 3, 10, 49])
def test_sliding_window_is_its_definition(window):
    stop = (np.random.default_rng(window).random(300) < 0.4).astype(int)
    found = rules.sliding_window(stop, 1 / window)
    np.testing.assert_array_equal(found, slow_window(stop, window))


@pytest.mark.parametrize("rate", [0, 0.07, 0.1, 0.3, 0.4, 0.6, 0.9, 1])
def test_sliding_window_keeps_the_bound_on_every_stretch(rate):
    allowed = rules.sliding_window(np.ones(200, int), rate)
    sent = np.concatenate([[0], np.cumsum(allowed)])
    for length in (1, 7, 50, 200):
        assert (sent[length:] - sent[:-length]).max() <= np.ceil(rate * length)
    assert allowed.sum() > 0 or rate == 0


def test_rates_outside_a_share_are_refused():
    rng, stop = np.random.default_rng(0), np.array([0, 1])
    for rate in (-0.1, 1.1, float("nan")):
        for call in (
            lambda r: rules.rate_threshold(stop, r),
            lambda r: rules.sliding_window(stop, r),
            lambda r: rules.thin_or_top_up(stop, 0.5, r, rng),
        ):
            with pytest.raises(ValueError, match=r"not in 0\.\.1"):
                call(rate)


def test_doubts_are_their_formulas():
    logits = np.random.default_rng(0).normal(size=(4, 9, 10)) * 3
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    slow = {name: np.empty((4, 9)) for name in DOUBTS}
    for at in np.ndindex(4, 9):
        first, second = sorted(p[at])[:-3:-1]
        slow["max_softmax"][at] = 1 - first
        slow["margin"][at] = 1 - (first - second)
        slow["entropy"][at] = -sum(x * np.log(x) for x in p[at])
    for name, doubt in DOUBTS.items():
        np.testing.assert_allclose(doubt(logits), slow[name], rtol=1e-12)


@pytest.mark.filterwarnings("error")
def test_doubts_are_stable():
    extreme = np.array([[3e4, 0, -3e4], [-1e4, -1e4, -1e4], [5, 5, -3e4]], dtype=np.float32)
    limits = {"max_softmax": [0, 2 / 3, 1 / 2], "margin": [0, 1, 1]}
    limits["entropy"] = [0, np.log(3), np.log(2)]
    for name, doubt in DOUBTS.items():
        np.testing.assert_allclose(doubt(extreme), limits[name], rtol=1e-12)
        assert doubt(extreme).dtype == np.float64
        # Both probabilities are 1 in float64; the first is still the more certain.
        sure, surer = doubt(np.array([[60.0, 0, 0], [50.0, 0, 0]]))
        assert 0 < sure < surer


def test_thresholds_of_no_samples():
    assert rules.best_threshold(np.zeros(0), np.zeros((2, 0), bool), *costs(1, 0)) == np.inf
    assert rules.rate_threshold(np.zeros(0), 0.5) == np.inf
