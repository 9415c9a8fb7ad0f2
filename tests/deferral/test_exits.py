"""Thresholds and stops of exits against a loop over samples in plain Python."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from deferral import exits, rules
from deferral.predictions import Predictions
from losses.early_exit import assign_exits, doubts

COSTS = [3, 7, 8, 20]


def plain_shares(p: int, num_exits: int) -> list[Fraction]:
    """q^k / sum of q^j with q = p / 20, exactly."""
    powers = [Fraction(p, 20) ** k for k in range(1, num_exits + 1)]
    return [power / sum(powers) for power in powers]


def plain_thresholds(confidence: list[list[float]], shares: list[Fraction]) -> list[float]:
    """One point: walk the exits, each takes its share of the most confident that are left."""
    n = len(confidence[0])
    left, thresholds = range(n), []
    for sure, share in zip(confidence[:-1], shares[:-1], strict=True):
        take, threshold = math.floor(n * share), math.inf
        if 0 < take <= len(left):
            threshold = sorted((sure[i] for i in left), reverse=True)[take - 1]
        thresholds.append(threshold)
        left = [i for i in left if sure[i] < threshold]
    return [*thresholds, -math.inf]


def plain_stops(confidence: list[list[float]], thresholds: list[float]) -> list[int]:
    """One point: the first exit of each sample that is sure enough."""
    stops = []
    for i in range(len(confidence[0])):
        for k, threshold in enumerate(thresholds):
            if confidence[k][i] >= threshold:
                stops.append(k)
                break
    return stops


def thresholds_of(row):
    """[E], of a row of `budgets.budgeted`: None is -inf at the last exit, else +inf."""
    *earlier, _ = row["max_doubt"]
    return np.array([np.inf if d is None else -d for d in earlier] + [-np.inf])


def predictions(seed=0, n=(60, 90), num_exits=4, classes=5, split=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, sum(n))
    right = np.linspace(0.5, 2, num_exits)[:, None, None]
    logits = rng.normal(size=(num_exits, sum(n), classes))
    logits += right * (np.arange(classes) == labels[:, None])
    rows = rng.permutation(np.repeat([0, 1], n)) if split is None else split
    settings = {"dataset": "made-up", "classes": ["a"] * classes, "rejectors": []}
    return Predictions(
        labels=labels,
        stage_logits=logits.astype(np.float32),
        split=rows,
        index=np.arange(sum(n)),
        scores=np.zeros((0, sum(n)), np.float32),
        settings=settings,
    )


def test_shares():
    for p in (1, 15, 20, 39):
        found = exits.shares(p / 20, 6)
        np.testing.assert_allclose(found, [float(s) for s in plain_shares(p, 6)], rtol=1e-14)
    np.testing.assert_allclose(exits.shares(1.0, 4), [0.25] * 4)
    np.testing.assert_allclose(exits.shares(2.0, 3), [1 / 7, 2 / 7, 4 / 7])
    rows = exits.shares(np.array([0.5, 1.5]), 3)
    np.testing.assert_array_equal(rows, [exits.shares(0.5, 3), exits.shares(1.5, 3)])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("levels", [2, 5, 20, None])
@pytest.mark.parametrize(("num_exits", "n"), [(1, 30), (2, 41), (5, 30), (5, 300), (8, 5), (3, 1)])
def test_thresholds_and_stops_are_the_plain_loop(levels, num_exits, n):
    """With few levels of confidence nearly all are ties, and exits find too few left."""
    points = range(1, exits.POINTS + 1)
    exact = [plain_shares(p, num_exits) for p in points]
    none, starved = 0, 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        val, test = rng.random((2, num_exits, n))
        if levels:
            val, test = (np.floor(levels * x) / levels for x in (val, test))
        thresholds = exits.fit_thresholds(val, exits.shares(np.array(points) / 20, num_exits))
        expected = [plain_thresholds(val.tolist(), shares) for shares in exact]
        np.testing.assert_array_equal(thresholds, expected)
        for rows in (val, test):
            stop = exits.stops(rows, thresholds)
            np.testing.assert_array_equal(stop, [plain_stops(rows.tolist(), t) for t in expected])
            assert stop.dtype == np.int64
        asked = np.array([[math.floor(n * share) for share in shares] for shares in exact])[:, :-1]
        taken = thresholds[:, :-1] < np.inf
        none += (~taken & (asked == 0)).sum()
        starved += (~taken & (asked > 0)).sum()
    if levels == 2 and num_exits == 5:
        assert starved > 0
    if n == 5:
        assert none > 0


def test_by_hand():
    sure = np.array([[0.9, 0.8, 0.8, 0.8, 0.1, 0.2], [0.5, 0.9, 0.9, 0.9, 0.6, 0.6], [0.0] * 6])
    shares = np.array([
        [1 / 3, 1 / 3, 1 / 3],  # two at exit 1: 0.9 and 0.8, but three have 0.8; then two are left
        [0.16, 0.34, 0.5],  # floor(0.96) = 0: none at exit 1; two at exit 2 are three with 0.9
        [1 / 3, 0.5, 1 / 6],  # three wanted at exit 2, two left: none
        [1, 0, 0],
    ])  # fmt: skip
    inf = np.inf
    expected = [[0.8, 0.6, -inf], [inf, 0.9, -inf], [0.8, inf, -inf], [0.1, inf, -inf]]
    thresholds = exits.fit_thresholds(sure, shares)
    np.testing.assert_array_equal(thresholds, expected)
    stop = exits.stops(sure, thresholds)
    np.testing.assert_array_equal(
        stop, [[0, 0, 0, 0, 1, 1], [2, 1, 1, 1, 2, 2], [0, 0, 0, 0, 2, 2], [0] * 6]
    )
    for row, point, left in zip(shares, expected, stop, strict=True):
        one = exits.fit_thresholds(sure, row)
        np.testing.assert_array_equal(one, point)
        np.testing.assert_array_equal(exits.stops(sure, one), left)
    # A sample exactly at a threshold leaves, one below it does not.
    np.testing.assert_array_equal(
        exits.stops(np.array([[0.8, np.nextafter(0.8, 0)], [0, 0], [0, 0]]), thresholds[2]), [0, 2]
    )


def test_a_share_that_is_a_whole_number_is_not_lost_to_rounding():
    """Training and evaluation: 18 * 5/6 = 15 and 210 * 5/6 = 175 come out a hair too low."""
    for p, n in ((4, 18), (4, 210), (22, 210)):
        val = np.random.default_rng(p).random((2, n))
        exact = plain_shares(p, 2)
        assert (n * exact[0]).denominator == 1
        thresholds = exits.fit_thresholds(val, exits.shares(p / 20, 2))
        assert thresholds.tolist() == plain_thresholds(val.tolist(), exact)
        counts = exits.exit_counts(n, exits.shares(p / 20, 2))
        taken = assign_exits(torch.from_numpy(val.T.copy()), counts.tolist())
        assert int((taken == 0).sum()) == n * exact[0]


def test_counts_are_the_floors_of_exact_rational_numbers():
    """Every target p, 1 to 12 exits, every batch up to 512 and usual sizes of val."""
    sizes = np.array([*range(1, 513), 1000, 1024, 2048, 4096, 5000, 10_000, 45_000, 50_000])
    for num_exits in range(1, 13):
        for p in range(1, exits.POINTS + 1):
            powers = [p**k * 20 ** (num_exits - k) for k in range(1, num_exits + 1)]
            shares = exits.shares(p / 20, num_exits)
            found = exits.exit_counts(sizes[:, None], shares)
            total = sum(powers)
            expected = [[n * power // total for power in powers] for n in sizes.tolist()]
            np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("error")
def test_confidence_is_stable():
    logits = np.random.default_rng(0).normal(size=(3, 17, 5)).astype(np.float32) * 4
    e = np.exp(logits.astype(np.float64))
    expected = (e / e.sum(-1, keepdims=True)).max(-1) - 1
    found = exits.confidence(logits)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    extreme = np.array([[[3e4, 0, -3e4], [-3e4, -3e4, -3e4]]], dtype=np.float32)
    np.testing.assert_allclose(exits.confidence(extreme), [[0, -2 / 3]])


@pytest.mark.parametrize(("scale", "dtype"), [(15, np.float32), (40, np.float64)])
def test_saturated_logits_do_not_tie(scale, dtype):
    """Max softmax is 1 for many of them in float32 (scale 15) and in float64 (scale 40).

    Wherever who is surest is asked, the order is that of the exact log of the doubt, and each exit
    takes the share that it is meant to, no more.
    """
    logits = scale * np.random.default_rng(0).normal(size=(4, 300, 10)).astype(np.float32)
    certain = softmax(logits.astype(dtype), axis=-1).max(-1) == 1
    assert certain.mean() > 0.1
    top, *others = np.moveaxis(np.sort(logits.astype(np.float64), axis=-1)[..., ::-1], -1, 0)
    exact = logsumexp([top, *others], axis=0) - logsumexp(others, axis=0)
    order = np.argsort(exact)
    sure = exits.confidence(logits)
    of_training = -doubts(torch.from_numpy(logits.astype(dtype))).T.numpy()
    for found in (sure, -rules.max_softmax_doubt(logits), of_training):
        np.testing.assert_array_equal(np.argsort(found), order)
        assert len(np.unique(found)) == found.size
    for q in (0.5, 1.0, 1.5):
        shares = exits.shares(q, 4)
        stop = exits.stops(sure, exits.fit_thresholds(sure, shares))
        counts = exits.exit_counts(300, shares)
        np.testing.assert_array_equal(np.bincount(stop)[:-1], counts[:-1])
        assert stop.tolist() == assign_exits(torch.from_numpy(-sure.T), counts.tolist()).tolist()
