"""Probabilities that each net is right, and the rule that follows from them.

Estimates are [2, N]: P(m right | x) and P(e right | x), both 0..1.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from deferral import rules
from deferral.predictions import Predictions

TOP = 10  # sorted log-probabilities used at most
MANY_CLASSES = 100  # above this, no feature has a class of its own
FOLDS = 5
STRENGTHS = (3e-4, 3e-3, 3e-2)  # C of scikit-learn; weak penalties won nowhere in trials


def bayes_score(estimates: np.ndarray, cost_1: float, cost_e: float) -> np.ndarray:
    """What asking is expected to save, [N]: (1 - P(m right)) - c_e - c_1 (1 - P(e right)).

    Send iff > 0: the Bayes rule of Wu et al. (ICLR 2025) with the estimates [2, N] put in, optimal
    where they are the true probabilities given x. In units of one local error.
    """
    local, edge = np.asarray(estimates, dtype=np.float64)
    return (1 - local) - cost_e - cost_1 * (1 - edge)


def post_hoc(val: Predictions, test: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Both probabilities from the local net's logits alone: no training of nets, no pictures.

    Two logistic regressions, of 1{m = y} and of 1{e = y}, fitted on val. Features of a row: the
    TOP highest log-probabilities in falling order; the three doubts of `rules.DOUBTS`; and with at
    most MANY_CLASSES classes the log-probabilities by class and which class m answers: with more,
    these would be as many as the rows that they are fitted on. All are standardised on val.

    Returns estimates_val [2, Nv], each row's from a fit on the other FOLDS - 1 folds, so that they
    are as honest on val as on test; and estimates_test [2, Nt] from a fit on all of val. The L2
    penalty of each net is the one of STRENGTHS of least log loss over these folds. Where all rows
    are right or all are wrong there is nothing to fit: (right + 1) / (rows + 2), Laplace's rule.
    Deterministic.
    """
    x_val, x_test = _features(val.stage_logits[0]), _features(test.stage_logits[0])
    center, scale = x_val.mean(0), x_val.std(0)
    scale[scale < 1e-9] = 1.0  # a class that m never answers
    x_val, x_test = (x_val - center) / scale, (x_test - center) / scale
    fold = np.random.default_rng(0).permutation(len(x_val)) % FOLDS  # rows may be sorted
    on_val, on_test = np.empty((2, len(x_val))), np.empty((2, len(x_test)))
    # Products this small gain nothing from threads, and wait for them where cores are busy:
    # beside a training on 2 cores this took 4.1 s with threads and 0.2 s without.
    with threadpool_limits(1):
        for net, right in enumerate(val.correct):
            crossed = [_cross_fit(x_val, right, fold, strength) for strength in STRENGTHS]
            losses = [log_loss(right, p, labels=[False, True]) for p in crossed]
            best = int(np.argmin(losses))
            on_val[net] = crossed[best]
            on_test[net] = _fit(x_val, right, x_test, STRENGTHS[best])
    return on_val, on_test


def _cross_fit(x: np.ndarray, right: np.ndarray, fold: np.ndarray, strength: float) -> np.ndarray:
    """P(right) of each row by a fit on the other folds."""
    p = np.empty(len(x))
    for k in np.unique(fold):
        p[fold == k] = _fit(x[fold != k], right[fold != k], x[fold == k], strength)
    return p


def _features(logits: np.ndarray) -> np.ndarray:
    """[N, K] to [N, F], as `post_hoc` says."""
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    classes = log_p.shape[-1]
    top = min(TOP, classes)
    highest = -np.sort(np.partition(-log_p, top - 1, axis=-1)[:, :top], axis=-1)
    columns = [highest, *(doubt(logits)[:, None] for doubt in rules.DOUBTS.values())]
    if classes <= MANY_CLASSES:
        columns += [log_p, logits.argmax(-1)[:, None] == np.arange(classes)]
    return np.concatenate(columns, axis=1)


def _fit(x: np.ndarray, right: np.ndarray, x_new: np.ndarray, strength: float) -> np.ndarray:
    """P(right) of new rows."""
    if right.all() or not right.any():
        return np.full(len(x_new), (right.sum() + 1) / (right.size + 2))
    model = LogisticRegression(C=strength, max_iter=500)
    return model.fit(x, right).predict_proba(x_new)[:, 1]
