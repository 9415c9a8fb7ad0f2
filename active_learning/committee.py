"""What the targets trained on a set of labels say of the pool."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import data
from active_learning import trained
from active_learning.index_sets import IndexSet
from active_learning.options import Study
from active_learning.strategies import METHODS, Pool
from active_learning.trained import Numbers


@dataclass(frozen=True)
class _FeaturesOfRows:
    """Features of unlabelled samples by their rows, computed when asked for."""

    forward: Callable[[np.ndarray], np.ndarray]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """[len(rows), D]."""
        return self.forward(rows)


class Committee:
    """The T targets of one set of labels; nothing is asked twice, whatever methods need it.

    multiply_adds: of each target, [T]. ValueError where one was not trained.
    """

    def __init__(self, study: Study, labels: IndexSet, numbers: Numbers):
        self.study, self.labels, self.numbers = study, labels, numbers
        targets = study.targets[: study.model_num]
        self.members = [trained.find(study, target, labels) for target in targets]
        self.multiply_adds = [member.about["multiply_adds"] for member in self.members]
        self._known: dict[tuple, tuple[Any, float]] = {}

    def pool(
        self, method: str, cascade: tuple[int, int], costs: tuple[float, float]
    ) -> tuple[Pool, float]:
        """What a method needs to know, and the seconds that finding it out takes alone.

        cascade: (local, edge); costs: (c_1, c_e). Features of all targets, of which a method asks
        for few rows, are computed while it chooses, and no part of these seconds.
        """
        needs, spent = METHODS[method].needs, []
        targets = range(len(self.members))
        largest = self.multiply_adds.index(max(self.multiply_adds))
        described = {largest} if "largest" in needs else set()
        described |= {cascade[1]} if "edge" in needs else set()

        def know(what: Callable, *args: Any) -> Any:
            key = what.__name__, *args
            if key not in self._known:
                start = time.perf_counter()
                self._known[key] = what(*args), time.perf_counter() - start
            value, seconds = self._known[key]
            spent.append(seconds)
            return value

        logits = [know(self._logits, t) for t in targets] if "logits" in needs else None
        votes = [know(self._votes, t) for t in targets] if "votes" in needs else None
        features = {t: know(self._features, t, "unlabelled") for t in sorted(described)}
        if "features" in needs:
            features = {t: _FeaturesOfRows(partial(self._features_of, t)) for t in targets}
        made = Pool(
            size=len(self.labels.unlabelled),
            votes=None if votes is None else np.stack(votes, 1),
            logits=None if logits is None else np.stack(logits),
            features=features,
            labelled_features={largest: know(self._features, largest, "labelled")}
            if "largest" in needs
            else {},
            largest=largest,
            local=cascade[0],
            edge=cascade[1],
            cost_1=costs[0],
            cost_e=costs[1],
        )
        return made, sum(spent)

    def forget(self) -> None:
        """Remove the weights of every target trained on these labels, unseen ones too.

        What was predicted stays.
        """
        for target in self.study.targets:
            folder = trained.folder(self.study, target, self.labels)
            (folder / "net.pth").unlink(missing_ok=True)

    def _votes(self, t: int) -> np.ndarray:
        """[E, M]."""
        return self.members[t].votes(len(self.labels.unlabelled))

    def _logits(self, t: int) -> np.ndarray:
        """[M, K]."""
        return self._forward(t, self.labels.unlabelled, features=False)[0].cpu().numpy()

    def _features(self, t: int, which: str) -> np.ndarray:
        """[M, D], or of the labelled samples [L, D]."""
        return self._forward(t, getattr(self.labels, which), features=True)[1].cpu().numpy()

    def _features_of(self, t: int, rows: np.ndarray) -> np.ndarray:
        """[len(rows), D], rows of the unlabelled samples."""
        return self._forward(t, self.labels.unlabelled[rows], features=True)[1].cpu().numpy()

    def _forward(self, t: int, rows: np.ndarray, features: bool) -> tuple:
        """Logits and features of rows of the training set."""
        member, study = self.members[t], self.study
        net = self.numbers.place(member.net(len(study.dataset.classes)))
        part = trained.part_of(study.pool, rows)
        look = trained.pixel_stats(member.target)
        batches = data.Batches(part, trained.EVAL_BATCH, self.numbers.device, **look)
        return trained.forward(net, batches, self.numbers, features)
