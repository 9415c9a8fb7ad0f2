"""Networks with exits: thresholds at which samples leave, and what they spend.

Budgeted batch classification (Huang et al., ICLR 2018, Multi-Scale Dense Networks): a sample leaves
at the first exit whose confidence, the max softmax, reaches the exit's threshold, and the
thresholds are such that exit k answers a share p_k ∝ q^k. q = p / 20, p = 1..39, are the 39 points
of a curve: from 95 % leaving at the first exit to about half going to the last. Confidence is kept
as max softmax - 1, from -1 to 0, so that the nearly certain do not tie (`rules.max_softmax_doubt`
says why).

Shapes: stage_logits [E, N, K], confidence [E, N], correct [E, N] bool, multiply_adds [E] (up to and
including an exit, so they never fall), shares and thresholds [P, E] (a row a point), stop [P, N] in
0..E-1.
"""

from collections.abc import Sequence

import numpy as np

from deferral.rules import max_softmax_doubt

POINTS = 39


def shares(q: float | np.ndarray, num_exits: int) -> np.ndarray:
    """p_k ∝ q^k for k = 1..E, summing to 1: [E] for a number, [P, E] for q [P]. q > 0."""
    powers = np.asarray(q, dtype=np.float64)[..., None] ** np.arange(1, num_exits + 1)
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
    """Max softmax - 1 of every exit, [E, N, K] to float64 [E, N], by `max_softmax_doubt`."""
    return -np.stack([max_softmax_doubt(logits) for logits in stage_logits])


def fit_thresholds(confidence_val: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Thresholds [P, E] at which each exit takes its share of these samples.

    confidence_val [E, N], shares [P, E] or [E]. In order of the exits, exit k takes the
    floor(N p_k) most confident of the samples that no earlier exit took. Its threshold is the
    lowest confidence that it takes; samples of equal confidence go with it, so it may take more.
    Where floor(N p_k) is 0, or more than the samples left, the threshold is +inf: it takes none.
    The last exit takes the rest: -inf. O(E N (log N + P)).
    """
    num_exits, n = confidence_val.shape
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
    return thresholds.reshape(np.shape(shares))


def stops(confidence: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The exit that answers: the first k with confidence[k] >= threshold[k].

    confidence [E, N]; thresholds [P, E] give int64 [P, N], [E] give [N]. The last threshold is
    -inf: the last exit answers what is left.
    """
    num_exits, n = confidence.shape
    stop = np.full((*thresholds.shape[:-1], n), num_exits - 1)
    for k in reversed(range(num_exits - 1)):
        np.copyto(stop, k, where=confidence[k] >= thresholds[..., k, None])
    return stop


def spent(
    stop: np.ndarray, correct: np.ndarray, multiply_adds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For stops [P, N]: share leaving at each exit [P, E], accuracy [P], mean multiply-adds [P]."""
    correct = np.asarray(correct, dtype=bool)
    costs, n = costs_of(multiply_adds, len(correct)), stop.shape[1]
    counts = np.stack([(stop == k).sum(1) for k in range(len(correct))], axis=1)
    right = correct[stop, np.arange(n)].sum(1)
    return counts / n, right / n, counts @ costs / n


def max_doubt(thresholds: np.ndarray) -> list[float | None]:
    """Thresholds [E] as a row of `budgets.budgeted` holds them."""
    return [float(-t) if np.isfinite(t) else None for t in thresholds]


def q_of_points() -> np.ndarray:
    """q = p / 20 of the points of a curve, [POINTS]."""
    return np.arange(1, POINTS + 1) / 20


def costs_of(multiply_adds: Sequence[int], num_exits: int) -> np.ndarray:
    """int64 [E]; ValueError unless they are whole numbers above 0 that never fall."""
    costs = np.asarray(multiply_adds)
    if costs.shape != (num_exits,) or costs.dtype.kind not in "iu":
        raise ValueError(f"multiply_adds {costs.tolist()}: need {num_exits} whole numbers")
    if costs[0] <= 0 or (np.diff(costs) < 0).any():
        raise ValueError(f"multiply_adds {costs.tolist()}: must be above 0 and never fall")
    return costs.astype(np.int64)
