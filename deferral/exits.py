"""Networks with exits: where samples leave, accuracy, and mean multiply-adds.

Anytime: all samples are answered by one exit. Budgeted batch classification (Huang et al., ICLR
2018, Multi-Scale Dense Networks): a sample leaves at the first exit whose confidence, the max
softmax, reaches the exit's threshold, and the thresholds are such that exit k answers a share
p_k ∝ q^k. q = p / 20, p = 1..39, are the 39 points of a curve: from 95 % leaving at the first exit
to about half going to the last. Confidence is kept as max softmax - 1, from -1 to 0, so that the
nearly certain do not tie (`rules.max_softmax_doubt` says why).

Thresholds are fitted on val and used on test. The papers' code fits them on training images or on
the test images themselves; `optimism` measures the effect.

Shapes: stage_logits [E, N, K], confidence [E, N], correct [E, N] bool, multiply_adds [E] (up to and
including an exit, so they never fall), shares and thresholds [P, E] (a row a point), stop [P, N] in
0..E-1. Accuracies are 0..1. Sums are of whole numbers, then one division.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import trapezoid

from deferral.metrics import beside_accuracy
from deferral.predictions import SPLITS, Predictions
from deferral.rules import max_softmax_doubt

POINTS = 39
FULL_SHARES = (0.3, 0.5, 0.7)
CHUNK = 2**20  # logits per float64 conversion: 8 MB, and as much for each temporary

Row = dict[str, Any]


def shares(q: float | np.ndarray, num_exits: int) -> np.ndarray:
    """p_k ∝ q^k for k = 1..E, summing to 1: [E] for a number, [P, E] for q [P]. q > 0."""
    q = np.asarray(q, dtype=np.float64)
    if num_exits < 1 or not (np.isfinite(q) & (q > 0)).all():
        raise ValueError(f"shares of {num_exits} exits at q = {q}: q must be above 0, exits 1 up")
    powers = q[..., None] ** np.arange(1, num_exits + 1)
    return powers / powers.sum(-1, keepdims=True)


def exit_counts(n: int | np.ndarray, shares: np.ndarray) -> np.ndarray:
    """floor(n p_k): how many of n samples each exit takes, int64 of the shape of n * shares.

    Used by training's meta loss and by thresholds. In floating point n p_k can lie below the whole
    number that it equals (18 * 5/6 gives 14.999999999999998, an error of about n * 1e-16), so 1e-9
    is added: that gives the floor of the exact rational number for all p = 1..39, up to 12 exits
    and every n that the tests try. In float32, as the release of L2W computes it, 240 of 425,880
    counts are off by one (2 to 7 exits; 239 too low), none of them for n a power of two.
    """
    return np.floor(n * np.asarray(shares, dtype=np.float64) + 1e-9).astype(np.int64)


def confidence(stage_logits: np.ndarray) -> np.ndarray:
    """Max softmax - 1 of every exit, [E, N, K] to float64 [E, N], by `max_softmax_doubt`.

    Converts CHUNK logits at a time to float64.
    """
    stage_logits = np.asarray(stage_logits)
    if stage_logits.ndim != 3 or not stage_logits.shape[-1]:
        raise ValueError(f"stage_logits {stage_logits.shape} must be [E, N, K], K >= 1")
    rows = max(1, CHUNK // stage_logits.shape[-1])
    confidences = np.empty(stage_logits.shape[:2])
    for k, logits in enumerate(stage_logits):
        for start in range(0, len(logits), rows):
            confidences[k, start : start + rows] = -max_softmax_doubt(logits[start : start + rows])
    return confidences


def fit_thresholds(confidence_val: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Thresholds [P, E] at which each exit takes its share of these samples.

    confidence_val [E, N], shares [P, E] or [E]. In order of the exits, exit k takes the
    floor(N p_k) most confident of the samples that no earlier exit took. Its threshold is the
    lowest confidence that it takes; samples of equal confidence go with it, so it may take more.
    Where floor(N p_k) is 0, or more than the samples left, the threshold is +inf: it takes none.
    The last exit takes the rest: -inf. O(E N (log N + P)).
    """
    confidence_val = _confidence(confidence_val)
    num_exits, n = confidence_val.shape
    shares = np.asarray(shares, dtype=np.float64)
    if not n:
        raise ValueError("thresholds need at least one sample to be fitted on")
    if (
        shares.ndim not in (1, 2)
        or shares.shape[-1] != num_exits
        or not ((shares >= 0) & (shares <= 1)).all()
    ):
        raise ValueError(f"shares {shares.shape} must be [P, {num_exits}], each in 0..1")
    takes = np.atleast_2d(exit_counts(n, shares).astype(np.int32))
    thresholds = np.full(takes.shape, np.inf)
    thresholds[:, -1] = -np.inf
    left = np.ones((len(takes), n), dtype=bool)
    for k in range(num_exits - 1):
        order = np.argsort(-confidence_val[k])
        take = takes[:, k, None]
        # How many of those left are at least as far up in the order, [P, N].
        seen = np.cumsum(left[:, order], axis=1, dtype=np.int32)
        last = (seen < take).sum(1)  # place of the last one taken; n where too few are left
        able = (last < n) & (take[:, 0] > 0)
        thresholds[able, k] = confidence_val[k][order[last[able]]]
        left &= confidence_val[k] < thresholds[:, k, None]
    return thresholds.reshape(shares.shape)


def stops(confidence: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The exit that answers: the first k with confidence[k] >= threshold[k].

    confidence [E, N]; thresholds [P, E] give int64 [P, N], [E] give [N]. ValueError unless the
    last threshold is -inf: without it some samples would have no answer.
    """
    confidence, thresholds = _confidence(confidence), np.asarray(thresholds, dtype=np.float64)
    num_exits, n = confidence.shape
    if thresholds.ndim not in (1, 2) or thresholds.shape[-1] != num_exits:
        raise ValueError(f"thresholds {thresholds.shape} must be [P, {num_exits}]")
    if not (thresholds[..., -1] == -np.inf).all() or np.isnan(thresholds).any():
        raise ValueError("thresholds: none may be nan, and the last exit's must be -inf")
    stop = np.full((*thresholds.shape[:-1], n), num_exits - 1)
    for k in reversed(range(num_exits - 1)):
        np.copyto(stop, k, where=confidence[k] >= thresholds[..., k, None])
    return stop


def spent(
    stop: np.ndarray, correct: np.ndarray, multiply_adds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For stops [P, N]: share leaving at each exit [P, E], accuracy [P], mean multiply-adds [P]."""
    correct = np.asarray(correct, dtype=bool)
    costs, n = _costs(multiply_adds, len(correct)), stop.shape[1]
    counts = np.stack([(stop == k).sum(1) for k in range(len(correct))], axis=1)
    right = correct[stop, np.arange(n)].sum(1)
    return counts / n, right / n, counts @ costs / n


def anytime(predictions: Predictions, multiply_adds: Sequence[int]) -> list[Row]:
    """A row per exit, counted from 1: its multiply-adds, and its accuracy on test and on val.

    Rows have the further `metrics` that the settings name, too, measured on test.
    """
    costs = _costs(multiply_adds, len(predictions.stage_logits))
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


def budgeted(
    predictions: Predictions, multiply_adds: Sequence[int], points: int = POINTS
) -> list[Row]:
    """A row for each p = 1..points, q = p / 20: thresholds fitted on val, the rest from test.

    `shares` is the share of test samples that leaves at each exit, `multiply_adds` their mean;
    metrics as in `anytime`.
    `max_doubt` holds the thresholds: a sample leaves where 1 - max softmax is at most that. For
    JSON, None stands for infinity (`thresholds_of` reads it).
    """
    sure = confidence(predictions.stage_logits)
    val, test = (_rows(predictions, split) for split in ("val", "test"))
    q = _q(points)
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
        for i in range(points)
    ]


def max_doubt(thresholds: np.ndarray) -> list[float | None]:
    """Thresholds [E] as a row of `budgeted` holds them."""
    return [float(-t) if np.isfinite(t) else None for t in thresholds]


def thresholds_of(row: Row) -> np.ndarray:
    """The thresholds [E] of a row of `budgeted`: None is -inf at the last exit, else +inf."""
    *earlier, _ = row["max_doubt"]
    return np.array([np.inf if d is None else -d for d in earlier] + [-np.inf])


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
    x, y = np.asarray(costs, dtype=np.float64), np.asarray(accuracies, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise ValueError(f"costs {x.shape} and accuracies {y.shape} must be [P], P >= 1")
    distinct, where = np.unique(x, return_inverse=True)
    return distinct, np.bincount(where, weights=y) / np.bincount(where)


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


def evaluate(
    predictions: Predictions, multiply_adds: Sequence[int], points: int = POINTS
) -> dict[str, Any]:
    """multiply_adds, anytime, budgeted, at_share and area, as a result JSON holds them.

    at_share and area are of the budgeted curve with its ends (`whole_curve`). ValueError without
    val or test rows, or where multiply_adds do not fit the stages.
    """
    exits = anytime(predictions, multiply_adds)
    rows = budgeted(predictions, multiply_adds, points)
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
    points: int = POINTS,
) -> list[Row]:
    """What thresholds fitted on rows other than val promise, and what they deliver on test.

    confidence and correct, each [E, N], by the name of their rows: "val", "test", and any others to
    fit thresholds on, such as "train". A row for each of them and p = 1..points:

    promised_accuracy, promised_multiply_adds   of the rows the thresholds were fitted on
    accuracy, multiply_adds                     of test at these thresholds: delivered
    accuracy_gap, multiply_adds_gap             delivered, minus what val's thresholds deliver at p
    above_clean_curve                           delivered accuracy, minus that of val's curve (with
                                                its ends) at the same cost

    Thresholds fitted on train break the promise: a network is more confident on its training
    images, so test samples go further and cost more than the budget. Fitted on test, promised and
    delivered are equal by construction, and above_clean_curve is the gain from using the test set.
    """
    if set(confidence) != set(correct) or not {"val", "test"} <= set(confidence):
        raise ValueError(
            f"optimism needs confidence and correct of val and test, not of {sorted(confidence)} "
            f"and {sorted(correct)}"
        )
    q = _q(points)
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
            for i in range(points)
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


def _q(points: int) -> np.ndarray:
    return np.arange(1, points + 1) / 20


def _rows(predictions: Predictions, split: str) -> np.ndarray:
    """A mask of the val or test rows, [N] bool; `Predictions.part` would copy the logits."""
    rows = predictions.split == SPLITS[split]
    if not rows.any():
        raise ValueError(f"{predictions.source}: has no {split} rows")
    return rows


def _confidence(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not len(values) or np.isnan(values).any():
        raise ValueError(f"confidence {values.shape} must be [E, N], E >= 1, without nan")
    return values


def _costs(multiply_adds: Sequence[int], num_exits: int) -> np.ndarray:
    costs = np.asarray(multiply_adds)
    if costs.shape != (num_exits,) or costs.dtype.kind not in "iu":
        raise ValueError(f"multiply_adds {costs.tolist()}: need {num_exits} whole numbers")
    if costs[0] <= 0 or (np.diff(costs) < 0).any():
        raise ValueError(f"multiply_adds {costs.tolist()}: must be above 0 and never fall")
    return costs.astype(np.int64)


def _mean(right: np.ndarray) -> float:
    return float(right.sum() / right.size)
