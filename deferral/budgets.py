"""Accuracy and mean multiply-adds of a network with exits: of every exit, and of every budget.

Thresholds (exits.py) are fitted on val and used on test. The papers' code fits them on training
images or on the test images themselves; `optimism` measures the effect. Shapes are those of
exits.py. Accuracies are 0..1. Sums are of whole numbers, then one division.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import trapezoid

from deferral.exits import (
    confidence,
    costs_of,
    fit_thresholds,
    max_doubt,
    q_of_points,
    shares,
    spent,
    stops,
)
from deferral.metrics import beside_accuracy
from deferral.predictions import SPLITS, Predictions

FULL_SHARES = (0.3, 0.5, 0.7)


Row = dict[str, Any]


def anytime(predictions: Predictions, multiply_adds: Sequence[int]) -> list[Row]:
    """A row per exit, counted from 1: its multiply-adds, and its accuracy on test and on val.

    Rows have the further `metrics` that the settings name, too, measured on test.
    """
    costs = costs_of(multiply_adds, len(predictions.stage_logits))
    val, test = (_rows(predictions, split) for split in ("val", "test"))
    measured = _metrics(predictions)
    return [
        {
            "exit": k + 1,
            "multiply_adds": int(cost),
            "accuracy": _mean(right[test]),
            "val_accuracy": _mean(right[val]),
            **measured(np.full(test.sum(), k)),
        }
        for k, (cost, right) in enumerate(zip(costs, predictions.correct, strict=True))
    ]


def budgeted(predictions: Predictions, multiply_adds: Sequence[int]) -> list[Row]:
    """A row for each p = 1..39, q = p / 20: thresholds fitted on val, the rest from test.

    `shares` is the share of test samples that leaves at each exit, `multiply_adds` their mean;
    metrics as in `anytime`.
    `max_doubt` holds the thresholds: a sample leaves where 1 - max softmax is at most that. For
    JSON, None stands for infinity: all leave at the last exit, none at an earlier one.
    """
    sure = confidence(predictions.stage_logits)
    val, test = (_rows(predictions, split) for split in ("val", "test"))
    q = q_of_points()
    thresholds = fit_thresholds(sure[:, val], shares(q, len(sure)))
    stop = stops(sure[:, test], thresholds)
    left, accuracy, cost = spent(stop, predictions.correct[:, test], multiply_adds)
    measured = _metrics(predictions)
    return [
        {
            "p": i + 1,
            "q": float(q[i]),
            "max_doubt": max_doubt(thresholds[i]),
            "shares": left[i].tolist(),
            "accuracy": float(accuracy[i]),
            "multiply_adds": float(cost[i]),
            **measured(stop[i]),
        }
        for i in range(len(q))
    ]


def whole_curve(anytime_rows: list[Row], points: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Costs and accuracies of the budgeted points and of the smallest and the largest budget.

    These ends are thresholds too: all samples leave at the first exit, or all go to the last. With
    them the curves of all methods on one network cover the same range of costs.
    """
    rows = [anytime_rows[0], *points, anytime_rows[-1]]
    costs, accuracies = ([row[key] for row in rows] for key in ("multiply_adds", "accuracy"))
    return np.array(costs), np.array(accuracies)


def sorted_curve(costs: ArrayLike, accuracies: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Sorted by cost; points of equal cost are one, with the mean of their accuracies."""
    distinct, where = np.unique(np.asarray(costs, dtype=np.float64), return_inverse=True)
    return distinct, np.bincount(where, weights=accuracies) / np.bincount(where)


def accuracy_at(costs: ArrayLike, accuracies: ArrayLike, full: float, share: float) -> float | None:
    """Accuracy at the cost share * full; None outside the range of the curve.

    Linear between two neighbours of `sorted_curve`: the expectation of choosing between their
    thresholds at random. `full` is the cost of the last exit.
    """
    x, y = sorted_curve(costs, accuracies)
    if not x[0] <= share * full <= x[-1]:
        return None
    return float(np.interp(share * full, x, y))


def area(costs: ArrayLike, accuracies: ArrayLike, full: float) -> float:
    """Area under accuracy against cost, from the lowest cost to `full`, divided by that width.

    An accuracy, 0..1: the mean over budgets spread evenly between the cheapest and the full one.
    Linear between points, as in `accuracy_at`. With both ends (`whole_curve`) the range runs from
    the first exit to the last for every method, so two methods on one network are comparable.
    ValueError where the curve does not end at `full`.
    """
    x, y = sorted_curve(costs, accuracies)
    if not np.isclose(x[-1], full, rtol=1e-9, atol=0):
        raise ValueError(f"the curve ends at {x[-1]:g}, not at the full cost {full:g}")
    return float(trapezoid(y, x) / (x[-1] - x[0]) if len(x) > 1 else y[0])


def evaluate(predictions: Predictions, multiply_adds: Sequence[int]) -> dict[str, Any]:
    """multiply_adds, anytime, budgeted, at_share and area, as a result JSON holds them.

    at_share and area are of the budgeted curve with its ends (`whole_curve`). ValueError without
    val or test rows, or where multiply_adds do not fit the stages.
    """
    exits = anytime(predictions, multiply_adds)
    rows = budgeted(predictions, multiply_adds)
    curve, full = whole_curve(exits, rows), exits[-1]["multiply_adds"]
    return {
        "multiply_adds": [row["multiply_adds"] for row in exits],
        "anytime": exits,
        "budgeted": rows,
        "at_share": {f"{share:g}": accuracy_at(*curve, full, share) for share in FULL_SHARES},
        "area": area(*curve, full),
    }


def optimism(
    confidence: Mapping[str, np.ndarray],
    correct: Mapping[str, np.ndarray],
    multiply_adds: Sequence[int],
) -> list[Row]:
    """What thresholds fitted on rows other than val promise, and what they deliver on test.

    confidence and correct, each [E, N], by the name of their rows: "val", "test", and any others to
    fit thresholds on, such as "train". A row for each of them and p = 1..39:

    promised_accuracy, promised_multiply_adds   of the rows the thresholds were fitted on
    accuracy, multiply_adds                     of test at these thresholds: delivered
    accuracy_gap, multiply_adds_gap             delivered, minus what val's thresholds deliver at p
    above_clean_curve                           delivered accuracy, minus that of val's curve (with
                                                its ends) at the same cost

    Thresholds fitted on train break the promise: a network is more confident on its training
    images, so test samples go further and cost more than the budget. Fitted on test, promised and
    delivered are equal by construction, and above_clean_curve is the gain from using the test set.
    """
    q = q_of_points()
    thresholds = {n: fit_thresholds(sure, shares(q, len(sure))) for n, sure in confidence.items()}

    def measured(rows: str, fitted_on: str) -> tuple[np.ndarray, np.ndarray]:
        stop = stops(confidence[rows], thresholds[fitted_on])
        return spent(stop, correct[rows], multiply_adds)[1:]

    clean_accuracy, clean_cost = measured("test", "val")
    first, last = (_mean(correct["test"][k]) for k in (0, -1))
    curve = sorted_curve(
        [multiply_adds[0], *clean_cost, multiply_adds[-1]], [first, *clean_accuracy, last]
    )
    table = []
    for name in confidence:
        promised_accuracy, promised_cost = measured(name, name)
        accuracy, cost = measured("test", name)
        columns = {
            "promised_accuracy": promised_accuracy,
            "promised_multiply_adds": promised_cost,
            "accuracy": accuracy,
            "multiply_adds": cost,
            "accuracy_gap": accuracy - clean_accuracy,
            "multiply_adds_gap": cost - clean_cost,
            "above_clean_curve": accuracy - np.interp(cost, *curve),
        }
        table += [
            {"fitted_on": name, "p": i + 1, "q": float(q[i])}
            | {key: float(values[i]) for key, values in columns.items()}
            for i in range(len(q))
        ]
    return table


def _metrics(predictions: Predictions) -> Callable[[np.ndarray], dict[str, float]]:
    """From the exits that answer the test rows, [Nt], to the metrics that the settings name."""
    names = predictions.settings.get("metrics")
    if not names:
        return lambda stop: {}
    test = _rows(predictions, "test")
    labels, answers = predictions.labels[test], predictions.stage_logits[:, test].argmax(-1)
    return lambda stop: beside_accuracy(names, labels, answers[stop, np.arange(len(stop))])


def _rows(predictions: Predictions, split: str) -> np.ndarray:
    """A mask of the val or test rows, [N] bool; `Predictions.part` would copy the logits."""
    rows = predictions.split == SPLITS[split]
    if not rows.any():
        raise ValueError(f"{predictions.source}: has no {split} rows")
    return rows


def _mean(right: np.ndarray) -> float:
    return float(right.sum() / right.size)
