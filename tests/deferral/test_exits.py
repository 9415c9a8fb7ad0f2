"""Budgeted evaluation against a loop over samples in plain Python, and its curve against sums."""

import json
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
    for q in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="above 0"):
            exits.shares(q, 3)


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
def test_confidence_is_stable_and_in_chunks(monkeypatch):
    logits = np.random.default_rng(0).normal(size=(3, 17, 5)).astype(np.float32) * 4
    e = np.exp(logits.astype(np.float64))
    expected = (e / e.sum(-1, keepdims=True)).max(-1) - 1
    for chunk in (1, 5, 12, 2**20):
        monkeypatch.setattr(exits, "CHUNK", chunk)
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


def test_rows_are_sums_over_samples():
    saved = predictions()
    found = exits.evaluate(saved, COSTS)
    val, test = (np.flatnonzero(saved.split == s) for s in (0, 1))
    for k, row in enumerate(found["anytime"]):
        for key, rows in (("accuracy", test), ("val_accuracy", val)):
            right = sum(saved.stage_logits[k, i].argmax() == saved.labels[i] for i in rows)
            assert row[key] == right / len(rows)
        assert (row["exit"], row["multiply_adds"]) == (k + 1, COSTS[k])

    e = np.exp(saved.stage_logits.astype(np.float64))
    sure = (e / e.sum(-1, keepdims=True)).max(-1) - 1
    for p, row in enumerate(found["budgeted"], start=1):
        thresholds = plain_thresholds(sure[:, val].tolist(), plain_shares(p, 4))
        np.testing.assert_allclose(exits.thresholds_of(row), thresholds, rtol=1e-10)
        stop = plain_stops(sure[:, test].tolist(), thresholds)
        right = sum(saved.correct[k, i] for k, i in zip(stop, test, strict=True))
        assert row["p"] == p
        assert row["q"] == p / 20
        assert row["shares"] == [stop.count(k) / len(test) for k in range(4)]
        assert row["accuracy"] == right / len(test)
        assert row["multiply_adds"] == sum(COSTS[k] for k in stop) / len(test)
    assert len(found["budgeted"]) == 39
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_test_rows_do_not_move_the_thresholds():
    one, other = predictions(), predictions()
    other.stage_logits[:, other.split == 1] *= 3
    a, b = (exits.evaluate(p, COSTS)["budgeted"] for p in (one, other))
    assert [row["max_doubt"] for row in a] == [row["max_doubt"] for row in b]
    assert [row["multiply_adds"] for row in a] != [row["multiply_adds"] for row in b]


def test_more_share_for_late_exits_costs_more():
    found = exits.evaluate(predictions(n=(2000, 3000)), COSTS)
    costs = [row["multiply_adds"] for row in found["budgeted"]]
    assert (np.diff(costs) > 0).all()
    # On many samples the shares of test are those that were asked for on val.
    for row in found["budgeted"]:
        np.testing.assert_allclose(row["shares"], exits.shares(row["q"], 4), atol=0.05)


def test_accuracy_at_a_share_of_the_cost():
    costs, accuracies = [40, 10, 20, 20], [0.9, 0.5, 0.6, 0.8]
    at = [exits.accuracy_at(costs, accuracies, 40, s) for s in (0.25, 0.375, 0.5, 0.75, 1)]
    np.testing.assert_allclose(at, [0.5, 0.6, 0.7, 0.8, 0.9])
    assert exits.accuracy_at(costs, accuracies, 40, 0.24) is None
    assert exits.accuracy_at(costs, accuracies, 41, 1) is None


def test_area_is_the_mean_height():
    assert exits.area([10, 40, 20], [0.5, 0.9, 0.7], 40) == pytest.approx((6 + 16) / 30)
    assert exits.area([10, 40], [0.7, 0.7], 40) == pytest.approx(0.7)
    assert exits.area([40], [0.7], 40) == 0.7
    with pytest.raises(ValueError, match="ends at 40"):
        exits.area([10, 40], [0.5, 0.7], 50)
    # The unit of cost, and where the points lie on one and the same line, do not matter.
    costs, accuracies = np.array([1.0, 2, 4, 9]), np.array([0.2, 0.5, 0.6, 0.7])
    more = np.linspace(1, 9, 65)
    line = np.interp(more, costs, accuracies)
    assert exits.area(7 * more, line, 63) == pytest.approx(exits.area(costs, accuracies, 9))


def test_area_and_shares_of_a_result_are_of_the_whole_curve():
    found = exits.evaluate(predictions(), COSTS)
    rows = [found["anytime"][0], *found["budgeted"], found["anytime"][-1]]
    costs = np.array([row["multiply_adds"] for row in rows])
    accuracies = np.array([row["accuracy"] for row in rows])
    grid = np.linspace(3, 20, 200_001)
    mean = [accuracies[costs == c].mean() for c in np.unique(costs)]
    line = np.interp(grid, np.unique(costs), mean)
    assert found["area"] == pytest.approx(line.mean(), abs=1e-4)
    assert list(found["at_share"]) == ["0.3", "0.5", "0.7"]
    for share, accuracy in found["at_share"].items():
        assert accuracy == pytest.approx(line[np.abs(grid - 20 * float(share)).argmin()], abs=1e-4)
    dear = exits.evaluate(predictions(), [7, 8, 9, 20])
    assert dear["at_share"]["0.3"] is None
    assert dear["at_share"]["0.5"] is not None


def split_rows(sure_of_train=2.0, seed=0):
    """Confidence and correct of train, val and test; train is what the network is surer of."""
    rng = np.random.default_rng(seed)
    sure, correct = {}, {}
    for name, n, lift in (("train", 900, sure_of_train), ("val", 700, 0), ("test", 800, 0)):
        easy = rng.normal(size=n) + np.linspace(0, 2, 4)[:, None] + lift
        sure[name] = 1 / (1 + np.exp(-easy - 0.3 * rng.normal(size=(4, n))))
        correct[name] = rng.random((4, n)) < sure[name]
    return sure, correct


def test_optimism_is_promise_and_delivery():
    sure, correct = split_rows()
    found = exits.optimism(sure, correct, COSTS)
    assert [row["fitted_on"] for row in found] == [s for s in sure for _ in range(39)]
    by = {(row["fitted_on"], row["p"]): row for row in found}
    for p in (1, 7, 20, 39):
        delivered = {}
        for name in sure:
            thresholds = plain_thresholds(sure[name].tolist(), plain_shares(p, 4))
            for rows, prefix in ((name, "promised_"), ("test", "")):
                stop = plain_stops(sure[rows].tolist(), thresholds)
                right = sum(correct[rows][k][i] for i, k in enumerate(stop))
                cost = sum(COSTS[k] for k in stop) / len(stop)
                assert by[name, p][f"{prefix}accuracy"] == right / len(stop)
                assert by[name, p][f"{prefix}multiply_adds"] == cost
            delivered[name] = right / len(stop), cost
        for name in sure:
            accuracy, cost = np.subtract(delivered[name], delivered["val"])
            assert by[name, p]["accuracy_gap"] == pytest.approx(accuracy, abs=1e-12)
            assert by[name, p]["multiply_adds_gap"] == pytest.approx(cost, abs=1e-12)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_optimism_says_how_wrong_the_other_protocols_are():
    sure, correct = split_rows()
    rows = {
        name: [row for row in exits.optimism(sure, correct, COSTS) if row["fitted_on"] == name]
        for name in sure
    }
    for row in rows["train"]:  # surer on train: the cost promised is not kept, nor the accuracy
        assert row["multiply_adds"] > row["promised_multiply_adds"]
        assert row["promised_accuracy"] > row["accuracy"]
        assert row["multiply_adds_gap"] > 0
    for row in rows["test"]:
        assert row["accuracy"] == row["promised_accuracy"]
        assert row["multiply_adds"] == row["promised_multiply_adds"]
    for row in rows["val"]:
        assert row["accuracy_gap"] == row["multiply_adds_gap"] == 0
        assert row["above_clean_curve"] == pytest.approx(0, abs=1e-12)
    clean = [(row["multiply_adds"], row["accuracy"]) for row in rows["val"]]
    ends = [(COSTS[k], correct["test"][k].mean()) for k in (0, -1)]
    curve = np.array(sorted([*clean, *ends])).T
    for name in ("train", "test"):
        for row in rows[name]:
            height = row["accuracy"] - np.interp(row["multiply_adds"], *curve)
            assert row["above_clean_curve"] == pytest.approx(height, abs=1e-12)


def test_optimism_of_equal_rows_is_none():
    sure, correct = split_rows()
    same = dict.fromkeys(sure, sure["val"]), dict.fromkeys(sure, correct["val"])
    for row in exits.optimism(*same, COSTS):
        assert row["promised_accuracy"] == row["accuracy"]
        assert row["accuracy_gap"] == row["multiply_adds_gap"] == 0
    with pytest.raises(ValueError, match="needs confidence and correct of val and test"):
        exits.optimism({"test": sure["test"]}, {"test": correct["test"]}, COSTS)


@pytest.mark.parametrize(
    ("call", "telling"),
    [
        (lambda: exits.confidence(np.zeros((3, 4))), r"must be \[E, N, K\]"),
        (lambda: exits.fit_thresholds(np.full((2, 3), np.nan), [0.5, 0.5]), "without nan"),
        (lambda: exits.fit_thresholds(np.zeros((2, 0)), [0.5, 0.5]), "at least one sample"),
        (lambda: exits.fit_thresholds(np.zeros((2, 3)), [0.5, 0.4, 0.1]), r"must be \[P, 2\]"),
        (lambda: exits.fit_thresholds(np.zeros((2, 3)), [1.5, -0.5]), r"each in 0\.\.1"),
        (lambda: exits.stops(np.zeros((2, 3)), [0.5, 0.5]), "must be -inf"),
        (lambda: exits.stops(np.zeros((2, 3)), [np.nan, -np.inf]), "may be nan"),
        (lambda: exits.stops(np.zeros((2, 3)), [-np.inf]), r"must be \[P, 2\]"),
        (lambda: exits.area([1, 2], [0.5], 2), "costs"),
        (lambda: exits.evaluate(predictions(), COSTS[:3]), "need 4 whole numbers"),
        (lambda: exits.evaluate(predictions(), [3, 7, 6, 20]), "never fall"),
        (lambda: exits.evaluate(predictions(), [3.5, 7.0, 8.0, 20.0]), "whole numbers"),
        (lambda: exits.evaluate(predictions(split=np.ones(150, int)), COSTS), "has no val rows"),
        (lambda: exits.budgeted(predictions(split=np.zeros(150, int)), COSTS), "no test rows"),
    ],
)
def test_bad_input_is_refused(call, telling):
    with pytest.raises(ValueError, match=telling) as e:
        call()
    assert "\n" not in str(e.value)
