"""Accuracy and risk against the share that is sent, and one number for a whole curve.

A curve has a point wherever the scores can be cut. Between two points it is a straight line: the
expectation when equal scores are sent in random order. O(N log N). Everything here takes two
stages: correct [2, N] bool, local and edge; a device with exits is one (`stages.as_two`), its costs
then [2, N], and samples that stop early have score -inf.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from deferral.risk import stage_costs
from deferral.rules import cut_places

RATES = tuple(k / 10 for k in range(1, 10))


@dataclass(frozen=True, eq=False)
class Curve:
    """One rule at every reject rate it can have, from sending none to sending all; each [M]."""

    rate: np.ndarray  # share sent, 0..1, rising
    accuracy: np.ndarray  # of the system: sent samples are answered by the edge, 0..1
    risk: np.ndarray  # as in deferral.risk, in units of one local error


def deferral_curve(
    score: np.ndarray, correct: np.ndarray, query_cost: np.ndarray, error_cost: np.ndarray
) -> Curve:
    """Accuracy and risk when the k highest of score [N] are sent, equal scores together, k = 0..N.

    correct [2, N], costs [2] or [2, N]. ValueError where lengths differ or there are no samples.
    """
    correct, score = np.asarray(correct), np.asarray(score, dtype=np.float64)
    if correct.ndim != 2 or len(correct) != 2 or score.shape != correct.shape[1:] or not score.size:
        raise ValueError(
            f"score {score.shape} does not fit correct {correct.shape}: [N] and [2, N]"
        )
    local, remote = stage_costs(correct, query_cost, error_cost)
    order, sent = cut_places(score)

    def system(kept, moved):
        gain = np.concatenate([[0.0], np.cumsum((moved - kept)[order])])
        return (kept.sum() + gain[sent]) / score.size

    return Curve(
        rate=sent / score.size,
        accuracy=system(correct[0].astype(float), correct[1].astype(float)),
        risk=system(local, remote),
    )


def oracle_curve(correct: np.ndarray, query_cost: np.ndarray, error_cost: np.ndarray) -> Curve:
    """The best that any score can do at every rate: samples whose sending saves most go first.

    The saving takes at most four values, so the curve has at most five points (more for qualities);
    it has the lowest risk and the highest accuracy at every rate (among equal savings, a sample
    whose answer becomes right goes first, which matters only at c_1 = 0). Costs are [2]: with costs
    per sample, the order of least risk and that of highest accuracy may differ.
    """
    local, remote = stage_costs(correct, query_cost, error_cost)
    saved = np.unique(local - remote, return_inverse=True)[1]
    gain = np.asarray(correct[1], dtype=float) - np.asarray(correct[0], dtype=float)
    return deferral_curve(3 * saved + gain, correct, query_cost, error_cost)


def accuracy_at(curve: Curve, rates: ArrayLike = RATES) -> np.ndarray:
    """Accuracy when exactly these shares are sent, linear between the points of the curve."""
    return np.interp(np.asarray(rates), curve.rate, curve.accuracy)


def risk_at(curve: Curve, rates: ArrayLike = RATES) -> np.ndarray:
    """Risk when exactly these shares are sent, linear between the points of the curve."""
    return np.interp(np.asarray(rates), curve.rate, curve.risk)


def normalised_area(curve: Curve, oracle: Curve) -> float:
    """The share of the oracle's gain over random that a rule has: random 0, oracle 1.

    (area of the rule - area of random) / (area of the oracle - area of random), areas under
    accuracy against reject rate, random the straight line between the two nets' accuracies. Costs
    play no part. Below 0: worse than random. nan where the oracle gains nothing over random.
    """
    random = (curve.accuracy[0] + curve.accuracy[-1]) / 2
    best = area_below(oracle.accuracy, oracle.rate) - random
    if best <= 1e-12:
        return float("nan")
    return float((area_below(curve.accuracy, curve.rate) - random) / best)


def error_area(curve: Curve) -> float:
    """AURC and AUGRC of the two-model system, 0..1: its error rate, averaged over reject rates.

    In selective classification a rejected sample has no answer, so errors are counted either among
    the kept samples (AURC) or among all (AUGRC). Here the edge answers rejected samples, so both
    are the area under error against reject rate. If the edge is always right, it is `augrc` of the
    local net.
    """
    return float(1 - area_below(curve.accuracy, curve.rate))


def aurc(score: np.ndarray, wrong: np.ndarray) -> float:
    """Area under the risk-coverage curve of one net, those of highest score rejected first.

    Geifman, Uziel and El-Yaniv (ICLR 2019), Bias-Reduced Uncertainty Estimation for Deep Neural
    Classifiers. Selective risk at coverage k / N: the share of wrong answers among the k kept.
    The paper averages it over k = 1..N; here, as in torch-uncertainty, the first and the last
    count half (trapezoids from coverage 1 / N to 1, divided by that width): a difference of order
    1 / N.
    Equal scores are rejected in random order, in expectation. score [N], wrong [N] bool.
    """
    kept = _kept_errors(score, wrong)
    selective = kept[1:] / np.arange(1, len(kept))
    if len(selective) == 1:
        return float(selective[0])
    return area_below(selective) / (len(selective) - 1)


def augrc(score: np.ndarray, wrong: np.ndarray) -> float:
    """Area under the generalized-risk-coverage curve of one net, highest score rejected first.

    Traub et al. (NeurIPS 2024), Overcoming Common Flaws in the Evaluation of Selective
    Classification Systems. Generalized risk at coverage k / N: the share of ALL samples that is
    kept and wrong. With trapezoids from coverage 0 to 1 and ties in expectation it equals the
    paper's (1 - AUROC) acc (1 - acc) + (1 - acc)^2 / 2. score [N], wrong [N] bool.
    """
    kept = _kept_errors(score, wrong)
    return area_below(kept) / (len(kept) - 1) ** 2


def _kept_errors(score: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Expected errors among the k samples of lowest score, k = 0..N; [N + 1]."""
    score, wrong = np.asarray(score, dtype=np.float64), np.asarray(wrong, dtype=np.float64)
    order, kept = cut_places(-score)
    errors = np.concatenate([[0.0], np.cumsum(wrong[order])])[kept]
    return np.interp(np.arange(score.size + 1), kept, errors)


def area_below(y: np.ndarray, x: np.ndarray | None = None) -> float:
    """Below the straight lines between points [M]; x rising, by default 0, 1, ..., M - 1."""
    return float(((y[1:] + y[:-1]) * (1.0 if x is None else np.diff(x))).sum() / 2)
