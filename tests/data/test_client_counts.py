"""Counts of clients follow their Dirichlet distribution, and all images are distributed."""

import numpy as np
import pytest

from data.client_counts import _claim, dirichlet


@pytest.mark.parametrize("alpha", [0.1, 1.0])
@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [4, 3, 2, 1]])
def test_shares_of_a_client_are_dirichlet(alpha, weights):
    """Mean p and variance p (1 - p) / (K alpha + 1), where p are the classes' shares."""
    weights = np.array(weights)
    p = weights / weights.sum()
    stock = weights * 150_000 // weights.sum()
    ratios = []
    for seed in range(20):
        counts = dirichlet(stock, 300, alpha, np.random.default_rng(seed))
        assert (counts.sum(1) == 500).all()
        assert np.array_equal(counts.sum(0), stock)
        ratios.append((counts / 500).var(0) / (p * (1 - p) / (4 * alpha + 1)))
    assert np.mean(ratios) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0])
def test_clients_have_as_many_classes_as_with_an_unlimited_stock(alpha):
    """The rest of a class goes to few clients instead of a little to each."""
    rng = np.random.default_rng(0)
    endless = rng.multinomial(50, rng.dirichlet(np.full(20, alpha), 5000))
    counts = dirichlet(np.full(20, 1000), 400, alpha, rng)
    expected = (endless > 0).sum(1).mean()
    assert (counts > 0).sum(1).mean() == pytest.approx(expected, rel=0.08)


def test_competing_claims_are_met_at_random():
    first = []
    for seed in range(300):
        shares, wanted = np.array([[1.0, 0], [1.0, 0]]), np.array([10, 10])
        counts = _claim(shares, wanted, np.array([10, 10]), np.random.default_rng(seed))
        assert sorted(counts.tolist()) == [[0, 10], [10, 0]]
        first.append(counts[0, 0] == 10)
    assert 110 < sum(first) < 190


def test_the_last_clients_are_as_far_from_iid_as_the_first():
    """If clients took turns, the last ones would get nearly iid images."""
    largest = np.zeros(50)
    for seed in range(40):
        counts = dirichlet(np.full(10, 500), 50, 0.1, np.random.default_rng(seed))
        largest += counts.max(1) / counts.sum(1) / 40
    halves = largest[:25].mean(), largest[25:].mean()
    assert abs(halves[0] - halves[1]) < 0.03
    assert largest[-5:].mean() > largest.mean() - 0.06


@pytest.mark.parametrize("alpha", [1e-320, 1e308])
def test_alpha_out_of_range(alpha):
    with pytest.raises(ValueError, match="give 1e-09 to 1e\\+09"):
        dirichlet(np.full(10, 50), 5, alpha, np.random.default_rng(0))
