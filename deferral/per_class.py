"""Decisions class by class: reject rates, accuracies, and confusions of kept and sent samples.

When the local net was trained on some classes only (the non-IID case of Wu et al., ICLR 2025), a
rejector should send the classes that the local net has never seen, and keep the others.

Shapes: labels [N] in 0..K-1, correct [E, N] bool, stop [N] in 0..E-1 (0 is kept, above 0 is sent).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deferral.predictions import Predictions
from deferral.risk import Costs, at_stop, per_sample


@dataclass(frozen=True, eq=False)
class Groups:
    """Sums over the samples of each of G groups, all [G]; shares of them, nan where total is 0.

    local_correct and edge_correct count the right answers of the first and the last stage on ALL
    samples of the group; cascade_correct those of the stage that answers; a quality counts in part.
    cost, the total cost of the samples in units of one local error, is None where no costs were
    given.
    """

    total: NDArray[np.int64]
    sent: NDArray[np.int64]
    local_correct: NDArray[np.float64]
    edge_correct: NDArray[np.float64]
    cascade_correct: NDArray[np.float64]
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
    labels: NDArray, correct: ArrayLike, stop: ArrayLike, count: int, costs: Costs | None = None
) -> Groups:
    """One group a class, or any other groups: labels [N] in 0..count-1.

    correct [E, N] bool, or qualities in 0..1, which count in part. costs: (query_cost [E],
    error_cost [E]), for the risks. The totals are those of `counts.cascade_counts`: sent is its
    remote_total.
    """
    correct, stop = np.asarray(correct), np.asarray(stop)

    def total(values: NDArray) -> NDArray[np.float64]:
        return np.bincount(labels, values, minlength=count).astype(np.float64)

    return Groups(
        total=np.bincount(labels, minlength=count),
        sent=np.bincount(labels[stop > 0], minlength=count),
        local_correct=total(correct[0]),
        edge_correct=total(correct[-1]),
        cascade_correct=total(at_stop(correct, stop)),
        cost=None if costs is None else total(per_sample(correct, stop, *costs)),
    )


def kept_and_sent(part: Predictions, stop: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Confusions [K, K] of the kept (the local net's answers) and the sent (the edge's), E = 2.

    Counts, true class x answered class. `part` holds the rows that `stop` [N] decides on, as
    `predictions.part("test")`. The two add up to the confusion of the cascade.
    """
    count = part.stage_logits.shape[-1]
    local, edge = part.labels * count + part.stage_logits.argmax(-1)

    def confusion(pairs: NDArray) -> NDArray[np.int64]:
        return np.bincount(pairs, minlength=count**2).reshape(count, count)

    return confusion(local[stop == 0]), confusion(edge[stop > 0])
