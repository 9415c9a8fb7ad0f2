"""Intervals for differences of risks: the paired percentile bootstrap.

Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13. Every rule is
resampled with the same test rows, so samples that are hard for all rules cancel in a difference.
"""

import numpy as np

CHUNK = 100  # draws per matrix product: bounds memory to 100 x N floats


def resample(costs: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Bootstrap means of many columns at once, [D, J].

    costs [S, N, J]: what each of N test samples costs in each of S runs under each of J rules. A
    draw takes N samples with replacement, the same ones in every run and column, and S runs with
    replacement. Run and sample are crossed, so all runs must have the same test rows, which the
    caller ensures. Sums are float32 for float32 costs, else float64.

    With few runs the spread over runs is understated: its variance by a factor (S - 1) / S.
    ValueError if costs are not [S, N, J] with S, N >= 1, or draws < 1.
    """
    costs = np.asarray(costs)
    if costs.ndim != 3 or not costs.shape[0] or not costs.shape[1]:
        raise ValueError(f"costs {costs.shape}: need [S, N, J] of at least one run and sample")
    if draws < 1:
        raise ValueError(f"draws {draws}: need at least 1")
    kind = np.float32 if costs.dtype == np.float32 else np.float64
    runs, n, columns = costs.shape
    rng = np.random.default_rng(seed)
    weights = _counts(rng.integers(0, runs, (draws, runs)), runs, kind)
    means = np.zeros((draws, columns))
    for start in range(0, draws, CHUNK):
        part = slice(start, min(start + CHUNK, draws))
        counts = _counts(rng.integers(0, n, (part.stop - start, n)), n, kind)
        for run in range(runs):
            means[part] += weights[part, run, None] * (counts @ costs[run])
    return means / (runs * n)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval over the first axis, [D, ...] to two of [...]; nan stays nan."""
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def verdict(low: float, high: float) -> str:
    """The verdict that an interval of (risk - reference's risk) allows, for a single comparison."""
    if np.isnan(low) or np.isnan(high):
        raise ValueError("an interval that is not a number has no verdict")
    if high < 0:
        return "better"
    return "worse" if low > 0 else "no difference"


def _counts(drawn: np.ndarray, n: int, kind: type) -> np.ndarray:
    """How often each of 0..n-1 occurs in each row: [D, k] to [D, n]."""
    return np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(kind)
