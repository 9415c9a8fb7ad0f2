"""What ways to bound the reject rate promise, and what comes of it over many draws of val."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deferral import rules
from deferral.calibrate import check_delta, check_rate, checked_scores, of_rows, safe_rank
from deferral.curves import deferral_curve
from deferral.risk import Costs, accuracy, risk, send_rate

SIMULATED = ("guaranteed", "empirical", "bernoulli", "sliding_window")


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
    score, correct = checked_scores(score), np.asarray(correct)
    check_delta(delta)
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
    check_rate(rate)
    if rate == 1:
        return np.full(splits, -math.inf)
    k = safe_rank(val_rows, rate, delta)
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
    check_rate(rate)
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
