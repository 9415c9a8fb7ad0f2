"""Intervals for differences of risks: the paired percentile bootstrap.

Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13. Every rule is
resampled with the same test rows, so samples that are hard for all rules cancel in a difference.
"""

import numpy as np

MANY = 50_000  # samples from which on the bootstrap of a mean is normal for all that can be seen
ZERO = 5e-5  # a difference of risks that is 0.0000 as printed
ROWS = 20_000  # samples whose deviations are in memory at once
CHUNK = 100  # draws per matrix product: bounds memory to 100 x N floats


def resample(
    costs: np.ndarray, draws: int, seed: int, group: np.ndarray | None = None
) -> np.ndarray:
    """Bootstrap means of many columns at once, [D, J].

    costs [S, N, J]: what each of N test samples costs in each of S runs under each of J rules. A
    draw takes N samples with replacement, the same ones in every run and column, and S runs with
    replacement. Run and sample are crossed, so all runs must have the same test rows, which the
    caller ensures. Sums are float32 for float32 costs, else float64.

    group [N] int: samples that belong together; then whole groups are drawn, as many as there are,
    and a mean is over the samples of those drawn. From MANY samples or groups on, means are drawn
    from the normal distribution that those of a bootstrap tend to, with the same covariance.

    With few runs the spread over runs is understated: its variance by a factor (S - 1) / S.
    """
    kind = np.float32 if costs.dtype == np.float32 else np.float64
    size = None
    if group is not None:
        costs, size = _sums(costs, group)
    runs, n, columns = costs.shape
    rng = np.random.default_rng(seed)
    weights = _counts(rng.integers(0, runs, (draws, runs)), runs, kind)
    means = np.zeros((draws, columns))
    if n >= MANY:
        return _normal_means(costs, size, weights, rng)
    for start in range(0, draws, CHUNK):
        part = slice(start, min(start + CHUNK, draws))
        counts = _counts(rng.integers(0, n, (part.stop - start, n)), n, kind)
        drawn = n if size is None else (counts @ size)[:, None]
        for run in range(runs):
            means[part] += weights[part, run, None] * (counts @ costs[run]) / drawn
    return means / runs


def _sums(costs: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the samples of each group, [S, G, J], and how many those are, [G]."""
    members, code = np.unique(group, return_inverse=True)
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(len(members)))
    size = np.bincount(code, minlength=len(members)).astype(costs.dtype)
    return np.add.reduceat(costs[:, order], starts, axis=1), size


def _normal_means(
    costs: np.ndarray, size: np.ndarray | None, weights: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """What `resample` draws, by the central limit theorem: [D, J]. weights [D, S] of the runs.

    A mean over groups is a ratio of sums; its deviation is that of sum - mean * size (linearized).
    """
    runs, n, columns = costs.shape
    flat = np.moveaxis(costs, 1, 0).reshape(n, runs * columns)
    total = flat.sum(0, dtype=np.float64)
    samples = float(n if size is None else size.sum(dtype=np.float64))
    mean = total / samples
    covariance = np.zeros((runs * columns, runs * columns))
    for start in range(0, n, ROWS):
        part = flat[start : start + ROWS].astype(np.float64)
        part -= mean if size is None else size[start : start + ROWS, None] * mean
        covariance += part.T @ part
    missing = np.isnan(mean)  # a rule that is not there at some costs
    covariance[missing] = covariance[:, missing] = 0
    values, vectors = np.linalg.eigh(covariance)
    spread = vectors * np.sqrt(np.maximum(values, 0)) / samples
    drawn = mean + rng.standard_normal((len(weights), runs * columns)) @ spread.T
    by_run = drawn.reshape(len(weights), runs, columns)
    return (weights[:, :, None] * by_run).sum(1) / runs


def interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval over the first axis, [D, ...] to two of [...]; nan stays nan."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def verdict(low: float, high: float) -> str:
    """The verdict that an interval of (risk - reference's risk) allows, for a single comparison.

    An end within ZERO of 0 is 0: nothing beyond rounding is shown.
    """
    if high < -ZERO:
        return "better"
    return "worse" if low > ZERO else "no difference"


def _counts(drawn: np.ndarray, n: int, kind: type) -> np.ndarray:
    """How often each of 0..n-1 occurs in each row: [D, k] to [D, n]."""
    return np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(kind)
