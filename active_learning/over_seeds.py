"""What a few seeds can tell: Student's interval and paired test, and Holm's correction.

Student (1908), "The probable error of a mean"; Holm (1979), "A simple sequentially rejective
multiple test procedure". Both tests take the seeds' values as normal, which n = 3 cannot show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr, stdtrit  # Student's distribution function, and its inverse


def t_interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds and half the width of its interval, values [S, ...] to two of [...].

    mean ± t * s / sqrt(S), with s over S - 1 and t of S - 1 degrees of freedom; nan for one seed.
    """
    count = len(values)
    if count < 2:
        return values.mean(0), np.full(values.shape[1:], np.nan)
    error = values.std(0, ddof=1) / np.sqrt(count)
    return values.mean(0), stdtrit(count - 1, (1 + level) / 2) * error


def paired_p(differences: np.ndarray) -> float:
    """Two-sided p of Student's t test that differences [S] have mean 0; nan for one seed.

    Without any spread it is 0, or 1 where all differences are 0.
    """
    if len(differences) < 2:
        return float("nan")
    mean = float(np.mean(differences))
    error = float(np.std(differences, ddof=1)) / np.sqrt(len(differences))
    if error == 0:
        return float(mean == 0)
    return float(2 * stdtr(len(differences) - 1, -abs(mean) / error))


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for how many there are; nan stay nan and do not count.

    The i-th smallest of m, from 0, is multiplied by m - i; none falls below the one before it or
    above 1. Those at most alpha may be called found, with chance alpha that any of them is wrong.
    """
    order = sorted((i for i, value in enumerate(p) if value == value), key=lambda i: p[i])
    corrected, largest = [float("nan")] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p[i]))
        corrected[i] = largest
    return corrected
