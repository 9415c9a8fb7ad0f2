"""What ways to bound the reject rate promise, and what comes of it over many draws of val."""

import math
from typing import Any

import numpy as np

from deferral.calibrate import checked_scores, safe_rank
from deferral.curves import deferral_curve
from deferral.risk import Costs

SIMULATED = ("guaranteed", "empirical")


def simulate(
    score: np.ndarray,
    correct: np.ndarray,
    cost: Costs,
    *,
    max_rate: float,
    delta: float,
    splits: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """What two ways to bound the reject rate promise, and what comes of it over many splits.

    The promise is about the true rate, which no finite test set shows: between two halves of the
    rows, the one rate in doubt would be measured against another. So the given rows ARE the
    population here, its rates are known exactly, and a split draws val from it, N / 2 rows with
    replacement, as the promise supposes. All is then measured on the population.

    guaranteed  threshold of `reject_rate_threshold`
    empirical   threshold of `rules.rate_threshold`: the rate on val is max_rate, no margin

    Both depend on few order statistics of val, which are drawn directly (`_guaranteed_cuts`,
    `_empirical_cuts`): a split costs O(log N).

    score [N], correct [2, N], cost (query_cost, error_cost), [2] or [2, N] each. Samples of score
    -inf are below any threshold. Returns max_rate, delta, splits, val_rows and `rules`: for each of
    SIMULATED `exceeds` (share of splits whose true rate is above max_rate; the promise is delta),
    `rate`, `accuracy`, `risk` (means over splits) and `rates` (one a split). Plain values, for
    JSON.
    """
    score, correct = checked_scores(score), np.asarray(correct)
    curve = deferral_curve(score, correct, *cost)
    n, rng = score.size, np.random.default_rng(seed)
    val_rows, ascending = max(1, round(n / 2)), np.sort(score)

    def above(t: np.ndarray) -> np.ndarray:
        """(rate, accuracy, risk) of thresholds t [T], [T, 3]."""
        rate = (n - np.searchsorted(ascending, t, side="right")) / n
        on_curve = [np.interp(rate, curve.rate, y) for y in (curve.accuracy, curve.risk)]
        return np.stack([rate, *on_curve], axis=1)

    cuts = {
        "guaranteed": _guaranteed_cuts(ascending, val_rows, max_rate, delta, splits, rng),
        "empirical": _empirical_cuts(ascending, val_rows, max_rate, splits, rng),
    }
    return {
        "max_rate": max_rate,
        "delta": delta,
        "splits": splits,
        "val_rows": val_rows,
        "rules": {name: _summary(above(cuts[name]), max_rate) for name in SIMULATED},
    }


def _guaranteed_cuts(
    ascending: np.ndarray, val_rows: int, rate: float, delta: float, splits: int,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """`reject_rate_threshold` of val_rows draws from a population, [splits].

    The k-th highest of v draws has the place of the k-th lowest of v uniform numbers: Beta(k,
    v - k + 1) (David and Nagaraja, 2003, Order Statistics, section 2.3).
    """
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


def _summary(values: np.ndarray, max_rate: float) -> dict[str, Any]:
    """values [splits, 3] of rate, accuracy, risk."""
    rates = values[:, 0]
    means = values.mean(0).tolist()
    return {
        "exceeds": float((rates > max_rate + 1e-12).mean()),
        **dict(zip(("rate", "accuracy", "risk"), means, strict=True)),
        "rates": rates.tolist(),
    }
