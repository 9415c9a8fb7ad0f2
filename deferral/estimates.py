"""Probabilities that each net is right, and the rule that follows from them.

Estimates are [2, N]: P(m right | x) and P(e right | x), both 0..1.
"""

import numpy as np
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from deferral.predictions import Predictions
from deferral.rules import entropy_doubt, margin_doubt, max_softmax_doubt

TOP = 10  # the most sorted log-probabilities that are used
MANY_CLASSES = 100  # above this, there are no features per class
FOLDS = 5
# Not the catalogue's confidence rules: a new rule there must not change published numbers.
REGRESSORS = (max_softmax_doubt, margin_doubt, entropy_doubt)
STRENGTHS = (3e-4, 3e-3, 3e-2)  # C of scikit-learn; larger values won in no trial


def bayes_score(estimates: np.ndarray, cost_1: float, cost_e: float) -> np.ndarray:
    """The expected saving of asking, [N]: (1 - P(m right)) - c_e - c_1 (1 - P(e right)).

    Send iff > 0: the Bayes rule of Wu et al. (ICLR 2025) with the estimates [2, N] put in, optimal
    where they are the true probabilities given x. In units of one local error.
    """
    local, edge = np.asarray(estimates, dtype=np.float64)
    return (1 - local) - cost_e - cost_1 * (1 - edge)


def post_hoc(val: Predictions, test: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Both probabilities from the local net's logits alone, without training a net.

    Two logistic regressions, of 1{m = y} and of 1{e = y}, fitted on val: `right_given` the local
    logits. Returns estimates_val [2, Nv], out of fold, and estimates_test [2, Nt].
    """
    x_val, x_test = features(val.stage_logits[0], test.stage_logits[0])
    return right_given(x_val, val.correct, x_test)


def right_given(
    x_val: np.ndarray, right: np.ndarray, x_test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """P(right | x) by a logistic regression for each row of right [M, Nv] bool, fitted on val.

    x_val [Nv, F] and x_test [Nt, F] as `features` gives them. Returns estimates_val [M, Nv], each
    sample's from a fit on the other FOLDS - 1 folds, so that val estimates are out of sample like
    those of test; and estimates_test [M, Nt] from a fit on all of val. The L2 penalty of each row
    is the one of STRENGTHS of least log loss over these folds. Where all samples are right or all
    are wrong the estimate is Laplace's (right + 1) / (samples + 2). Deterministic.
    """
    from sklearn.metrics import log_loss  # half a second that --help need not wait

    fold = folds(len(x_val))
    on_val, on_test = np.empty((len(right), len(x_val))), np.empty((len(right), len(x_test)))
    # Products this small gain nothing from threads and lose where cores are busy: beside a training
    # on 2 cores this took 4.1 s with threads and 0.2 s without.
    with threadpool_limits(1):
        for row, target in enumerate(right):
            crossed = [_cross_fit(x_val, target, fold, strength) for strength in STRENGTHS]
            losses = [log_loss(target, p, labels=[False, True]) for p in crossed]
            best = int(np.argmin(losses))
            on_val[row] = crossed[best]
            on_test[row] = _fit(x_val, target, x_test, STRENGTHS[best])
    return on_val, on_test


def folds(n: int) -> np.ndarray:
    """The fold of each of n val samples, [n] in 0..FOLDS - 1; random, as rows may be sorted."""
    return np.random.default_rng(0).permutation(n) % FOLDS


def features(logits_val: np.ndarray, logits_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Regressors from the logits [N, K] of one net: [Nv, F] and [Nt, F], standardised on val.

    The TOP highest log-probabilities in falling order; the doubts of REGRESSORS; and with at
    most MANY_CLASSES classes the log-probabilities by class and the class that the net answers:
    with more classes there would be about as many regressors as val rows.
    """
    x_val, x_test = _features(logits_val), _features(logits_test)
    center, scale = x_val.mean(0), x_val.std(0)
    scale[scale < 1e-9] = 1.0  # a class that the net never answers
    return (x_val - center) / scale, (x_test - center) / scale


def _cross_fit(x: np.ndarray, right: np.ndarray, fold: np.ndarray, strength: float) -> np.ndarray:
    """P(right) of each row by a fit on the other folds."""
    p = np.empty(len(x))
    for k in np.unique(fold):
        p[fold == k] = _fit(x[fold != k], right[fold != k], x[fold == k], strength)
    return p


def _features(logits: np.ndarray) -> np.ndarray:
    """[N, K] to [N, F], as `features` says."""
    logits = np.asarray(logits, dtype=np.float64)
    log_p = log_softmax(logits, axis=-1)
    classes = log_p.shape[-1]
    top = min(TOP, classes)
    highest = -np.sort(np.partition(-log_p, top - 1, axis=-1)[:, :top], axis=-1)
    columns = [highest, *(doubt(logits)[:, None] for doubt in REGRESSORS)]
    if classes <= MANY_CLASSES:
        columns += [log_p, logits.argmax(-1)[:, None] == np.arange(classes)]
    return np.concatenate(columns, axis=1)


def _fit(x: np.ndarray, right: np.ndarray, x_new: np.ndarray, strength: float) -> np.ndarray:
    """P(right) of new rows."""
    if right.all() or not right.any():
        return np.full(len(x_new), (right.sum() + 1) / (right.size + 2))
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=500)
    return model.fit(x, right).predict_proba(x_new)[:, 1]
