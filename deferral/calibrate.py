"""Thresholds with a guarantee: a bound on reject rate or risk holds for new samples, not just val.

Val rows are taken as independent draws from the distribution of new samples. "With probability at
least 1 - delta" is over that draw. Send iff score > threshold, as in `rules.threshold`.
"""

import math
from functools import lru_cache

import numpy as np
from scipy.special import bdtr

from deferral import rules
from deferral.risk import Costs, stage_costs

STEPS = 20  # thresholds that `risk_threshold` may test, from the best one to sending none


def reject_rate_threshold(score_val: np.ndarray, max_rate: float, delta: float) -> float:
    """The lowest threshold t with P(score > t) <= max_rate, with probability >= 1 - delta.

    t is the k-th highest score of val, for the largest k such that P(Bin(n, max_rate) <= k - 1)
    <= delta: which says that the Clopper-Pearson upper bound at 1 - delta of a rate of which val
    shows k - 1 of n is at most max_rate. Looking for the best threshold on the same val costs
    nothing here, because k depends on n, max_rate and delta alone: t sends too many only if it
    lies below the score z that max_rate of the population exceeds, only if fewer than k of n draws
    reach z, each of which does so with probability >= max_rate; the binomial tail above. Equality
    holds for scores without ties, so nothing lower is safe (a one-sided tolerance bound: Wilks,
    1941). Ties only make it safer: scores equal to t stay, here and in the population.

    score_val [n]. +inf (send none) where n is too small for any promise: (1 - max_rate)^n > delta.
    -inf for max_rate 1. ValueError where there are no scores.
    """
    score = checked_scores(score_val)
    if max_rate == 1:
        return -math.inf
    k = safe_rank(score.size, max_rate, delta)
    return float(np.partition(score, score.size - k)[score.size - k]) if k > 0 else math.inf


@lru_cache(maxsize=64)
def safe_rank(n: int, rate: float, delta: float) -> int:
    """The largest k with P(Bin(n, rate) <= k - 1) <= delta; 0 where there is none."""
    low, high = 0, n + 1  # P(Bin <= low - 1) <= delta < P(Bin <= high - 1)
    while high - low > 1:
        k = (low + high) // 2
        low, high = (k, high) if bdtr(k - 1, n, rate) <= delta else (low, k)
    return low


def risk_threshold(
    score_val: np.ndarray,
    correct_val: np.ndarray,
    query_cost: np.ndarray,
    error_cost: np.ndarray,
    max_risk: float,
    delta: float,
    seed: int = 0,
    highest: float = 0.0,
) -> float | None:
    """A threshold whose true risk is <= max_risk with probability >= 1 - delta, sending few.

    Learn then Test (Angelopoulos, Bates, Candes, Jordan and Lei, 2021) with fixed sequence
    testing. Risk is not monotone in the threshold, so a random half of val says where to start
    and in what order to go: at its threshold of least risk, then in STEPS equal steps of its reject
    rate to sending none. The other half tests, in that order, "true risk > max_risk" at level delta
    and stops at the first test that does not reject; so the chance of any false promise is <= delta
    for the whole sequence. Returned is the last threshold that passed: the one that sends fewest.

    Where every cost that can occur is 0 or one other value, as for the error rate (query_cost 0 0,
    error_cost 1 1), a test is exact and binomial: it passes iff the Clopper-Pearson upper bound is
    <= max_risk. Other costs are no binomial: then it is a bet (`_bet_is_won`), valid at every n.

    score_val [n], correct_val [2, n] bool or quality 0..1, costs [2] or [2, n]; seed draws the
    halves. Where costs are a sample's own, `highest` is the highest that any sample to come can
    have: val may lack it. None where no threshold passes. ValueError for n < 2 or lengths that
    differ.
    """
    score, correct = checked_scores(score_val), np.asarray(correct_val)
    price = stage_costs(correct, query_cost, error_cost)
    if price.shape != (2, score.size) or score.size < 2:
        raise ValueError(
            f"score {score.shape} and correct {correct.shape}: need [n], [2, n], n > 1"
        )
    # Random order: rows may be sorted by class, and the betting p-value takes them one by one.
    rows = np.random.default_rng(seed).permutation(score.size)
    choose, test = rows[: score.size // 2], rows[score.size // 2 :]
    cost = of_rows((query_cost, error_cost), choose)
    start = rules.best_threshold(score[choose], correct[:, choose], *cost)
    rate = float((score[choose] > start).mean())
    dearest = np.asarray(query_cost).T + np.asarray(error_cost).T  # [2] or [n, 2]
    possible = np.unique(
        np.concatenate([np.ravel(query_cost), dearest.ravel(), price.ravel(), [highest]])
    )
    passed = None
    for step in range(STEPS + 1):
        t = rules.rate_threshold(score[choose], rate * (1 - step / STEPS)) if step else start
        paid = np.where(score[test] > t, price[1, test], price[0, test])
        if not _is_below(paid, possible, max_risk, delta):
            break
        passed = t
    return passed


def risk_is_below(paid: np.ndarray, possible: np.ndarray, max_risk: float, delta: float) -> bool:
    """Whether n costs [n] of a rule without a threshold show, at level delta, a risk <= max_risk.

    The test of `risk_threshold`, of all rows. possible: every value that a cost can have.
    """
    return _is_below(np.random.default_rng(0).permutation(paid), possible, max_risk, delta)


def of_rows(cost: Costs, rows: np.ndarray) -> Costs:
    """The costs of some samples: those [2, N] are indexed, those [2] hold for every sample."""
    query, error = (x if np.ndim(x) == 1 else np.asarray(x)[:, rows] for x in cost)
    return query, error


def _is_below(paid: np.ndarray, possible: np.ndarray, limit: float, delta: float) -> bool:
    """Whether n independent costs show at level delta that their mean is <= limit."""
    most = possible.max()
    if limit >= most:
        return True
    if limit <= 0:
        return False
    if np.count_nonzero(possible) == 1:
        return bool(bdtr(np.count_nonzero(paid), paid.size, limit / most) <= delta)
    return _bet_is_won(paid / most, limit / most, delta)


def _bet_is_won(x: np.ndarray, limit: float, delta: float) -> bool:
    """Whether x [n] in 0..1 shows at level delta that its mean is <= limit.

    The one-sided capital of Waudby-Smith and Ramdas (2024), Estimating means of bounded random
    variables by betting: each stake, set before its sample is seen, is on x < limit. If the mean
    is above limit the game is unfair to the player, whose capital then ever reaches 1 / delta with
    probability <= delta (Ville). Unlike the Hoeffding-Bentkus test it profits from a variance that
    is small, as of costs between 0 and the highest: in a trial (5,000 val rows, delta 0.1, max_risk
    0.02 above the least risk) it let a threshold pass in 58 % of the draws, the other in 30 %.
    """
    n = len(x)
    seen = np.arange(2, n + 2)
    mean = (0.5 + np.cumsum(x)) / seen
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / seen
    before = np.concatenate([[0.25], variance[:-1]])
    stake = np.minimum(np.sqrt(2 * math.log(1 / delta) / (n * before)), 0.75 / (1 - limit))
    return bool(np.cumsum(np.log1p(-stake * (x - limit))).max() >= math.log(1 / delta))


def checked_scores(score: np.ndarray) -> np.ndarray:
    """As float64 [n]; ValueError for another shape."""
    score = np.asarray(score, dtype=np.float64)
    if score.ndim != 1 or not score.size:
        raise ValueError(f"score {score.shape}: need [n] with n >= 1")
    return score
