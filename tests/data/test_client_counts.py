"""Who gets how many of each class: the distributions as their formulas say, and sums that hold."""

from types import SimpleNamespace

import numpy as np
import pytest

from data.client_counts import LEAST, _claim, by_shares, dirichlet, pathological, sizes_of


def test_iid_sizes_are_uniform_on_the_simplex():
    draws = np.array([sizes_of(4000, 8, False, np.random.default_rng(s)) for s in range(2000)])
    assert (draws.sum(1) == 4000).all()
    assert draws.min() >= LEAST
    shares = (draws - LEAST) / (4000 - 8 * LEAST)
    assert shares.mean(0) == pytest.approx(np.full(8, 1 / 8), abs=0.012)
    flat = 1 / 8 * 7 / 8 / 9  # variance of a share, Dirichlet(1, ..., 1)
    assert shares.var(0) == pytest.approx(np.full(8, flat), rel=0.2)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_unequald_shares_of_a_class_are_dirichlet(alpha):
    """Mean 1/J and variance (1/J)(1 - 1/J) / (J alpha + 1) over J clients; none is special."""
    clients, classes = 20, 4000
    stock = np.full(classes, 1000)
    counts = dirichlet(stock, clients, False, alpha, np.random.default_rng(0))
    shares = counts / stock
    variance = 1 / clients * (1 - 1 / clients) / (clients * alpha + 1)
    noise = np.sqrt(variance / classes)
    assert np.abs(shares.mean(1) - 1 / clients).max() < 4 * noise
    assert shares.var(1).mean() == pytest.approx(variance, rel=0.05)


def test_rounding_favours_nobody():
    """With shares below one image, cutting them all down would leave half to the last client."""
    stock = np.full(5000, 4)
    counts = dirichlet(stock, 10, False, 1e4, np.random.default_rng(0))
    assert counts.max() == 1
    assert counts.mean(1) == pytest.approx(np.full(10, 0.4), abs=4 * np.sqrt(0.24 / 5000))


def test_a_cut_never_moves_beyond_the_last_image():
    nearly_one = SimpleNamespace(random=lambda count: np.full(count, np.nextafter(1, 0)))
    counts = by_shares(np.full((3, 4), 1 / 3), np.array([1, 2, 7, 10**6]), nearly_one)
    assert counts.sum(0).tolist() == [1, 2, 7, 10**6]


@pytest.mark.parametrize("alpha", [0.1, 1.0])
@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [4, 3, 2, 1]])
def test_equald_shares_of_a_client_are_dirichlet(alpha, weights):
    """Mean p and variance p (1 - p) / (K alpha + 1), where p are the classes' shares."""
    weights = np.array(weights)
    p = weights / weights.sum()
    stock = weights * 150_000 // weights.sum()
    ratios = []
    for seed in range(20):
        counts = dirichlet(stock, 300, True, alpha, np.random.default_rng(seed))
        assert (counts.sum(1) == 500).all()
        assert np.array_equal(counts.sum(0), stock)
        ratios.append((counts / 500).var(0) / (p * (1 - p) / (4 * alpha + 1)))
    assert np.mean(ratios) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0])
def test_equald_clients_have_as_many_classes_as_with_endless_images(alpha):
    """What is left over goes to few clients, and not as a crumb to each."""
    rng = np.random.default_rng(0)
    endless = rng.multinomial(50, rng.dirichlet(np.full(20, alpha), 5000))
    counts = dirichlet(np.full(20, 1000), 400, True, alpha, rng)
    expected = (endless > 0).sum(1).mean()
    assert (counts > 0).sum(1).mean() == pytest.approx(expected, rel=0.08)


def test_whose_claims_are_met_is_chance():
    first = []
    for seed in range(300):
        shares, wanted = np.array([[1.0, 0], [1.0, 0]]), np.array([10, 10])
        counts = _claim(shares, wanted, np.array([10, 10]), np.random.default_rng(seed))
        assert sorted(counts.tolist()) == [[0, 10], [10, 0]]
        first.append(counts[0, 0] == 10)
    assert 110 < sum(first) < 190


def test_equald_dirichlet_has_no_last_client():
    """Where clients take turns, what the last get is no longer far from iid."""
    largest = np.zeros(50)
    for seed in range(40):
        counts = dirichlet(np.full(10, 500), 50, True, 0.1, np.random.default_rng(seed))
        largest += counts.max(1) / counts.sum(1) / 40
    halves = largest[:25].mean(), largest[25:].mean()
    assert abs(halves[0] - halves[1]) < 0.03
    assert largest[-5:].mean() > largest.mean() - 0.06


@pytest.mark.parametrize("equal", [True, False])
def test_smaller_alpha_is_farther_from_iid(equal):
    stock = np.full(10, 2000)
    rng = np.random.default_rng(0)
    held = [(dirichlet(stock, 20, equal, a, rng) > 0).sum(1).mean() for a in (0.05, 0.3, 3)]
    assert held[0] < held[1] - 1
    assert held[1] < held[2] - 0.5
    assert held[2] > 9


@pytest.mark.parametrize("alpha", [1e-320, 1e308])
def test_alpha_that_cannot_be_drawn(alpha):
    with pytest.raises(ValueError, match="give 1e-09 to 1e\\+09"):
        dirichlet(np.full(10, 50), 5, True, alpha, np.random.default_rng(0))


def test_the_limits_of_alpha():
    """Far up each client has its part of each class, far down each class has one client."""
    stock = np.full(6, 60)
    assert (dirichlet(stock, 5, False, 1e9, np.random.default_rng(0)) == 12).all()
    counts = dirichlet(stock, 2, False, 1e-9, np.random.default_rng(0))
    assert sorted(counts.ravel()) == [0] * 6 + [60] * 6
    counts = dirichlet(np.full(2, 60_000), 400, True, 1e-9, np.random.default_rng(0))
    assert ((counts == 300).any(1)).mean() > 0.9  # but for the classes' sums, all of them


def test_pathological_as_published():
    """MNIST's 6000 a class, 100 clients of 2 classes: 300 images of either (McMahan et al.)."""
    counts = pathological(np.full(10, 6000), 100, True, 2, np.random.default_rng(0))
    assert ((counts == 300).sum(1) == 2).all()
    assert (counts.sum(1) == 600).all()
    assert len(np.unique(counts > 0, axis=0)) > 20  # pairs of classes, of 45


def test_equald_pathological_of_unequal_classes():
    """Rows and columns add up, and shards stay near to an even part of their class."""
    stock = np.array([118, 122, 119, 121, 117, 123, 122, 119, 121, 118])
    for seed in range(20):
        counts = pathological(stock, 10, True, 2, np.random.default_rng(seed))
        assert np.array_equal(counts.sum(0), stock)
        assert set(counts.sum(1)) == {120}
        assert ((counts > 0).sum(1) == 2).all()
        assert counts[counts > 0].min() >= 50
        assert counts.max() <= 70


def test_any_two_clients_may_share_a_class():
    """Dealt in turn, the first five of these would never."""
    shared = 0
    for seed in range(100):
        held = pathological(np.full(10, 60), 20, True, 2, np.random.default_rng(seed)) > 0
        shared += (held[0] & held[1]).any()
    assert 20 < shared < 60


def test_classes_have_shards_in_proportion():
    stock = np.array([3000, 2000, 1000])
    counts = pathological(stock, 60, False, 1, np.random.default_rng(0))
    assert (counts > 0).sum(0).tolist() == [30, 20, 10]
    counts = pathological(stock, 10, True, 2, np.random.default_rng(0))
    assert (counts > 0).sum(0).tolist() == [10, 7, 3]  # nobody holds a class twice


def test_pathological_of_all_classes_and_of_one():
    rng = np.random.default_rng(0)
    assert (pathological(np.full(5, 100), 10, True, 5, rng) == 10).all()
    counts = pathological(np.array([30, 40, 50]), 3, False, 1, rng)
    assert sorted(counts.max(1)) == [30, 40, 50]
    assert (pathological(np.array([30, 50]), 1, True, 2, rng) == [[30, 50]]).all()
