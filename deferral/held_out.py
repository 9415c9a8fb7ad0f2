"""Val rows that a rule was not fitted on: what a promise about its threshold is made from.

A promise holds for rows that are drawn independently of the rule. A confidence threshold of two
stages, or a rejector's score, is a fixed function of a sample, so all of val serves. Post-hoc
estimates and the thresholds of earlier exits are fitted on val: here they are fitted on one half of
it, and the other half is held out (split conformal prediction: Papadopoulos et al., 2002). Scores
that cross-fitting gives the whole of val will not do: they come from other fits than the one that
new samples meet. With those, promises of post-hoc estimates at delta 0.05 were broken in 8, 20 and
18 % of 200 draws of 200, 1,000 and 5,000 val rows; with rows held out in 3, 4 and 8 %.
"""

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np

from deferral import rules
from deferral.calibrate import of_rows
from deferral.decide import Prepared, ScoredDecision, prepared, scored
from deferral.predictions import SPLITS, Predictions
from deferral.risk import Costs, Pair
from deferral.stages import as_two


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One rule at one pair of costs. M val rows are held out; no two of them are of one group.

    The decision has all rows of the run, so that it can replace the one of `Prepared.decide`; for
    a rule fitted on half of val, its val scores are out of fold on that half.
    """

    fit: Prepared  # of the run, or of the run with half of its val
    decision: ScoredDecision
    rows: np.ndarray  # [M] int, of the val rows
    two: tuple[np.ndarray, Costs]  # correct [2, M] and costs of the rows, as `stages.as_two`

    @property
    def score(self) -> np.ndarray:
        """Scores of the rows, [M]."""
        return self.decision.score_val[self.rows]


def held_out(run: Predictions, cost: Pair, name: str) -> HeldOut:
    """ValueError where the rule has no score at these costs."""
    fit = prepared(run)
    decision = _scored(fit, run, cost, name)
    rows = np.arange(fit.correct_val.shape[1])
    if fit.last or (fit.stopping and name == "post_hoc"):
        half = _half(run)
        fit, split = prepared(half), half.split
        decision = _on_rows_of(run, split, _scored(fit, half, cost, name))
        rows = np.flatnonzero(split[run.split == SPLITS["val"]] == SPLITS["test"])
    whole = prepared(run)
    rows = one_of_each_group(run, rows)
    price = of_rows(whole.val_price(*cost), rows)
    two = as_two(whole.correct_val[:, rows], decision.exit_val[rows], *price)
    return HeldOut(fit, decision, rows, two)


def _scored(fit: Prepared, run: Predictions, cost: Pair, name: str) -> ScoredDecision:
    decisions = scored(fit.decide(*cost))
    if name not in decisions:
        raise ValueError(f"{run.source}: rule {name} has no score, so no threshold")
    return decisions[name]


# The fits of a half are kept as long as the predictions, as those of `prepared` are.
_HALVES: WeakKeyDictionary[Predictions, Predictions] = WeakKeyDictionary()


def _half(run: Predictions) -> Predictions:
    """The same rows with a random half of val (half of its groups) as val, all others as test."""
    if run not in _HALVES:
        val = np.flatnonzero(run.split == SPLITS["val"])
        group = val if run.own is None or run.own.group is None else run.own.group[val]
        members = np.random.default_rng(0).permutation(np.unique(group))
        fitted = val[np.isin(group, members[: max(1, len(members) // 2)])]
        split = np.full_like(run.split, SPLITS["test"])
        split[fitted] = SPLITS["val"]
        _HALVES[run] = replace(run, split=split, example_index=None, example_images=None)
    return _HALVES[run]


def _on_rows_of(run: Predictions, split: np.ndarray, decision: ScoredDecision) -> ScoredDecision:
    """A decision made with another split of the run, on the run's own val and test rows."""
    parts = {}
    for key in ("score", "exit"):
        on_val, on_test = getattr(decision, f"{key}_val"), getattr(decision, key)
        values = np.empty(len(split), on_test.dtype)
        values[split == SPLITS["val"]], values[split == SPLITS["test"]] = on_val, on_test
        for part, number in SPLITS.items():
            parts[f"{key}_val" if part == "val" else key] = values[run.split == number]
    stop = rules.threshold(parts["score"], decision.threshold)
    return replace(decision, stop=stop, **parts)


def one_of_each_group(run: Predictions, rows: np.ndarray) -> np.ndarray:
    """Rows [M] of val, a random one of each group: those of one group are not independent."""
    if run.own is None or run.own.group is None:
        return rows
    group = run.own.group[run.split == SPLITS["val"]]
    mixed = np.random.default_rng(0).permutation(rows)
    return np.sort(mixed[np.unique(group[mixed], return_index=True)[1]])
