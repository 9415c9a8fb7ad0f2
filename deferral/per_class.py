"""Decisions class by class: reject rates, accuracies, and confusions of kept and sent samples.

When the local net was trained on some classes only (the non-IID case of Wu et al., ICLR 2025), a
rejector should send the classes that the local net has never seen, and keep the others.

    seen      the local net was trained on at least one sample of the class
    unseen    it was not, so it never answers the class

Shapes: labels [N] in 0..K-1, correct [E, N] bool, stop [N] in 0..E-1 (0 is kept, above 0 is sent).
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deferral.predictions import Predictions
from deferral.risk import Costs, per_sample

SEEN, UNSEEN = 0, 1  # places in what `seen_and_unseen` returns


@dataclass(frozen=True, eq=False)
class Groups:
    """Sums over the samples of each of G groups, all [G]; shares of them, nan where total is 0.

    local_correct and edge_correct count the right answers of the first and the last stage on ALL
    samples of the group; cascade_correct those of the stage that answers. cost, the total cost of
    the samples in units of one local error, is None where no costs were given.
    """

    total: NDArray[np.int64]
    sent: NDArray[np.int64]
    local_correct: NDArray[np.int64]
    edge_correct: NDArray[np.int64]
    cascade_correct: NDArray[np.int64]
    cost: NDArray | None = None

    @property
    def reject_rate(self) -> NDArray[np.float64]:
        return self._share(self.sent)

    @property
    def local_accuracy(self) -> NDArray[np.float64]:
        return self._share(self.local_correct)

    @property
    def edge_accuracy(self) -> NDArray[np.float64]:
        return self._share(self.edge_correct)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        return self._share(self.cascade_correct)

    @property
    def risk(self) -> NDArray[np.float64] | None:
        """The generalized 0-1 risk within each group; None where no costs were given."""
        return None if self.cost is None else self._share(self.cost)

    def _share(self, part: NDArray) -> NDArray[np.float64]:
        nothing = np.full(len(self.total), np.nan)
        return np.divide(part, self.total, out=nothing, where=self.total > 0)


def per_class(
    labels: ArrayLike,
    correct: ArrayLike,
    stop: ArrayLike,
    num_classes: int,
    costs: Costs | None = None,
) -> Groups:
    """One group a class, G = K. `costs`: (query_cost [E], error_cost [E]), for the risks.

    The totals are those of `counts.cascade_counts`: sent is its remote_total. ValueError for
    labels that are not classes, and for shapes that do not fit.
    """
    labels = _classes("labels", labels, num_classes)
    return _groups(labels, correct, stop, num_classes, costs)


def seen_and_unseen(
    labels: ArrayLike,
    correct: ArrayLike,
    stop: ArrayLike,
    seen: Collection[int],
    num_classes: int,
    costs: Costs | None = None,
) -> Groups:
    """Two groups, [SEEN, UNSEEN]: samples of the classes in `seen`, and all others.

    An empty side has total 0 and shares that are nan. ValueError as in `per_class`, and for
    numbers in `seen` that are no class.
    """
    is_seen = np.zeros(num_classes, dtype=bool)
    is_seen[_classes("seen", sorted(seen), num_classes)] = True
    labels = _classes("labels", labels, num_classes)
    return _groups(np.where(is_seen[labels], SEEN, UNSEEN), correct, stop, 2, costs)


def confusion(
    labels: ArrayLike, answers: ArrayLike, rows: ArrayLike, num_classes: int
) -> NDArray[np.int64]:
    """Counts [K, K], true class x answered class, of the samples that `rows` [N] bool names.

    ValueError for labels or answers that are not classes, and where lengths differ.
    """
    labels = _classes("labels", labels, num_classes)
    answers, rows = _classes("answers", answers, num_classes), np.asarray(rows)
    if answers.shape != labels.shape or rows.shape != labels.shape or rows.dtype != bool:
        raise ValueError(
            f"answers {answers.shape} and rows {rows.dtype} {rows.shape} must be [N] and bool [N] "
            f"for labels {labels.shape}"
        )
    pairs = labels[rows] * num_classes + answers[rows]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def kept_and_sent(
    part: Predictions, stop: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Confusions [K, K] of the kept (the local net's answers) and the sent (the edge's), E = 2.

    `part` holds the rows that `stop` [N] decides on, as `predictions.part("test")`. The two add
    up to the confusion of the cascade. ValueError unless there are two stages, and for a stop
    that does not fit.
    """
    stop, (stages, n, num_classes) = np.asarray(stop), part.stage_logits.shape
    if stages != 2 or stop.shape != (n,) or not np.isin(stop, (0, 1)).all():
        raise ValueError(
            f"{part.source}: kept and sent need 2 stages and a stop of 0 and 1 for each of {n} "
            f"rows, not {stages} and stop {stop.shape}"
        )
    local, edge = part.stage_logits.argmax(-1)
    return (
        confusion(part.labels, local, stop == 0, num_classes),
        confusion(part.labels, edge, stop == 1, num_classes),
    )


def local_classes(predictions: Predictions) -> list[int] | None:
    """The classes that the local net has seen, sorted; None where the settings do not say it.

    ValueError where `local_classes` of the settings are not a list of class numbers.
    """
    classes, num_classes = (
        predictions.settings.get("local_classes"),
        predictions.stage_logits.shape[2],
    )
    if classes is None:
        return None
    if not isinstance(classes, list) or any(
        type(k) is not int or not 0 <= k < num_classes for k in classes
    ):
        raise ValueError(
            f"{predictions.source}: local_classes in the settings must be a list of numbers "
            f"in 0..{num_classes - 1}"
        )
    return sorted(set(classes))


def _groups(
    group: NDArray,
    correct: ArrayLike,
    stop: ArrayLike,
    count: int,
    costs: Costs | None,
) -> Groups:
    """Sums over the samples of each group; group [N] in 0..count-1."""
    correct, stop = np.asarray(correct, dtype=bool), np.asarray(stop)
    # With free queries and errors of cost 1 a sample costs 1 iff its answer is wrong; per_sample
    # checks shapes and stages.
    stages = len(correct)
    wrong = per_sample(correct, stop, np.zeros(stages), np.ones(stages)) > 0
    if group.shape != stop.shape:
        raise ValueError(f"labels {group.shape} do not fit stop {stop.shape}")

    def total(rows: NDArray) -> NDArray[np.int64]:
        return np.bincount(group[rows], minlength=count)

    cost = None
    if costs is not None:
        cost = np.bincount(group, per_sample(correct, stop, *costs), minlength=count)
    return Groups(
        total=np.bincount(group, minlength=count),
        sent=total(stop > 0),
        local_correct=total(correct[0]),
        edge_correct=total(correct[-1]),
        cascade_correct=total(~wrong),
        cost=cost,
    )


def _classes(name: str, numbers: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Class numbers as int64 [N]; ValueError for anything else."""
    array = np.asarray(numbers)
    if array.size == 0:
        array = array.astype(np.int64)  # numpy makes floats of an empty list
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} are {array.dtype} {array.shape}, but must be class numbers [N]")
    if array.size and (array.min() < 0 or array.max() >= num_classes):
        raise ValueError(f"{name} hold numbers outside 0..{num_classes - 1}")
    return array.astype(np.int64)
