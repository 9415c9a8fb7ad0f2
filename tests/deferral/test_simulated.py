"""What ways to bound the reject rate promise, and what comes of it over draws of val."""

import json

import numpy as np
import pytest
from scipy.stats import ks_2samp

from deferral import calibrate, rules, simulated
from deferral.risk import risk
from tests.deferral.test_calibrate import COST, of_each_sample, population


def test_a_result_is_of_its_splits():
    score, correct = population(n=500)
    found = simulated.simulate(score, correct, COST, max_rate=0.25, delta=0.1, splits=6, seed=5)
    for row in found["rules"].values():
        assert row["exceeds"] == np.mean(np.array(row["rates"]) > 0.25)
        assert row["rate"] == pytest.approx(np.mean(row["rates"]))
    assert (found["val_rows"], found["splits"], found["max_rate"]) == (250, 6, 0.25)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("max_rate", [0.01, 0.8])
def test_simulated_thresholds_are_those_of_val_drawn_row_by_row(ties, max_rate):
    """The same distribution of rates: a two-sample Kolmogorov-Smirnov test at 1e-4."""
    score, correct = population(n=120)
    if ties:
        score = np.round(2 * score)
        score[::5] = -np.inf
    found = simulated.simulate(
        score, correct, COST, max_rate=max_rate, delta=0.1, splits=3000, seed=1
    )["rules"]
    assert list(found) == ["guaranteed", "empirical"]
    rng, rates = np.random.default_rng(2), {"guaranteed": [], "empirical": []}
    for _ in range(3000):
        val = rng.integers(0, 120, 60)
        for name, t in (
            ("guaranteed", calibrate.reject_rate_threshold(score[val], max_rate, 0.1)),
            ("empirical", rules.rate_threshold(score[val], max_rate)),
        ):
            rates[name].append((score > t).mean())
    for name, of_splits in rates.items():
        both = np.round(found[name]["rates"], 9), np.round(of_splits, 9)
        assert ks_2samp(*both, method="asymp").pvalue > 1e-4


def test_simulation_shows_the_promise_and_what_it_costs():
    score, correct = population(n=2000)
    found = simulated.simulate(score, correct, COST, max_rate=0.2, delta=0.1, splits=500)["rules"]
    assert 0.05 < found["guaranteed"]["exceeds"] <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 500)
    assert 0.4 < found["empirical"]["exceeds"] < 0.6
    assert found["guaranteed"]["rate"] < found["empirical"]["rate"]


def test_costs_of_each_sample_that_are_all_the_same_are_the_costs():
    score, correct = population(n=400)
    flags = {"max_rate": 0.3, "delta": 0.1, "splits": 5}
    own = simulated.simulate(score, correct, of_each_sample(COST, 400), **flags)
    assert own == simulated.simulate(score, correct, COST, **flags)


def test_samples_beyond_any_threshold_are_never_sent():
    score, correct = population(n=400)
    score[:300] = -np.inf
    own = of_each_sample(COST, 400)
    own[0][0] = np.linspace(0, 0.2, 400)  # what the device has spent on each
    found = simulated.simulate(score, correct, own, max_rate=0.6, delta=0.1, splits=20)["rules"]
    for name in ("guaranteed", "empirical"):
        assert max(found[name]["rates"]) <= 0.25
    assert found["guaranteed"]["rate"] == 0.25  # all that come are allowed
    stop = (score > -np.inf).astype(int)
    assert found["guaranteed"]["risk"] == pytest.approx(risk(correct, stop, *own))
