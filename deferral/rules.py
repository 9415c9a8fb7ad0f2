"""Decision rules. Each returns `stop` [N]: the stage that answers each sample.

With two stages 0 is LOCAL (kept) and 1 is REMOTE (sent). Thresholds are fitted on val and used on
test. A score is higher where asking is worth more: a rejector's logit REMOTE - logit LOCAL, or
`max_softmax_doubt` of the local logits, the confidence rule that needs no rejector.
"""

import math
from collections.abc import Callable
from functools import wraps

import numpy as np

from deferral.risk import stage_costs

BLOCK = 2**15  # numbers of a block of `in_blocks`


def never(n: int) -> np.ndarray:
    """Answer everything at the first stage."""
    return np.zeros(n, dtype=np.int64)


def always(n: int) -> np.ndarray:
    """Answer everything at the second stage."""
    return np.ones(n, dtype=np.int64)


def oracle(correct: np.ndarray, query_cost: np.ndarray, error_cost: np.ndarray) -> np.ndarray:
    """The cheapest stage of each sample, seen with its label; the earlier one where they tie.

    correct [E, N], query_cost [E], error_cost [E]. No rule on the same stages has a lower risk.
    """
    return stage_costs(correct, query_cost, error_cost).argmin(0)


def threshold(score: np.ndarray, t: float) -> np.ndarray:
    """Send iff score > t. score [N]; the rejector's own rule is t = 0."""
    # float64: numpy would round a Python float to the scores' float32, possibly onto a score that
    # the threshold must lie below.
    return (np.asarray(score, dtype=np.float64) > t).astype(np.int64)


def in_blocks(of_rows: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The same function of the rows of logits [N, K], a block at a time: temporaries stay small.

    Twice as fast for 1,000,000 rows of 10 classes, whose float64 copies leave a CPU's cache.
    """

    @wraps(of_rows)
    def blocked(logits: np.ndarray) -> np.ndarray:
        logits = np.asarray(logits)
        rows = max(1, BLOCK // max(1, logits.shape[-1]))
        if logits.ndim != 2 or len(logits) <= rows:
            return of_rows(logits)
        starts = range(0, len(logits), rows)
        return np.concatenate([of_rows(logits[start : start + rows]) for start in starts])

    return blocked


@in_blocks
def max_softmax_doubt(logits: np.ndarray) -> np.ndarray:
    """1 - the highest class probability, float64, [..., K] to [...]; no overflow at any logit.

    The confidence of every rule and every exit: the sum of the other classes' exp(logit - highest),
    divided by the sum of all. Computed as 1 - max softmax it would be 0 for every sample whose
    second logit is 17 (float32, as the papers' releases compute it) or 37 (float64) below the
    highest: 12 % and 0.3 % of normal logits of scale 15 with 10 classes. Such samples tie, and a
    threshold does not part ties, so whole groups would leave at the first exit; here ties begin at
    a difference of 745. `max_softmax_doubt` of losses/early_exit.py is the same for tensors.
    """
    _, rest, _, total = _below_the_top(logits)
    return rest / total


@in_blocks
def margin_doubt(logits: np.ndarray) -> np.ndarray:
    """1 - (highest - second highest class probability), [..., K] to [...]."""
    _, rest, second, total = _below_the_top(logits)
    return (rest + second) / total


@in_blocks
def entropy_doubt(logits: np.ndarray) -> np.ndarray:
    """Entropy of the class probabilities in nats, [..., K] to [...]; 0 log 0 = 0."""
    shifted, rest, _, total = _below_the_top(logits)
    # -sum p log p with log p = shifted - log total: both terms are >= 0, nothing cancels.
    return np.log1p(rest) - (np.exp(shifted) * shifted).sum(-1) / total


def cut_places(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order from highest to lowest score, [N], and the counts that may be sent (see `_cuts`)."""
    score = np.asarray(score, dtype=np.float64)
    order = np.argsort(-score, kind="stable")
    return order, _cuts(score[order])


def best_threshold(
    score: np.ndarray, correct: np.ndarray, query_cost: np.ndarray, error_cost: np.ndarray
) -> float:
    """The threshold of least risk on these samples, over all places where scores can be cut.

    score [N], correct [2, N], costs [2]. O(N log N). Equal scores go together; the cut is midway
    between two distinct scores, or +inf (send none), or -inf (send all); of cuts with the same
    risk, the one that sends fewest.
    """
    local, remote = stage_costs(correct, query_cost, error_cost)
    order, _ = cut_places(score)
    falling = np.asarray(score, dtype=np.float64)[order]
    return cheapest_cut(falling, (remote - local)[order])


def cheapest_cut(falling: np.ndarray, extra: np.ndarray) -> float:
    """`best_threshold` of scores that are sorted, [N], highest first. O(N).

    extra [N]: the cost of sending each sample minus that of keeping it.
    """
    cuts = _cuts(falling)
    # Risk * N of sending the k highest scores = sum over all if kept + sum of extra over them.
    total = np.concatenate([[0.0], np.cumsum(extra)])
    # Sums of the same costs in another order differ in their last bits and count as ties.
    least = total[cuts].min()
    best = int(cuts[np.argmax(total[cuts] <= least + 1e-9 * max(1.0, np.abs(total).max()))])
    return between(falling, best)


def rate_threshold(score: np.ndarray, rate: float) -> float:
    """The threshold that sends the largest share of these samples that is at most `rate`."""
    order, cuts = cut_places(score)
    sent = int(cuts[cuts / max(1, len(order)) <= _share(rate)].max())
    return between(np.asarray(score, dtype=np.float64)[order], sent)


def thin_or_top_up(
    stop: np.ndarray, own_rate: float, rate: float, rng: np.random.Generator
) -> np.ndarray:
    """Bring decisions to a reject rate at random: the Bernoulli rule of the release.

    stop [N] of 0 and 1; own_rate, the rule's own reject rate, is measured on val. Above `rate`,
    each sent sample is still sent with probability rate / own_rate; below, each kept sample is
    sent with probability (rate - own_rate) / (1 - own_rate). The expected reject rate is `rate`
    if own_rate is the same on val and test.
    """
    stop = np.asarray(stop)
    own_rate, rate = _share(own_rate), _share(rate)
    chance = rng.random(len(stop))
    if own_rate > rate:
        return stop * (chance < rate / own_rate)
    if own_rate < rate:
        return np.where(stop > 0, stop, chance < (rate - own_rate) / (1 - own_rate))
    return stop.copy()


def sliding_window(stop: np.ndarray, rate: float) -> np.ndarray:
    """Allow a query only if none was made in the last 1 / rate - 1 samples, in order of arrival.

    stop [N] of 0 and 1. The second bounded rule of the release. 1 / rate is rounded up, so that
    no stretch of samples exceeds its share except by the query that it may begin with.
    """
    stop = np.asarray(stop)
    allowed = np.zeros_like(stop)
    if _share(rate) == 0:
        return allowed
    window = math.ceil(1 / rate - 1e-9)  # 1 / (1 / 49) is a little above 49 in floating point
    free_from: int | np.integer = 0
    for n in np.flatnonzero(stop):
        if n >= free_from:
            allowed[n] = stop[n]
            free_from = n + window
    return allowed


def _below_the_top(logits: np.ndarray) -> tuple[np.ndarray, ...]:
    """exp(logits - highest) without the highest itself, whose value is 1.

    Returns (logits - highest [..., K], the sum of the others [...], the second highest [...], the
    sum of all [...]). Subtracting a p close to 1 from 1 would lose these small sums.
    """
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    others = np.exp(shifted)
    np.put_along_axis(others, shifted.argmax(-1, keepdims=True), 0.0, -1)
    rest = others.sum(-1)
    return shifted, rest, others.max(-1), 1 + rest


def _cuts(falling: np.ndarray) -> np.ndarray:
    """The counts of sorted scores that may be sent without parting equal scores: 0, ..., N."""
    ends = np.flatnonzero(falling[1:] != falling[:-1]) + 1  # not their difference: -inf may be many
    return np.concatenate([[0], ends, [len(falling)]]).astype(np.int64)


def between(descending: np.ndarray, sent: int) -> float:
    """The threshold that parts the `sent` highest scores from the rest."""
    if sent == 0:
        return math.inf
    if sent == len(descending):
        return -math.inf
    high, low = float(descending[sent - 1]), float(descending[sent])
    middle = low / 2 + high / 2
    return middle if low <= middle < high else low  # neighbours in float64 have no middle


def _share(rate: float) -> float:
    if not 0 <= rate <= 1:
        raise ValueError(f"rate {rate} is not in 0..1")
    return float(rate)
