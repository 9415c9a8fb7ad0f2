import numpy as np
import pytest

from deferral import bootstrap


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("draws", [1, 7, 230])  # more than a chunk of draws
def test_resample_is_the_mean_over_drawn_rows(runs, draws):
    rng = np.random.default_rng(1)
    costs = rng.random((runs, 40, 5))
    found = bootstrap.resample(costs, draws, seed=3)
    assert found.shape == (draws, 5)
    # The same draws, one after the other and by index.
    again = np.random.default_rng(3)
    drawn_runs = again.integers(0, runs, (draws, runs))
    for d in range(draws):
        rows = again.integers(0, 40, 40)
        slow = np.mean([costs[s][rows].mean(0) for s in drawn_runs[d]], axis=0)
        np.testing.assert_allclose(found[d], slow, rtol=1e-12)


def test_resample_is_deterministic_and_float32_is_near():
    costs = np.random.default_rng(0).random((2, 300, 4))
    found = bootstrap.resample(costs, 50, seed=0)
    np.testing.assert_array_equal(found, bootstrap.resample(costs, 50, seed=0))
    assert (found != bootstrap.resample(costs, 50, seed=1)).any()
    np.testing.assert_allclose(
        bootstrap.resample(costs.astype(np.float32), 50, seed=0), found, rtol=1e-5
    )


def test_spread_is_the_standard_error():
    costs = np.random.default_rng(0).exponential(size=(1, 500, 1))
    spread = bootstrap.resample(costs, 4000, seed=0).std()
    assert spread == pytest.approx(costs.std() / np.sqrt(500), rel=0.05)


def test_runs_are_resampled_too():
    costs = np.repeat([0.0, 1.0, 2.0], 50).reshape(3, 50, 1)  # differ between runs alone
    spread = bootstrap.resample(costs, 4000, seed=0).std()
    assert spread == pytest.approx(np.std([0, 1, 2]) / np.sqrt(3), rel=0.05)


def test_paired_intervals_cover_what_they_should():
    """A difference of two rules that share most of what makes a sample dear, true value 0.05."""
    rng, covered, widths = np.random.default_rng(0), 0, []
    for seed in range(200):
        shared = rng.exponential(size=(1, 200, 1))
        costs = shared + np.array([0.0, 0.05]) + rng.normal(size=(1, 200, 2)) * 0.1
        means = bootstrap.resample(costs, 300, seed)
        low, high = bootstrap.interval(means[:, 1] - means[:, 0], 0.95)
        covered += low <= 0.05 <= high
        widths.append(high - low)
    assert 0.90 <= covered / 200 <= 0.985  # 0.95, less what 300 draws of 200 samples cost
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 0.1 * np.sqrt(2 / 200), rel=0.1)


def test_interval_and_verdict():
    low, high = bootstrap.interval(np.arange(101.0)[:, None] * [1, -1], 0.9)
    np.testing.assert_allclose([low, high], [[5, -95], [95, -5]])
    assert bootstrap.verdict(-0.2, -0.1) == "better"
    assert bootstrap.verdict(0.1, 0.2) == "worse"
    for interval in ((-0.1, 0.1), (0.0, 0.1), (-0.1, 0.0), (0.0, 0.0)):
        assert bootstrap.verdict(*interval) == "no difference"
