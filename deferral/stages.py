"""A device with exits and a server behind it: costs of the stages, and thresholds at all exits.

Stages are the exits 1..E of the device, in order, and then the server: S = E + 1. A sample meets
the exits one after the other; the server is asked, if at all, after the last of them. Learning to
help is E = 1.

Shapes: correct [S, N] bool, doubt [E, N] (higher is less sure), thresholds [E], query_cost and
error_cost [S] as in deferral/risk.py, exit [N] in 0..E-1 (the exit that answers what is not sent).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from deferral.predictions import Predictions
from deferral.risk import Costs, stage_costs
from deferral.rules import cheapest_cut, cut_places

SWEEPS = 100  # a bound; each sweep lowers the risk until none does, after 2 to 6 in trials


def device_costs(predictions: Predictions) -> np.ndarray:
    """The cumulated cost of the device at each of its exits, [E], in units of one local error.

    d_k = cost_flops * multiply_adds[k] of the settings, cost_flops being 0 where it is not given;
    (0,) for two stages without multiply_adds, learning to help. ValueError where the file has exits
    and no server, or where more than two stages do not say what their exits cost.
    """
    stages, settings = len(predictions.correct), predictions.settings
    multiply_adds = settings.get("multiply_adds")
    if predictions.own is not None:
        return np.zeros(stages - 1)
    if multiply_adds is None:
        if stages != 2:
            raise ValueError(
                f"{predictions.source}: needs 2 stages, local and edge, or multiply_adds of each "
                f"exit in the settings; it has {stages} stages"
            )
        return np.zeros(1)
    if without_server(predictions):
        raise ValueError(
            f"{predictions.source}: has exits and no server; python -m deferral.join adds one"
        )
    return float(settings.get("cost_flops", 0.0)) * np.array(multiply_adds, dtype=np.float64)


def without_server(predictions: Predictions) -> bool:
    """Whether all stages are exits of a network, each with its multiply-adds."""
    return len(predictions.settings.get("multiply_adds") or []) == len(predictions.stage_logits)


def as_two(
    correct: np.ndarray, exit: np.ndarray, query_cost: np.ndarray, error_cost: np.ndarray
) -> tuple[np.ndarray, Costs]:
    """The device as one stage, whose answer to each sample is that of `exit` [N]; and the server.

    Returns correct [2, N] and the costs (query_cost [2, N], error_cost [2, N]) for functions of two
    stages: a curve then varies the decision to ask while the exits stay as they are. A sample that
    the device could answer early pays for all exits if it is sent, because the server comes last.
    With E = 1 these are the arguments, and the costs are [2].
    """
    correct, exit = np.asarray(correct), np.asarray(exit)
    exits = len(correct) - 1
    if exit.shape != correct.shape[1:] or (exit.size and not 0 <= exit.min() <= exit.max() < exits):
        raise ValueError(f"exit {exit.shape} does not fit correct {correct.shape}: 0..{exits - 1}")
    if exits == 1:
        return correct, (np.asarray(query_cost), np.asarray(error_cost))
    rows = np.arange(exit.size)

    def both(of_stage: np.ndarray) -> np.ndarray:
        of_sample = np.broadcast_to(of_stage.T, (exit.size, exits + 1)).T  # [E] or [E, N]
        return np.stack([of_sample[exit, rows], of_sample[-1]])

    return both(correct), (both(np.asarray(query_cost)), both(np.asarray(error_cost)))


def leave(doubt: np.ndarray, thresholds: ArrayLike) -> np.ndarray:
    """The first exit k with doubt_k <= threshold_k, [N] in 0..M; M where there is none.

    doubt [M, N], thresholds [M]. With M = E it is the stage that answers, E being the server.
    """
    doubt = np.asarray(doubt, dtype=np.float64)
    t = np.asarray(thresholds, dtype=np.float64)
    if doubt.ndim != 2 or t.shape != doubt.shape[:1]:
        raise ValueError(f"thresholds {t.shape} do not fit doubt {doubt.shape}")
    stays = np.concatenate([doubt > t[:, None], np.zeros_like(doubt[:1], dtype=bool)])
    return stays.argmin(0) if len(doubt) else np.zeros(doubt.shape[1], dtype=np.int64)


def fit_thresholds(
    doubt_val: np.ndarray,
    correct_val: np.ndarray,
    query_cost: np.ndarray,
    error_cost: np.ndarray,
    send: np.ndarray | None = None,
    order: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Thresholds of least risk on these samples: stop at exit k iff doubt_k <= t_k, [E].

    doubt_val [E, N]. Samples that stop at no exit are sent. With `send` [N] bool the decision at
    the last exit is given: doubt_val is [E - 1, N], of the earlier exits, and thresholds are
    [E - 1]. Fitted by `fit_price_thresholds`; with E = 1 it is `rules.best_threshold`. order:
    `falling_order` of doubt_val where it is known. ValueError where lengths differ or there is no
    sample.
    """
    price = stage_costs(correct_val, query_cost, error_cost)
    if send is not None:
        send = np.asarray(send, dtype=bool)
        if send.shape != price.shape[1:]:
            raise ValueError(f"send {send.shape} does not fit correct {price.shape}: need [N]")
        price = np.concatenate([price[:-2], np.where(send, price[-1], price[-2])[None]])
    return fit_price_thresholds(doubt_val, price, order)


def falling_order(doubt: np.ndarray) -> list[np.ndarray]:
    """The rows of each stage from highest to lowest doubt, M arrays [N] of doubt [M, N]."""
    return [cut_places(row)[0] for row in doubt]


def fit_price_thresholds(
    doubt: np.ndarray, price: np.ndarray, order: Sequence[np.ndarray] | None = None
) -> np.ndarray:
    """Thresholds [M] at which these samples cost least: stop at k iff doubt_k <= t_k.

    doubt [M, N]; price [M + 1, N]: the cost of each sample at each stage, the last for samples that
    pass all M. ValueError where lengths differ or there is no sample.

    Coordinate descent. With all other thresholds fixed, the total cost as a function of t_k is a
    sum over the samples that reach k: each stops there or costs what the later thresholds imply, so
    a sorted scan finds the minimum exactly. A sweep goes from the last stage to the first; sweeps
    go on while costs fall. Starts: each threshold the best if all samples came to its stage, last
    stage first; the same with one threshold at a quartile of its doubts; all samples pass; and each
    stage alone. The best result is returned, so it costs at most as much as any stage alone and any
    of these starts. O(M N log N) for sorting, then O(M N) a sweep.

    The result is a minimum in each coordinate, not always the global one. Compared with every
    vector of thresholds it missed the best in 2 of 1,800 random cases with M = 2 and 8 or 12
    samples, and in 10 of 600 with M = 3 and 7 samples, by the cost of one or two samples. Without
    the quartiles it was higher in 10 of 30 cases with M = 6 and 1,000 samples, by up to 0.007 a
    sample.
    """
    doubt, price = np.asarray(doubt, dtype=np.float64), np.asarray(price, dtype=np.float64)
    fits = doubt.ndim == price.ndim == 2 and price.shape == (len(doubt) + 1, doubt.shape[1])
    if not fits or not price.size:
        raise ValueError(
            f"doubt {doubt.shape} does not fit costs {price.shape}: need [M, N] and [M + 1, N], "
            "N >= 1"
        )
    count = len(doubt)
    if not count:
        return np.empty(0)
    order = falling_order(doubt) if order is None else order
    first = _sweep(doubt, price, order, np.full(count, np.nan))
    if count == 1:
        return first
    starts = [first, np.full(count, -np.inf)]
    for k in range(count):
        alone = first.copy()
        alone[:k], alone[k] = -np.inf, np.inf
        starts.append(alone)
    for k in range(count - 1):
        for t in np.quantile(doubt[k], [0.25, 0.5, 0.75]):
            starts.append(np.where(np.arange(count) == k, t, first))
    best, least, seen = first, np.inf, set()
    for thresholds in starts:
        paid = _paid(doubt, price, thresholds)
        for _ in range(SWEEPS):
            moved = _sweep(doubt, price, order, thresholds)
            if moved.tobytes() in seen:  # a descent from an earlier start was here
                break
            seen.add(moved.tobytes())
            now = _paid(doubt, price, moved)
            if not now < paid - _hair(paid):
                break
            thresholds, paid = moved, now
        if paid < least - _hair(least):
            best, least = thresholds, paid
    return best


def _sweep(
    doubt: np.ndarray, price: np.ndarray, order: Sequence[np.ndarray], thresholds: np.ndarray
) -> np.ndarray:
    """Set each threshold, from the last to the first, to its best with the others fixed.

    nan stands for no threshold yet: all samples pass it. One that no sample reaches is unchanged.
    """
    reached = [np.ones(doubt.shape[1], dtype=bool)]
    for row, t in zip(doubt[:-1], thresholds[:-1], strict=True):
        reached.append(reached[-1] & ~(row <= t))
    thresholds, ahead = thresholds.copy(), price[-1]
    for k in reversed(range(len(doubt))):
        rows = order[k][reached[k][order[k]]]
        if len(rows):
            thresholds[k] = cheapest_cut(doubt[k][rows], (ahead - price[k])[rows])
        ahead = np.where(doubt[k] > thresholds[k], ahead, price[k])
    return thresholds


def _paid(doubt: np.ndarray, price: np.ndarray, thresholds: np.ndarray) -> float:
    """The total cost of all samples."""
    return float(price[leave(doubt, thresholds), np.arange(doubt.shape[1])].sum())


def _hair(paid: float) -> float:
    """A tolerance for ties: sums of the same costs in another order differ in their last bits."""
    return 1e-9 * max(1.0, paid) if np.isfinite(paid) else 0.0
