"""Which samples of the pool to label next, by what a committee of targets says of them.

Tang and Huang, "Active Learning for Multiple Target Models" (DIAM), NeurIPS 2022, and the methods
that it is held against. Ties go to the lower row, those of votes by chance. Beside the arrays of
`Pool` there is no state: the same pool and the same generator give the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from active_learning import cascade_risk, diam_qp
from active_learning.kcenter import k_center
from deferral import rules

POOL_FACTOR = 5  # DIAM draws a batch from this many times its size


class Pool(NamedTuple):
    """What T targets say of M unlabelled samples; a method reads what it `needs` and no more."""

    size: int  # M
    votes: np.ndarray | None = None  # [E, T, M] class voted for after each of the last epochs
    logits: np.ndarray | None = None  # [T, M, K]
    # of target t: [M, D_t]; for DIAM_qp anything that gives [len(rows), D_t] by [rows]
    features: Mapping[int, np.ndarray] = MappingProxyType({})
    labelled_features: Mapping[int, np.ndarray] = MappingProxyType({})  # of target t: [L, D_t]
    largest: int = 0  # the target of most multiply-adds
    local: int = 0  # the cascade: a small net,
    edge: int = 0  # the net that it may ask,
    cost_1: float = 1.25  # what an error of the edge costs (one of the local net costs 1)
    cost_e: float = 0.25  # and what asking costs
    qp_weight: float = 1.0  # DIAM_qp's q


class Method(NamedTuple):
    """needs: what of `Pool` is read, out of

    votes, logits  of all targets
    features       of all targets, for the pool
    largest        the features of target `largest`, for the pool and the labelled samples
    edge           the features of target `edge`, for the pool
    """

    needs: frozenset[str]
    choose: Callable[[Pool, int, np.random.Generator], np.ndarray]


def select(method: str, pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of the pool to label, int64 [batch_size], all different, in the order of choice.

    ValueError, one line: an unknown method, batch_size not in 1..M, or what the method needs is
    missing, of another shape or not finite; votes of a single epoch, in which none can change.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not known; there are {', '.join(METHODS)}")
    if not 1 <= batch_size <= pool.size:
        raise ValueError(
            f"batch_size {batch_size}: the pool has {pool.size} samples, take 1 to all"
        )
    _check(method, pool)
    return METHODS[method].choose(pool, batch_size, rng).astype(np.int64)


def changes(votes: np.ndarray) -> np.ndarray:
    """DIAM's first key: how many targets do not vote alike in all epochs, [E, T, M] to [M]."""
    return (votes != votes[0]).any(0).sum(0)


def vote_entropy(votes: np.ndarray) -> np.ndarray:
    """DIAM's second key: sum over targets of the entropy over epochs, [E, T, M] to float64 [M].

    With p_c the share of the epochs in which a target voted for class c, its entropy is
    -sum over c of p_c log p_c, in nats.
    """
    epochs, _, size = votes.shape
    # How often a class got n votes of a target, [M, E + 1]. Added up over n instead of c, samples
    # of equal entropy come out equal to the last bit, whichever targets and classes made it.
    times = np.zeros((size, epochs + 1), dtype=np.int64)
    rows = np.arange(size) * (epochs + 1)
    for c in np.unique(votes):
        cells = (votes == c).sum(0) + rows
        times += np.bincount(cells.ravel(), minlength=times.size).reshape(times.shape)
    entropy = np.zeros(size)
    for n in range(1, epochs):
        entropy -= times[:, n] * (n / epochs * np.log(n / epochs))
    return entropy


def diam_order(votes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All rows, by the first key, then by the second, the highest first.

    Equals are in random order: most samples are equal once the votes settle, and a pool that is
    sorted by class would give those of its first classes.
    """
    rows = rng.permutation(votes.shape[2])
    return rows[np.lexsort((-vote_entropy(votes)[rows], -changes(votes)[rows]))]


def _random(pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(pool.size, batch_size, replace=False)


def _doubt(
    doubt_of: Callable[[np.ndarray], np.ndarray],
) -> Callable[[Pool, int, np.random.Generator], np.ndarray]:
    """The most uncertain by `doubt_of`, a doubt of deferral/rules.py.

    Each target's doubts are scaled to 0..1 over the pool, min to max (all equal: 0), so that none
    outweighs the others; then they are averaged.
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


def _coreset(pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    t = pool.largest
    return k_center(pool.features[t], pool.labelled_features[t], batch_size)


def _cal(pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """At random among the samples on which some target changes its vote.

    Where these are fewer than a batch all are taken, and the rest at random from the others, which
    the paper leaves open.
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

    def features(t: int) -> np.ndarray:
        values = pool.features[t][rows]
        _check_features("DIAM_qp", values, len(rows), f"target {t} on the candidates")
        return values

    first = changes(pool.votes)[rows]
    of_each = map(features, range(pool.votes.shape[1]))
    return rows[diam_qp.choose(of_each, first, batch_size, pool.qp_weight)]


def _risk(pool: Pool, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """What lowers the expected risk of the cascade most, by `cascade_risk`."""
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
    "coreset": _method("largest", _coreset),
    "CAL": _method("votes", _cal),
    "DIAM": _method("votes", _diam),
    "DIAM_qp": _method("votes features", _diam_qp),
    "risk": _method("logits edge", _risk),
}


def _check(method: str, pool: Pool) -> None:
    """ValueError where something that the method needs is not there or not usable."""
    needs, m = METHODS[method].needs, pool.size
    targets = None  # T, of all arrays that have it
    if "votes" in needs:
        shape = np.shape(pool.votes) if pool.votes is not None else ()
        if len(shape) != 3 or shape[2] != m or 0 in shape or pool.votes.dtype.kind not in "iu":
            raise ValueError(f"{method} needs votes: whole numbers [E, T, {m}], not {shape}")
        if shape[0] < 2:
            raise ValueError(
                f"{method} has no votes to go by: with one epoch that votes no target can change "
                "its own; train with more --epochs or a larger --DIS_frac"
            )
        targets = shape[1]
    if "logits" in needs:
        shape = np.shape(pool.logits) if pool.logits is not None else ()
        if len(shape) != 3 or shape[1] != m or not shape[0] or shape[2] < 2:
            raise ValueError(f"{method} needs logits [T, {m}, K] with K > 1, not {shape}")
        if not np.isfinite(pool.logits).all():
            raise ValueError(f"{method}: a logit is not finite; the training of a target diverged")
        targets = shape[0]
    if "edge" in needs and not (0 <= pool.local < targets and 0 <= pool.edge < targets):
        raise ValueError(
            f"{method}: local {pool.local} and edge {pool.edge} must be of 0..{targets - 1}"
        )
    for name in ("cost_1", "cost_e", "qp_weight"):
        if not 0 <= getattr(pool, name) < np.inf:
            raise ValueError(f"{name} {getattr(pool, name)}: must be a number of 0 or more")
    if "features" in needs and not set(range(targets)) <= pool.features.keys():
        raise ValueError(f"{method} needs features of {targets} targets")
    for t in sorted({getattr(pool, one) for one in ("largest", "edge") if one in needs}):
        _check_features(method, pool.features.get(t), m, f"target {t} on the pool")
    if "largest" in needs:
        t = pool.largest
        whose = f"target {t} on the labelled samples"
        _check_features(method, pool.labelled_features.get(t), None, whose)


def _check_features(method: str, found: np.ndarray | None, rows: int | None, whose: str) -> None:
    shape = np.shape(found) if found is not None else ()
    if len(shape) != 2 or not shape[1] or (rows is not None and shape[0] != rows):
        need = "L" if rows is None else rows
        raise ValueError(f"{method} needs features of {whose}: [{need}, D], not {shape}")
    # A sum is not finite where a number is not: no mask as large as the features is made.
    if not np.isfinite(found.sum(dtype=np.float64)):
        raise ValueError(f"{method}: a feature of {whose} is not finite; its training diverged")
