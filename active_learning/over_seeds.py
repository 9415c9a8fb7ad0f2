"""Statistics over seeds: Student's interval and paired test (1908), and Holm's correction (1979).

Both tests assume that the seeds' values are normally distributed, which three seeds cannot show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats


def t_interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds and half the width of Student's interval, values [S, ...] to two of [...].

    The half width is NaN for one seed.
    """
    if len(values) < 2:
        return values.mean(0), np.full(values.shape[1:], np.nan)
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    return values.mean(0), half


def paired_p(differences: np.ndarray) -> float:
    """Two-sided p of Student's t test that differences [S] have mean 0; NaN for one seed.

    If all differences are equal, p is 1 if they are 0 and 0 otherwise.
    """
    if len(differences) < 2:
        return float("nan")
    if np.ptp(differences) == 0:
        return float(differences[0] == 0)
    return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for the number of tests; NaN stays NaN and does not count.

    The i-th smallest of m, from 0, is multiplied by m - i; none is below the one before it or above
    1. Rejecting those at most alpha has a chance of at most alpha that any rejection is wrong.
    """
    values = pd.Series(p, dtype=float)
    ascending = values.dropna().sort_values()
    steps = np.arange(len(ascending), 0, -1)
    return (ascending * steps).cummax().clip(upper=1).reindex(values.index).tolist()
