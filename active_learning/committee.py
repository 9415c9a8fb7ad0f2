"""Outputs of the targets trained on a set of labels, for the samples of the pool."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from torch import Tensor

from active_learning import trained
from active_learning.index_sets import IndexSet
from active_learning.options import Study
from active_learning.strategies import METHODS, Pool
from active_learning.trained import Numbers


class Committee:
    """The T targets of one set of labels; every output is computed once, whatever methods need it.

    multiply_adds: of each target, [T]. ValueError if a target was not trained.
    """

    def __init__(self, study: Study, labels: IndexSet, numbers: Numbers):
        self.study, self.labels, self.numbers = study, labels, numbers
        targets = study.targets[: study.model_num]
        self.members = [trained.find(study, target, labels) for target in targets]
        self.multiply_adds: list[int] = [m.about["multiply_adds"] for m in self.members]
        self._cache: dict[tuple[str, int], tuple[np.ndarray, float]] = {}

    def pool(
        self, method: str, cascade: tuple[int, int], costs: tuple[float, float]
    ) -> tuple[Pool, float]:
        """The outputs that a method needs, and the seconds that it takes to compute these alone.

        cascade: (local, edge); costs: (c_1, c_e). The features of some rows of all targets are
        computed while the method chooses and are not part of these seconds.
        """
        needs, local, edge = METHODS[method].needs, *cascade
        targets = range(len(self.members))
        largest = self.multiply_adds.index(max(self.multiply_adds))
        seconds = 0.0

        def cached(what: str, target: int) -> np.ndarray:
            nonlocal seconds
            if (what, target) not in self._cache:
                start = time.perf_counter()
                value = self._outputs(what, target)
                self._cache[what, target] = value, time.perf_counter() - start
            value, spent = self._cache[what, target]
            seconds += spent
            return value

        pool = Pool(
            size=len(self.labels.unlabelled),
            features_of=lambda t, rows: self._forward(
                t, self.labels.unlabelled[rows], trained.features
            ),
            largest=largest,
            local=local,
            edge=edge,
            cost_1=costs[0],
            cost_e=costs[1],
        )
        if "logits" in needs:
            pool = pool._replace(logits=np.stack([cached("logits", t) for t in targets]))
        if "votes" in needs:
            pool = pool._replace(votes=np.stack([cached("votes", t) for t in targets], 1))
        if "edge" in needs:
            pool = pool._replace(features={edge: cached("features", edge)})
        if "largest" in needs:
            pool = pool._replace(
                features={largest: cached("features", largest)},
                labelled_features={largest: cached("labelled_features", largest)},
            )
        return pool, seconds

    def forget(self) -> None:
        """Delete the weights of every target trained on these labels, including unseen ones.

        Predictions stay.
        """
        for target in self.study.targets:
            folder = trained.folder(self.study, target, self.labels)
            (folder / "net.pth").unlink(missing_ok=True)

    def _outputs(self, what: str, t: int) -> np.ndarray:
        """Of target t: votes [E, M], logits [M, K] or features [M, D]; labelled_features [L, D]."""
        if what == "votes":
            return self.members[t].votes(len(self.labels.unlabelled))
        rows = self.labels.labelled if what == "labelled_features" else self.labels.unlabelled
        return self._forward(t, rows, trained.logits if what == "logits" else trained.features)

    def _forward(self, t: int, rows: np.ndarray, compute: Callable[..., Tensor]) -> np.ndarray:
        """Logits or features of rows of the training set; ValueError if one is not finite."""
        member = self.members[t]
        net = self.numbers.place(member.net(len(self.study.dataset.classes)))
        part = trained.part_of(self.study.pool, rows)
        batches = trained.eval_batches(member.target, part, self.numbers.device)
        outputs = compute(net, batches, self.numbers)
        if not outputs.isfinite().all():
            raise ValueError(f"{member.folder}: outputs are not finite; its training diverged")
        return outputs.cpu().numpy()
