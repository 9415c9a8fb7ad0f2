"""Thresholds fitted to what is wanted: the least risk, the least cost at a quality of at least Q,
or the highest quality at a mean cost of at most B.

A sample stops at the first of M stages whose doubt is <= its threshold, else stage M answers.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from deferral.rules import between
from deferral.stages import leave

TIE = 1e-9  # sums of the same numbers in another order differ in their last bits
SWEEPS = 30


@dataclass(frozen=True)
class Wanted:
    """kind: "risk", "quality", "budget" or "max_risk" (the least cost at a risk of at most R, which
    `promised` sees to); value: Q (0..1), B or R; None for the last model's Q.
    """

    kind: str
    value: float | None = None

    def resolved(self, last: np.ndarray, weight: np.ndarray | None = None) -> "Wanted":
        """With a number: the mean quality [N] of the last model where there is none."""
        if self.kind != "quality" or self.value is not None:
            return self
        return replace(self, value=float(np.average(last.astype(np.float64), weights=weight)))

    def met(self, quality: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Whether mean qualities and costs are allowed."""
        if self.kind == "quality":
            return np.asarray(quality >= (self.value or 0.0) - TIE)
        if self.kind == "budget":
            budget = self.value or 0.0
            return np.asarray(cost <= budget + TIE * max(1.0, budget))
        return np.ones(np.shape(cost), dtype=bool)

    def loss(self, quality: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """What is to be least: the cost (or risk), or minus the quality; inf where not allowed."""
        return np.where(
            self.met(quality, cost), -quality if self.kind == "budget" else cost, np.inf
        )


def fit(
    doubt: np.ndarray,
    quality: np.ndarray,
    cost: np.ndarray,
    wanted: Wanted,
) -> np.ndarray | None:
    """Thresholds [M] of least `wanted.loss` on these samples; None where none is allowed.

    doubt [M, N]; quality and cost [M + 1, N], cost being the risk for kind "risk".
    """
    return Rows(doubt, quality, cost).fit(wanted.resolved(quality[-1]))


class Rows:
    """Samples, sorted once for many fits: arguments as in `fit`."""

    def __init__(self, doubt: np.ndarray, quality: np.ndarray, cost: np.ndarray):
        self.doubt = np.asarray(doubt, dtype=np.float64)
        self.values = np.stack([quality, cost]).astype(np.float64)  # [2, M + 1, N]
        self.order = [np.argsort(-row, kind="stable") for row in self.doubt]

    def fit(self, wanted: Wanted, start: np.ndarray | None = None) -> np.ndarray | None:
        """As the function `fit`, wanted being resolved.

        One threshold is exact: all places where the doubts can be cut are tried. More are improved
        one at a time, each exactly, from `start` [M] (default: everything passes).
        """
        values = self._means(None)
        everything = np.full(len(self.doubt), -np.inf)
        thresholds = everything if start is None else np.asarray(start, dtype=np.float64)
        least = self._loss(values, thresholds, wanted)
        for _ in range(SWEEPS):
            moved = self._sweep(values, thresholds, wanted)
            loss = self._loss(values, moved, wanted)
            if math.isfinite(least) and not loss < least - TIE * max(1.0, abs(least)):
                break
            thresholds, least = moved, loss
            if len(self.doubt) == 1:
                break
        return thresholds if math.isfinite(least) else None

    def move(self, wanted: Wanted, start: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Each threshold once at its best, or as near to what is wanted as it can be, [M]."""
        return self._sweep(self._means(weight), start, wanted)

    def loss(self, wanted: Wanted, thresholds: np.ndarray) -> float:
        return self._loss(self._means(None), thresholds, wanted)

    def _means(self, weight: np.ndarray | None) -> np.ndarray:
        """Values whose sums over samples are weighted means, [2, M + 1, N]."""
        if weight is None:
            return self.values / self.values.shape[-1]
        return self.values * (weight / weight.sum())

    def _loss(self, values: np.ndarray, thresholds: np.ndarray, wanted: Wanted) -> float:
        stage = leave(self.doubt, thresholds)
        quality, cost = values[:, stage, np.arange(len(stage))].sum(1)
        return float(wanted.loss(quality, cost))

    def _sweep(self, values: np.ndarray, thresholds: np.ndarray, wanted: Wanted) -> np.ndarray:
        """Each threshold, last one first, at its best with the others as they are."""
        stage, moved = leave(self.doubt, thresholds), thresholds.copy()
        ahead = values[:, -1]  # [2, N]: of a sample that passes stage k
        for k in reversed(range(len(self.doubt))):
            here = values[:, k]
            rows = self.order[k][stage[self.order[k]] >= k]
            if len(rows):
                before = np.flatnonzero(stage < k)
                fixed = values[:, stage[before], before].sum(1) + here[:, rows].sum(1)
                falling = self.doubt[k][rows]
                inner = np.flatnonzero(falling[1:] != falling[:-1]) + 1
                places = np.concatenate([[0], inner, [len(rows)]])
                gain = np.cumsum((ahead - here)[:, rows], axis=1)
                passed = np.concatenate([np.zeros((2, 1)), gain], axis=1)[:, places]
                quality, cost = fixed[:, None] + passed
                best = _first_least(wanted.loss(quality, cost))
                if best is None:  # nothing is allowed yet: come as near as this stage can
                    best = int(np.argmax(quality) if wanted.kind == "quality" else np.argmin(cost))
                moved[k] = between(falling, int(places[best]))
            ahead = np.where(self.doubt[k] > moved[k], ahead, here)
        return moved


def _first_least(loss: np.ndarray) -> int | None:
    """The first place of least loss, ties to rounding counting as equal; None: all are inf."""
    least = loss.min()
    if not math.isfinite(least):
        return None
    return int(np.argmax(loss <= least + TIE * max(1.0, abs(least))))
