"""Query methods: which samples of the pool to label next, by the outputs of a committee.

Tang and Huang, "Active Learning for Multiple Target Models" (DIAM), NeurIPS 2022, and the methods
that it compares with. Ties go to the lower row, ties of votes are broken at random. The methods
have no state: the same pool and the same generator give the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from scipy.stats import entropy

from active_learning import cascade_risk, diam_qp
from active_learning.kcenter import k_center
from deferral import rules

POOL_FACTOR = 5  # DIAM draws a batch from this many times its size


class Pool(NamedTuple):
    """Outputs of T targets for M unlabelled samples; a method reads only what it `needs`."""

    size: int  # M
    votes: np.ndarray = np.empty((0, 0, 0), int)  # [E, T, M]: predicted class after the last epochs
    logits: np.ndarray = np.empty((0, 0, 0))  # [T, M, K]
    features: Mapping[int, np.ndarray] = MappingProxyType({})  # target -> [M, D_t]
    # (target, rows) -> [len(rows), D_t]: for DIAM_qp, which needs few rows of all targets
    features_of: Callable[[int, np.ndarray], np.ndarray] | None = None
    labelled_features: Mapping[int, np.ndarray] = MappingProxyType({})  # target -> [L, D_t]
    largest: int = 0  # the target with the most multiply-adds
    local: int = 0  # the cascade's small net
    edge: int = 0  # the cascade's large net
    cost_1: float = 1.25  # cost of an error of the edge (one of the local net costs 1)
    cost_e: float = 0.25  # cost of a query
    qp_weight: float = 1.0  # DIAM_qp's q


class Method(NamedTuple):
    """needs: the parts of `Pool` that the method reads, out of

    votes, logits  of all targets
    features_of    features of some rows of the pool, for all targets
    largest        the features of target `largest`, for the pool and the labelled samples
    edge           the features of target `edge`, for the pool
    """

    needs: frozenset[str]
    choose: Callable[[Pool, int, np.random.Generator], np.ndarray]


def select(method: str, pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of the pool to label, int64 [batch_size], all different, in the order of choice.

    method: of METHODS; batch_size in 1..M. ValueError for votes of a single epoch, which cannot
    change.
    """
    if "votes" in METHODS[method].needs and len(pool.votes) < 2:
        raise ValueError(
            f"{method} needs predictions from at least two epochs; raise --epochs or --DIS_frac"
        )
    return METHODS[method].choose(pool, batch_size, rng).astype(np.int64)


def changes(votes: np.ndarray) -> np.ndarray:
    """DIAM's first key: how many targets change their vote over epochs, [E, T, M] to [M]."""
    return (votes != votes[0]).any(0).sum(0)


def vote_entropy(votes: np.ndarray) -> np.ndarray:
    """DIAM's second key: sum over targets of the entropy over epochs, [E, T, M] to float64 [M].

    With p_c the share of the epochs in which a target voted for class c, its entropy is
    -sum over c of p_c log p_c, in nats. Rounded to 9 digits, so that equal entropies are equal
    whichever targets and classes have the votes.
    """
    classes, total = np.unique(votes), np.zeros(votes.shape[2])
    for of_target in votes.swapaxes(0, 1):
        total += entropy([(of_target == c).mean(0) for c in classes])
    return total.round(9)


def diam_order(votes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All rows, by the first key, then by the second, the highest first.

    Ties are in random order: most samples are tied once the votes settle, and a pool sorted by
    class would give samples of its first classes only.
    """
    rows = rng.permutation(votes.shape[2])
    return rows[np.lexsort((-vote_entropy(votes)[rows], -changes(votes)[rows]))]


def _random(pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(pool.size, batch_size, replace=False)


def _doubt(
    doubt_of: Callable[[np.ndarray], np.ndarray],
) -> Callable[[Pool, int, np.random.Generator], np.ndarray]:
    """The samples of highest mean `doubt_of`, a doubt of deferral/rules.py.

    Each target's doubts are scaled to 0..1 over the pool, min to max (all equal: 0), before they
    are averaged, so that no target outweighs the others.
    """

    def choose(pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
        total = np.zeros(pool.size)
        for logits in pool.logits:
            doubt = doubt_of(logits)
            low, high = doubt.min(), doubt.max()
            if high > low:
                total += (doubt - low) / (high - low)
        return np.argsort(-total, kind="stable")[:batch_size]  # a mean is this sum over T

    return choose


def _released(pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """What the release of DIAM computes as entropy, margin and least_conf: no doubt at all.

    It scales each target's doubts as one row, min to max of each column, so that all are 0, and
    takes the first of a shuffled list. The three differ in the shuffle alone, so one stands here.
    """
    return rng.permutation(pool.size)[:batch_size]


def _coreset(pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    t = pool.largest
    return k_center(pool.features[t], pool.labelled_features[t], batch_size)


def _cal(pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """At random from the samples on which some target changes its vote.

    If these are fewer than a batch, all of them and a random choice of the others; the paper does
    not say.
    """
    changed = changes(pool.votes) > 0
    order = rng.permutation(pool.size)
    return order[np.argsort(~changed[order], kind="stable")][:batch_size]


def _diam(pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """At random from the first 5 * batch_size by `diam_order`."""
    best = diam_order(pool.votes, rng)[: POOL_FACTOR * batch_size]
    return rng.choice(best, batch_size, replace=False)


def _diam_qp(pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """The choice of `diam_qp` from the first of `diam_order`."""
    rows = diam_order(pool.votes, rng)[: diam_qp.num_candidates(pool.size, batch_size)]
    assert pool.features_of is not None
    features = (pool.features_of(t, rows) for t in range(pool.votes.shape[1]))
    near = diam_qp.nearness(features, len(rows))
    return rows[diam_qp.greedy(near, changes(pool.votes)[rows], batch_size, pool.qp_weight)]


def _risk(pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """The samples that lower the expected risk of the cascade most, see `cascade_risk`."""
    cascade, costs = (pool.local, pool.edge), (pool.cost_1, pool.cost_e)
    edge = pool.features[pool.edge]
    return cascade_risk.choose(pool.logits, edge, cascade, costs, batch_size)


def _method(needs: str, choose: Callable[..., np.ndarray]) -> Method:
    return Method(frozenset(needs.split()), choose)


METHODS: dict[str, Method] = {
    "random": _method("", _random),
    "entropy": _method("logits", _doubt(rules.entropy_doubt)),
    "margin": _method("logits", _doubt(rules.margin_doubt)),
    "least_conf": _method("logits", _doubt(rules.max_softmax_doubt)),
    "released": _method("", _released),
    "coreset": _method("largest", _coreset),
    "CAL": _method("votes", _cal),
    "DIAM": _method("votes", _diam),
    "DIAM_qp": _method("votes features_of", _diam_qp),
    "risk": _method("logits edge", _risk),
}
