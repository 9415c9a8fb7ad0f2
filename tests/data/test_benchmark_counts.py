"""PFLlib's partitions: counts of clients and classes for CIFAR-10 and CIFAR-100."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from data.benchmark_counts import benchmark_counts, by_shares

CIFAR10, CIFAR100 = np.full(10, 6000), np.full(100, 600)


def counts_of(stock, clients=20, kind="dir", balance=False, alpha=0.1, per_client=None, seed=0):
    per_client = per_client or max(2, len(stock) // 10)
    rng = np.random.default_rng(seed)
    counts = benchmark_counts(stock, clients, kind, balance, alpha, per_client, rng)
    assert counts.shape == (clients, len(stock))
    assert counts.min() >= 0
    assert np.array_equal(counts.sum(0), stock)
    return counts


@pytest.mark.parametrize("balance", [True, False])
@pytest.mark.parametrize("kind", ["-", "pat", "dir", "exdir"])
def test_the_20_clients_of_the_benchmark_on_cifar100(kind, balance):
    counts = counts_of(CIFAR100, 20, kind, balance)
    held = (counts > 0).sum(1)
    assert counts.sum(1).min() >= (10 if kind == "exdir" else 40)
    if kind in ("pat", "exdir"):
        assert held.max() <= 10
    if kind == "pat":
        assert held.min() == 10
    if kind == "-":
        assert held.min() == 100


def test_iid_and_pat_balanced_cut_classes_evenly():
    assert (counts_of(CIFAR10, 20, "-", True) == 300).all()
    counts = counts_of(CIFAR10, 20, "pat", True)
    expected = np.zeros((20, 10), int)
    for client, k in product(range(20), range(10)):
        expected[client, k] = 1500 * (client // 4 == k // 2)
    assert np.array_equal(counts, expected)
    counts = counts_of(np.array([100, 50, 31]), 3, "-", True)
    assert counts.tolist() == [[33, 16, 10], [33, 16, 10], [34, 18, 11]]


@pytest.mark.parametrize(("kind", "width"), [("-", 20), ("pat", 4)])
def test_unbalanced_parts_are_a_tenth_of_the_mean_to_the_mean(kind, width):
    """The last holder of a class gets the rest."""
    mean = 6000 / width
    parts = []
    for seed in range(40):
        for column in counts_of(CIFAR10, 20, kind, seed=seed).T:
            held = column[column > 0]
            assert len(held) == width
            assert held[-1] >= mean
            parts += held[:-1].tolist()
    assert min(parts) >= mean / 10
    assert max(parts) < mean
    assert np.mean(parts) == pytest.approx(0.55 * mean, rel=0.02)
    assert np.std(parts) == pytest.approx(0.9 * mean / 12**0.5, rel=0.05)


@pytest.mark.parametrize("kind", ["dir", "exdir"])
def test_dirichlet_draws_ignore_balance(kind):
    assert np.array_equal(
        counts_of(CIFAR10, 20, kind, True, 1.0), counts_of(CIFAR10, 20, kind, False, 1.0)
    )


def test_dir_bounds_clients_and_gives_each_enough_images():
    """A client beyond the mean gets nothing of later classes, so it has less than a class more."""
    largest = []
    for seed in range(20):
        total = counts_of(CIFAR10, 100, alpha=0.3, seed=seed).sum(1)
        assert total.min() >= 40
        largest.append(total.max())
        counts = counts_of(CIFAR10, 20, seed=seed)
        before = counts.cumsum(1) - counts
        assert (counts[before >= 3000] == 0).all()
    assert min(largest) > 600 * 1.2
    assert max(largest) < 600 + 6000


def test_dir_of_the_first_class_is_dirichlet():
    """Nobody is at the mean by then: shares of variance (1/J)(1 - 1/J) / (J alpha + 1)."""
    shares = np.array([counts_of(CIFAR10, 20, alpha=1.0, seed=s)[:, 0] for s in range(150)]) / 6000
    assert shares.var() == pytest.approx(1 / 20 * 19 / 20 / 21, rel=0.12)


def test_exdir_holds_classes_as_tables_drawn_until_each_class_has_holders():
    """How many of 4 clients with 2 of 5 classes hold the first class, against such draws.

    With an alpha of 1e6 each holder of the first class has a part of it.
    """
    expected, rng = np.zeros(4), np.random.default_rng(1)
    for _ in range(4000):
        table = np.argsort(rng.random((4, 5)))[:, :2]
        if (numbers := np.bincount(table.ravel(), minlength=5)).min() >= 1:
            expected[numbers[0] - 1] += 1
    drawn = np.zeros(4)
    for seed in range(300):
        counts = counts_of(np.full(5, 400), 4, "exdir", alpha=1e6, per_client=2, seed=seed)
        drawn[np.count_nonzero(counts[:, 0]) - 1] += 1
    assert drawn / 300 == pytest.approx(expected / expected.sum(), abs=0.08)


def test_exdir_gives_the_classes_asked_for():
    counts = counts_of(CIFAR10, 20, "exdir", alpha=100.0)
    assert ((counts > 0).sum(1) == 2).all()
    holders = (counts > 0).sum(0)
    assert holders.min() >= 2
    assert len(set(holders.tolist())) > 1


@pytest.mark.parametrize("alpha", [0.1, 1.0, 1e4])
def test_shares_are_cut_without_bias(alpha):
    """Cuts of 4 images by Dirichlet shares of 10 clients have the mean 0.4 for each of them."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(10, alpha), 5000).T
    counts = by_shares(shares, np.full(5000, 4), rng)
    assert (counts.sum(0) == 4).all()
    assert counts.mean(1) == pytest.approx(np.full(10, 0.4), abs=4 * counts.std() / 5000**0.5)


def test_cuts_stay_within_the_images_of_a_class():
    nearly_one = SimpleNamespace(random=lambda count: np.full(count, np.nextafter(1, 0)))
    counts = by_shares(np.full((3, 4), 1 / 3), np.array([1, 2, 7, 10**6]), nearly_one)
    assert counts.sum(0).tolist() == [1, 2, 7, 10**6]
