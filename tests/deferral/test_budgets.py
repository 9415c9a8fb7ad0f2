"""Accuracy and mean multiply-adds of exits against sums, and what other protocols promise."""

import json

import numpy as np
import pytest

from deferral import budgets, exits
from tests.deferral.test_exits import (
    COSTS,
    plain_shares,
    plain_stops,
    plain_thresholds,
    predictions,
    thresholds_of,
)


def test_rows_are_sums_over_samples():
    saved = predictions()
    found = budgets.evaluate(saved, COSTS)
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
        np.testing.assert_allclose(thresholds_of(row), thresholds, rtol=1e-10)
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
    a, b = (budgets.evaluate(p, COSTS)["budgeted"] for p in (one, other))
    assert [row["max_doubt"] for row in a] == [row["max_doubt"] for row in b]
    assert [row["multiply_adds"] for row in a] != [row["multiply_adds"] for row in b]


def test_more_share_for_late_exits_costs_more():
    found = budgets.evaluate(predictions(n=(2000, 3000)), COSTS)
    costs = [row["multiply_adds"] for row in found["budgeted"]]
    assert (np.diff(costs) > 0).all()
    # On many samples the shares of test are those that were asked for on val.
    for row in found["budgeted"]:
        np.testing.assert_allclose(row["shares"], exits.shares(row["q"], 4), atol=0.05)


def test_accuracy_at_a_share_of_the_cost():
    costs, accuracies = [40, 10, 20, 20], [0.9, 0.5, 0.6, 0.8]
    at = [budgets.accuracy_at(costs, accuracies, 40, s) for s in (0.25, 0.375, 0.5, 0.75, 1)]
    np.testing.assert_allclose(at, [0.5, 0.6, 0.7, 0.8, 0.9])
    assert budgets.accuracy_at(costs, accuracies, 40, 0.24) is None
    assert budgets.accuracy_at(costs, accuracies, 41, 1) is None


def test_area_is_the_mean_height():
    assert budgets.area([10, 40, 20], [0.5, 0.9, 0.7], 40) == pytest.approx((6 + 16) / 30)
    assert budgets.area([10, 40], [0.7, 0.7], 40) == pytest.approx(0.7)
    assert budgets.area([40], [0.7], 40) == 0.7
    with pytest.raises(ValueError, match="ends at 40"):
        budgets.area([10, 40], [0.5, 0.7], 50)
    # The unit of cost, and where the points lie on one and the same line, do not matter.
    costs, accuracies = np.array([1.0, 2, 4, 9]), np.array([0.2, 0.5, 0.6, 0.7])
    more = np.linspace(1, 9, 65)
    line = np.interp(more, costs, accuracies)
    assert budgets.area(7 * more, line, 63) == pytest.approx(budgets.area(costs, accuracies, 9))


def test_area_and_shares_of_a_result_are_of_the_whole_curve():
    found = budgets.evaluate(predictions(), COSTS)
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
    dear = budgets.evaluate(predictions(), [7, 8, 9, 20])
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
    found = budgets.optimism(sure, correct, COSTS)
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
        name: [row for row in budgets.optimism(sure, correct, COSTS) if row["fitted_on"] == name]
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
    for row in budgets.optimism(*same, COSTS):
        assert row["promised_accuracy"] == row["accuracy"]
        assert row["accuracy_gap"] == row["multiply_adds_gap"] == 0


@pytest.mark.parametrize(
    ("call", "telling"),
    [
        (lambda: budgets.evaluate(predictions(), COSTS[:3]), "need 4 whole numbers"),
        (lambda: budgets.evaluate(predictions(), [3, 7, 6, 20]), "never fall"),
        (lambda: budgets.evaluate(predictions(), [3.5, 7.0, 8.0, 20.0]), "whole numbers"),
        (lambda: budgets.evaluate(predictions(split=np.ones(150, int)), COSTS), "has no val rows"),
        (lambda: budgets.budgeted(predictions(split=np.zeros(150, int)), COSTS), "no test rows"),
    ],
)
def test_bad_input_is_refused(call, telling):
    with pytest.raises(ValueError, match=telling) as e:
        call()
    assert "\n" not in str(e.value)
