"""Probabilities that each net is right, and the rule that follows from them.

Estimates are [2, N]: P(m right | x) and P(e right | x), both 0..1.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import threadpool_limits

from deferral.rules import entropy_doubt, in_blocks, margin_doubt, max_softmax_doubt

TOP = 10  # the most sorted log-probabilities that are used
MANY_CLASSES = 100  # above this, there are no features per class
FOLDS = 5
MOST = 20_000  # the most rows that a regression is fitted on
LEAST = -700.0  # stands for the logarithm of a probability of 0
# Not the catalogue's confidence rules: a new rule there must not change published numbers.
REGRESSORS = (max_softmax_doubt, margin_doubt, entropy_doubt)
STRENGTHS = (3e-4, 3e-3, 3e-2)  # C of scikit-learn; larger values won in no trial
STOP = {"maxiter": 500, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}


def bayes_score(estimates: np.ndarray, cost_1: float, cost_e: float) -> np.ndarray:
    """The expected saving of asking, [N]: (1 - P(m right)) - c_e - c_1 (1 - P(e right)).

    Send iff > 0: the Bayes rule of Wu et al. (ICLR 2025) with the estimates [2, N] put in, optimal
    where they are the true probabilities given x. In units of one local error.
    """
    local, edge = np.asarray(estimates, dtype=np.float64)
    return (1 - local) - cost_e - cost_1 * (1 - edge)


@dataclass(frozen=True, eq=False)
class Logistic:
    """P(right | x) = 1 / (1 + exp(-(weights z + intercept))), z = (x - center) / scale, M times."""

    center: np.ndarray  # [F]
    scale: np.ndarray  # [F]
    weights: np.ndarray  # [M, F]
    intercept: np.ndarray  # [M]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x [N, F] to probabilities [M, N]. ValueError for another number of signals."""
        if x.shape[1] != len(self.center):
            raise ValueError(f"has {x.shape[1]} signals of a model, not {len(self.center)}")
        z = (x - self.center) / self.scale
        return expit(self.weights @ z.T + self.intercept[:, None])


@dataclass(frozen=True, eq=False)
class Linear:
    """weights p + intercept."""

    weights: np.ndarray  # [M]
    intercept: np.ndarray  # []

    def __call__(self, p: np.ndarray) -> np.ndarray:
        """p [M, N] to [N]."""
        return self.weights @ p + self.intercept


def fit_right(x: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, Logistic]:
    """P(right | x) by a logistic regression for each row of right [M, N], bool or quality 0..1.

    x [N, F]: signals, which are standardised. Returns estimates [M, N], each sample's from a fit on
    the other FOLDS - 1 folds, so that they are as honest here as on test; and the fit on all. The
    L2 penalty of each row is the one of STRENGTHS of least log loss over these folds. Where all
    samples are right or all are wrong there is nothing to fit: (right + 1) / (samples + 2),
    Laplace's rule. A quality q counts as q of a right and 1 - q of a wrong answer. Of more than
    MOST rows a random MOST are fitted, and the others estimated by that fit, which has not seen
    them. Deterministic.
    """
    n, features = x.shape
    rows, (center, scale) = np.arange(n), center_and_scale(x)
    if n > MOST:
        rows = np.sort(np.random.default_rng(0).choice(n, MOST, replace=False))
    fold, seen = folds(len(rows)), ((x - center) / scale)[rows]
    crossed = np.empty((len(right), len(rows)))
    weights, intercept = np.empty((len(right), features)), np.empty(len(right))
    # Products this small gain nothing from threads, and wait for them where cores are busy:
    # beside a training on 2 cores this took 4.1 s with threads and 0.2 s without.
    with threadpool_limits(1):
        for m, one in enumerate(right[:, rows].astype(np.float64)):
            tried = [_cross_fit(seen, one, fold, strength) for strength in STRENGTHS]
            best = int(np.argmin([_log_loss(one, p) for p in tried]))
            crossed[m] = tried[best]
            weights[m], intercept[m] = _fit(seen, one, STRENGTHS[best])
    model = Logistic(center, scale, weights, intercept)
    if n == len(rows):
        return crossed, model
    estimated = model(x)
    estimated[:, rows] = crossed
    return estimated, model


def folds(n: int) -> np.ndarray:
    """The fold of each of n val samples, [n] in 0..FOLDS - 1; random, as rows may be sorted."""
    return np.random.default_rng(0).permutation(n) % FOLDS


def center_and_scale(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each signal, [F]; 1 for one that never changes."""
    center, scale = x.mean(0), x.std(0)
    scale[scale < 1e-9] = 1.0  # such as a class that the net never answers
    return center, scale


@in_blocks
def signals(logits: np.ndarray) -> np.ndarray:
    """What a fitted rule sees of logits [N, K]: [N, F].

    The TOP highest log-probabilities in falling order; the doubts of REGRESSORS; and with at
    most MANY_CLASSES classes the log-probabilities by class and which class the net answers:
    with more, these would be as many as the rows that they are fitted on. A masked class (-inf) has
    log-probability LEAST.
    """
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = np.maximum(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)), LEAST)
    classes = log_p.shape[-1]
    top = min(TOP, classes)
    highest = -np.sort(np.partition(-log_p, top - 1, axis=-1)[:, :top], axis=-1)
    columns = [highest, *(doubt(logits)[:, None] for doubt in REGRESSORS)]
    if classes <= MANY_CLASSES:
        columns += [log_p, logits.argmax(-1)[:, None] == np.arange(classes)]
    return np.concatenate(columns, axis=1)


def _cross_fit(x: np.ndarray, right: np.ndarray, fold: np.ndarray, strength: float) -> np.ndarray:
    """P(right) of each row by a fit on the other folds."""
    p = np.empty(len(x))
    for k in np.unique(fold):
        weights, intercept = _fit(x[fold != k], right[fold != k], strength)
        p[fold == k] = expit(x[fold == k] @ weights + intercept)
    return p


def _log_loss(right: np.ndarray, p: np.ndarray) -> float:
    p = np.clip(p, np.finfo(float).eps, 1 - np.finfo(float).eps)
    return float(-(right * np.log(p) + (1 - right) * np.log1p(-p)).mean())


def _fit(x: np.ndarray, right: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """Weights [F] and intercept of P(right); right [N] in 0..1."""
    if (right == right[:1]).all() or not right.size:
        share = (right.sum() + 1) / (right.size + 2)
        return np.zeros(x.shape[1]), float(np.log(share / (1 - share)))
    penalty = 1 / (strength * len(x))

    def loss(fitted: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean log loss with an L2 penalty on the weights, and its gradient."""
        weights, score = fitted[:-1], x @ fitted[:-1] + fitted[-1]
        off = (expit(score) - right) / len(x)
        value = (np.logaddexp(0, score) - right * score).mean() + penalty / 2 * weights @ weights
        return float(value), np.append(x.T @ off + penalty * weights, off.sum())

    # The objective, start and stopping rule of scikit-learn's LogisticRegression, whose import
    # alone takes longer than a report of 10,000 rows may.
    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options=STOP).x
    return found[:-1], float(found[-1])
