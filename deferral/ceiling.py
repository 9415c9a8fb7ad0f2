"""A bound on what a rule on the device can gain: estimates that also see the remote's scores.

No device has these scores before it asks, so this is no rule to use. It shows how much of the
distance between a rule and the oracle, which sees the labels, is within reach of estimates at all.
It is an estimate of that bound: it is fitted, on val, and a better fit would be lower.
"""

import numpy as np
from scipy.special import softmax

from deferral import estimates
from deferral.predictions import Predictions

ROWS = 20_000  # of val that are fitted, and of test at a time


def is_known(part: Predictions) -> bool:
    """Whether there are the class scores of two models, and a call costs the same for each row."""
    return len(part.stage_logits) == 2 and (part.own is None or part.own.class_scores is not None)


def _scores(part: Predictions) -> np.ndarray:
    """Logits of both models, [2, N, K]."""
    if part.own is None or part.own.class_scores is None:
        return part.stage_logits
    return part.own.class_scores


def both_right(val: Predictions, test: Predictions) -> np.ndarray:
    """P(m right | x) and P(e right | x) of the test rows, [2, Nt], from the logits of both nets.

    Two logistic regressions, fitted on val: `estimates.fit_right` on what each net's logits say and
    how far they agree. Gradient-boosted trees on the same were no better: on CIFAR-10, LeNet-5 and
    `convnet`, 5,000 val rows, mean risk over 42 costs 0.2920 to 0.2942 in cross-validation, against
    0.2908.
    """
    known, logits = _scores(val), _scores(test)
    rows = np.arange(known.shape[1])
    if len(rows) > ROWS:
        rows = np.sort(np.random.default_rng(0).choice(len(rows), ROWS, replace=False))
    _, model = estimates.fit_right(_seen(*known[:, rows]), val.correct[:, rows])
    parts = np.split(logits, range(ROWS, logits.shape[1], ROWS), axis=1)
    return np.concatenate([model(_seen(*part)) for part in parts], axis=1)


def _seen(local: np.ndarray, remote: np.ndarray) -> np.ndarray:
    """`estimates.signals` of both nets' logits [N, K], and how they agree: [N, F].

    Whether both answer alike, the probability that they do, and the probability of each one's
    answer under the other, with its logarithm.
    """
    p, q = (softmax(np.asarray(logits, dtype=np.float64), -1) for logits in (local, remote))
    alike = p.argmax(-1) == q.argmax(-1)
    of_local = np.take_along_axis(q, p.argmax(-1)[:, None], -1)
    of_remote = np.take_along_axis(p, q.argmax(-1)[:, None], -1)
    crossed = np.concatenate([of_local, of_remote], 1)
    together = np.stack([alike, (p * q).sum(-1)], 1)
    signals = [estimates.signals(logits) for logits in (local, remote)]
    return np.concatenate([*signals, together, crossed, np.log(np.maximum(crossed, 1e-9))], 1)
