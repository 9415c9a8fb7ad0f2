"""What the targets trained on a set of labels say of the pool."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import data
from active_learning import trained
from active_learning.index_sets import IndexSet
from active_learning.options import Study
from active_learning.strategies import METHODS, Pool
from active_learning.trained import Numbers


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

        cascade: (local, edge); costs: (c_1, c_e).
        """
        needs, spent = METHODS[method].needs, []
        targets = range(len(self.members))
        largest = self.multiply_adds.index(max(self.multiply_adds))
        described = {*(targets if "features" in needs else ())}
        described |= {largest} if "largest" in needs else set()
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
        made = Pool(
            size=len(self.labels.unlabelled),
            votes=None if votes is None else np.stack(votes, 1),
            logits=None if logits is None else np.stack(logits),
            features={t: know(self._features, t, "unlabelled") for t in sorted(described)},
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
        """Remove the weights; what was predicted stays."""
        for member in self.members:
            (member.folder / "net.pth").unlink(missing_ok=True)

    def _votes(self, t: int) -> np.ndarray:
        """[E, M]."""
        return self.members[t].votes(len(self.labels.unlabelled))

    def _logits(self, t: int) -> np.ndarray:
        """[M, K]."""
        return self._forward(t, "unlabelled", features=False)[0].cpu().numpy()

    def _features(self, t: int, rows: str) -> np.ndarray:
        """[M, D], or of the labelled samples [L, D]."""
        return self._forward(t, rows, features=True)[1].cpu().numpy()

    def _forward(self, t: int, rows: str, features: bool) -> tuple:
        member, study = self.members[t], self.study
        net = self.numbers.place(member.net(len(study.dataset.classes)))
        part = trained.part_of(study.pool, getattr(self.labels, rows))
        look = trained.pixel_stats(member.target)
        batches = data.Batches(part, trained.EVAL_BATCH, self.numbers.device, **look)
        return trained.forward(net, batches, self.numbers, features)
