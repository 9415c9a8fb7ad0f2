"""Thresholds with a guarantee: a bound on reject rate or risk holds for new samples, not just val.

Val rows are taken as independent draws from the distribution of new samples. "With probability at
least 1 - delta" is over that draw. Send iff score > threshold, as in `rules.threshold`.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import bdtr

from deferral import rules
from deferral.curves import deferral_curve
from deferral.risk import Costs, accuracy, risk, send_rate, stage_costs

SIMULATED = ("guaranteed", "empirical", "bernoulli", "sliding_window")
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
    -inf for max_rate 1. ValueError for max_rate outside 0..1 or delta outside 0..1 or no scores.
    """
    score = _scores(score_val)
    _check_delta(delta)
    _check_rate(max_rate)
    if max_rate == 1:
        return -math.inf
    k = _safe_rank(score.size, max_rate, delta)
    return float(np.partition(score, score.size - k)[score.size - k]) if k > 0 else math.inf


@lru_cache(maxsize=64)
def _safe_rank(n: int, rate: float, delta: float) -> int:
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
    have: val may lack it. None where no threshold passes. ValueError for max_risk below 0, delta
    outside 0..1, n < 2 or lengths that differ.
    """
    score, correct = _scores(score_val), np.asarray(correct_val)
    _check_delta(delta)
    if not max_risk >= 0:
        raise ValueError(f"max_risk {max_risk} is not a risk: it must be >= 0")
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


def risk_is_below(
    paid: np.ndarray, possible: np.ndarray, max_risk: float, delta: float, seed: int = 0
) -> bool:
    """Whether n costs [n] of a rule without a threshold show, at level delta, a risk <= max_risk.

    The test of `risk_threshold`, of all rows. possible: every value that a cost can have.
    """
    return _is_below(np.random.default_rng(seed).permutation(paid), possible, max_risk, delta)


def simulate(
    score: np.ndarray,
    correct: np.ndarray,
    cost: Costs,
    *,
    max_rate: float,
    delta: float,
    own_threshold: float | None = None,
    splits: int = 200,
    seed: int = 0,
    val_share: float = 0.5,
    names: Sequence[str] = SIMULATED,
) -> dict[str, Any]:
    """What four ways to bound the reject rate promise, and what comes of it over many splits.

    The promise is about the true rate, which no finite test set shows: between two halves of the
    rows, the one rate in doubt would be measured against another. So the given rows ARE the
    population here, its rates are known exactly, and a split draws val from it, val_share * N rows
    with replacement, as the promise supposes. All is then measured on the population.

    guaranteed      threshold of `reject_rate_threshold`
    empirical       threshold of `rules.rate_threshold`: the rate on val is max_rate, no margin
    bernoulli       `rules.thin_or_top_up` of score > own_threshold: its expected rate and accuracy
    sliding_window  `rules.sliding_window` of the same, the rows arriving in a random order

    Thresholds of the first two depend on few order statistics of val, which are drawn directly
    (`_guaranteed_cuts`, `_empirical_cuts`): a split costs O(log N). The others take O(N) a split.

    own_threshold is 0 for a rejector; None: the threshold of least risk on the val of that split.
    score [N], correct [2, N], cost (query_cost, error_cost), [2] or [2, N] each. Samples of score
    -inf are below any threshold; the Bernoulli rule alone sends them. Returns max_rate, delta,
    splits, val_rows and `rules`: for each of `names` `exceeds` (share of splits whose true rate is
    above max_rate; the promise is delta), `rate`, `accuracy`, `risk` (means over splits) and
    `rates` (one a split). Plain values, for JSON. ValueError as in the functions named, or for
    val_share outside 0..1.
    """
    score, correct = _scores(score), np.asarray(correct)
    _check_delta(delta)
    curve = deferral_curve(score, correct, *cost)
    n, rng = score.size, np.random.default_rng(seed)
    val_rows = max(1, round(val_share * n)) if 0 < val_share <= 1 else 0
    if not val_rows or splits < 1:
        raise ValueError(f"val_share {val_share} and splits {splits}: must give rows and splits")
    ascending = np.sort(score)

    def above(t: np.ndarray) -> np.ndarray:
        """(rate, accuracy, risk) of thresholds t [T], [T, 3]."""
        rate = (n - np.searchsorted(ascending, t, side="right")) / n
        on_curve = [np.interp(rate, curve.rate, y) for y in (curve.accuracy, curve.risk)]
        return np.stack([rate, *on_curve], axis=1)

    everything = [1.0, float(curve.accuracy[-1]), float(curve.risk[-1])]
    clocked, thinned = [], []
    for _ in range(splits if {"bernoulli", "sliding_window"} & {*names} else 0):
        val = rng.integers(0, n, val_rows)
        threshold = own_threshold
        if threshold is None:
            threshold = rules.best_threshold(score[val], correct[:, val], *of_rows(cost, val))
        ends = np.array([*above(np.array([math.inf, threshold])), everything])
        thinned.append(_thinned(ends, float((score[val] > threshold).mean()), max_rate))
        arrival = rng.permutation(n)
        stop = rules.sliding_window(rules.threshold(score[arrival], threshold), max_rate)
        right = correct[:, arrival]
        clocked.append(
            (send_rate(stop), accuracy(right, stop), risk(right, stop, *of_rows(cost, arrival)))
        )
    cuts = _guaranteed_cuts(ascending, val_rows, max_rate, delta, splits, rng)
    empirical_cuts = _empirical_cuts(ascending, val_rows, max_rate, splits, rng)
    measured = {
        "guaranteed": above(cuts),
        "empirical": above(empirical_cuts),
        "bernoulli": np.array(thinned),
        "sliding_window": np.array(clocked),
    }
    return {
        "max_rate": max_rate,
        "delta": delta,
        "splits": splits,
        "val_rows": val_rows,
        "rules": {name: _summary(measured[name], max_rate) for name in names},
    }


def _guaranteed_cuts(
    ascending: np.ndarray, val_rows: int, rate: float, delta: float, splits: int,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """`reject_rate_threshold` of val_rows draws from a population, [splits].

    The k-th highest of v draws has the place of the k-th lowest of v uniform numbers: Beta(k,
    v - k + 1) (David and Nagaraja, 2003, Order Statistics, section 2.3).
    """
    _check_rate(rate)
    if rate == 1:
        return np.full(splits, -math.inf)
    k = _safe_rank(val_rows, rate, delta)
    if not k:
        return np.full(splits, math.inf)
    return _at_place(ascending, rng.beta(k, val_rows - k + 1, splits))


def _empirical_cuts(
    ascending: np.ndarray, val_rows: int, rate: float, splits: int, rng: np.random.Generator
) -> np.ndarray:
    """`rules.rate_threshold` of val_rows draws from a population, [splits].

    At most j = rate * v are sent: those above the (j + 1)-th highest draw, `low`. Given that one,
    the j draws before it are uniform on the places before its own; those that tie with it stay.
    The threshold lies midway between `low` and the lowest draw above it, the last of m uniform
    numbers, which is that of Beta(m, 1).
    """
    _check_rate(rate)
    j = int(np.searchsorted(np.arange(1, val_rows + 1) / val_rows, rate, side="right"))
    if j == val_rows:
        return np.full(splits, -math.inf)
    place = rng.beta(j + 1, val_rows - j, splits)
    low = _at_place(ascending, place)
    before = 1 - np.searchsorted(ascending, low, side="right") / ascending.size  # share above low
    m = rng.binomial(j, np.minimum(before / place, 1))
    high = _at_place(ascending, before * rng.beta(np.maximum(m, 1), 1))
    middle = low / 2 + high / 2
    cut = np.where((low <= middle) & (middle < high), middle, low)
    return np.where(m > 0, cut, math.inf)


def _at_place(ascending: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The score at a share 0..1 of a population's rows, counted from the highest."""
    n = ascending.size
    return ascending[n - 1 - np.minimum((place * n).astype(np.int64), n - 1)]


def of_rows(cost: Costs, rows: np.ndarray) -> Costs:
    """The costs of some samples: those [2, N] are indexed, those [2] hold for every sample."""
    query, error = (x if np.ndim(x) == 1 else np.asarray(x)[:, rows] for x in cost)
    return query, error


def _thinned(ends: np.ndarray, own_rate: float, rate: float) -> np.ndarray:
    """(rate, accuracy, risk) expected of `rules.thin_or_top_up`; ends [3, 3]: of none, own, all."""
    none, own, everything = ends
    if own_rate > rate:
        return none + rate / own_rate * (own - none)
    share = (rate - own_rate) / (1 - own_rate) if own_rate < rate else 0.0
    return own + share * (everything - own)


def _summary(values: np.ndarray, max_rate: float) -> dict[str, Any]:
    """values [splits, 3] of rate, accuracy, risk."""
    rates = values[:, 0]
    means = values.mean(0).tolist()
    return {
        "exceeds": float((rates > max_rate + 1e-12).mean()),
        **dict(zip(("rate", "accuracy", "risk"), means, strict=True)),
        "rates": rates.tolist(),
    }


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


def _scores(score: np.ndarray) -> np.ndarray:
    score = np.asarray(score, dtype=np.float64)
    if score.ndim != 1 or not score.size:
        raise ValueError(f"score {score.shape}: need [n] with n >= 1")
    return score


def _check_rate(max_rate: float) -> None:
    if not 0 <= max_rate <= 1:
        raise ValueError(f"max_rate {max_rate} is not in 0..1")


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"delta {delta} is not between 0 and 1")
