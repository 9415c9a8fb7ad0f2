"""Metrics beside accuracy: those of GLUE (Wang et al., ICLR 2019).

scikit-learn is imported on use, because the import takes a second that image tasks do not need.
"""

import numpy as np


def f1(labels: np.ndarray, answers: np.ndarray) -> float:
    """F1 of class 1, 0..1: 2 tp / (2 tp + fp + fn). Labels and answers [N]; 0 where all are 0."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, answers, labels=[1], average="micro", zero_division=0.0))


def matthews(labels: np.ndarray, answers: np.ndarray) -> float:
    """Matthews' correlation coefficient, -1..1; 0 where labels or answers are all of one class."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, answers))


METRICS = {"f1": f1, "matthews": matthews}


def beside_accuracy(
    names: list[str] | None, labels: np.ndarray, answers: np.ndarray
) -> dict[str, float]:
    """The metrics of `names` but accuracy, by name. ValueError for one that is unknown."""
    wanted = [name for name in names or [] if name != "accuracy"]
    if unknown := sorted(set(wanted) - set(METRICS)):
        raise ValueError(f"metric {', '.join(unknown)}: there are accuracy, {', '.join(METRICS)}")
    return {name: METRICS[name](labels, answers) for name in wanted}
