"""When to stop: the policy of least risk for exits and a server, by dynamic programming.

Backward induction (Bellman, 1957): with the policy of all later stages known, stop where stopping
costs no more than what going on is expected to cost, given what is known here. `optimum` does it
for a finite chain, whose probabilities are known. `Stopping` does it from saved predictions, where
they are not: what going on costs more is regressed on what the exit's logits tell, the costs being
those that came about on val under the policy of the later exits (Longstaff and Schwartz, 2001,
Valuing American Options by Simulation). So no expectation of an estimated value is taken, which
would be too low. Every regression is cross-fitted: a sample's decisions on val come from fits that
have not seen it, and so do the costs that earlier exits learn from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from deferral import estimates
from deferral.predictions import Predictions
from deferral.risk import stage_costs

RIDGES = (1e-3, 1e-2, 1e-1)  # of the number of samples; regressors have variance 1


@dataclass(frozen=True, eq=False)
class Stops:
    """What the policy does with N samples: the exit that answers unless the server is asked."""

    exit: np.ndarray  # [N] in 0..E-1
    score: np.ndarray  # [N] what asking is expected to save: ask iff > 0; -inf before the last exit


def optimum(
    stop_cost: Sequence[ArrayLike], transition: Sequence[ArrayLike], go_cost: Sequence[float]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The least expected cost from each state of a finite chain, and where to stop for it.

        value_k = min(stop_cost_k, go_cost_k + transition_k value_(k+1)), value_S = stop_cost_S

    stop_cost: S arrays [n_k], what stopping costs in each of the n_k states of stage k; transition:
    S - 1 matrices [n_k, n_(k+1)] of probabilities; go_cost [S - 1]: of going from k to k + 1.
    Returns S arrays of values and S of stops, bool; a tie stops. ValueError where shapes do not
    fit, or rows of a transition are not probabilities that sum to 1.
    """
    costs = [np.asarray(one, dtype=np.float64) for one in stop_cost]
    moves = [np.asarray(one, dtype=np.float64) for one in transition]
    if not costs or len(moves) != len(costs) - 1 or len(go_cost) != len(moves):
        raise ValueError(
            f"{len(costs)} stages need one transition and go_cost less, not {len(moves)} and "
            f"{len(go_cost)}"
        )
    for k, move in enumerate(moves):
        if move.shape != (costs[k].size, costs[k + 1].size):
            raise ValueError(
                f"transition {k} is {move.shape}, but must be {(costs[k].size, costs[k + 1].size)}"
            )
        if (move < 0).any() or not np.allclose(move.sum(1), 1):
            raise ValueError(f"transition {k} has a row that is no probabilities with sum 1")
    values, stops = [costs[-1]], [np.ones(costs[-1].shape, dtype=bool)]
    for here, move, price in zip(costs[-2::-1], moves[::-1], go_cost[::-1], strict=True):
        ahead = price + move @ values[0]
        stops.insert(0, here <= ahead)
        values.insert(0, np.minimum(here, ahead))
    return values, stops


@dataclass(frozen=True, eq=False)
class Estimator:
    """P(right) of some stages from an exit's signals x [N, F]: logistic((x - center) / scale)."""

    center: np.ndarray  # [F]
    scale: np.ndarray  # [F]
    logistic: estimates.Logistic


class Stopping:
    """The policy of a device with exits and a server at any costs, fitted on val.

    What is known at exit k are its logits. From them, by `estimates.right_given`: the probabilities
    that exit k is right, that exit k + 1 is, and that the server is, [3, N]. At the last exit ask
    iff asking is expected to save, as `estimates.bayes_score` has it: with E = 1 that is all, and
    the policy is that of `estimates.post_hoc`. At an exit before it, go on iff

        E[ what going on costs - what stopping costs | x ] < 0,

    estimated by a ridge regression on these three probabilities over the folds of
    `estimates.folds`. Its strength is the one of RIDGES of least squared error out of fold.

    Found better in trials on simulated devices of 3 to 8 exits, 300 to 4,000 val rows and 10 or 100
    classes (mean test risk over 3 pairs of costs and 1 to 12 seeds a setting):
      - to regress the difference. Regressing what going on costs, and comparing it with 1 - P(exit
        k right), is right in expectation too, but two stages err on the same samples, which cancels
        in a difference: all on `estimates.features`, the difference was lower by 0.0008 to 0.0044
        in 6 of 6 settings. Clipping the cost to what is possible gained 0.0002 to 0.0005 of that;
        calibrating it by isotonic regression lost 0.0008 to 0.0037.
      - few regressors. All features instead of probabilities were higher by 0.0002 to 0.0039, the
        probabilities of all later stages by up to 0.0005, squares and products by up to 0.0012.

    Nothing but the ridge depends on costs. ValueError unless there are 2 stages or more.
    """

    def __init__(self, val: Predictions, test: Predictions):
        stages = len(val.correct)
        if stages < 2:
            raise ValueError(f"{val.source}: needs an exit and a server, not {stages} stages")
        self.correct = np.asarray(val.correct, dtype=np.float64)
        self.known: list[
            tuple[np.ndarray, np.ndarray]
        ] = []  # an exit: on val and test, [2 or 3, N]
        self.models: list[Estimator] = []
        for k in range(stages - 1):
            x_val, x_test = (
                estimates.signals(part.stage_logits[k]) if part.own is None else part.own.signals[k]
                for part in (val, test)
            )
            center, scale = estimates.center_and_scale(x_val)
            later = sorted({k, k + 1, stages - 1})
            on_val, logistic = estimates.fit_right((x_val - center) / scale, self.correct[later])
            self.known.append((on_val, logistic((x_test - center) / scale)))
            self.models.append(Estimator(center, scale, logistic))
        self.fits = [_Ridge(*both) for both in self.known[:-1]]

    def decide(self, query_cost: np.ndarray, error_cost: np.ndarray) -> tuple[Stops, Stops]:
        """What the policy does with the val rows, out of fold, and with the test rows.

        query_cost [S] or, of the val samples, [S, Nv]; error_cost [S], as `risk.costs` gives them.
        """
        query, error = np.asarray(query_cost), np.asarray(error_cost)
        price = stage_costs(self.correct, query, error)
        last, rows = len(price) - 2, np.arange(price.shape[1])
        # What asking costs a sample is not known before: on average what it costs on val.
        ask = float(np.mean(query[-1] - query[-2]))
        scores = [
            error[-2] * (1 - exit) - ask - error[-1] * (1 - server)
            for exit, server in self.known[-1]
        ]
        exits = [np.full(score.shape, last) for score in scores]
        ahead = price[last + (scores[0] > 0), rows]  # what each val sample costs if it goes on
        for k in reversed(range(last)):
            for part, more in enumerate(self.fits[k](ahead - price[k])):
                exits[part][more >= 0] = k
            ahead = np.where(exits[0] == k, price[k], ahead)
        for exit, score in zip(exits, scores, strict=True):
            score[exit < last] = -np.inf
        return Stops(exits[0], scores[0]), Stops(exits[1], scores[1])


class _Ridge:
    """Least squares with a penalty, of any targets on the same samples. x_val, x_test [F, N]."""

    def __init__(self, x_val: np.ndarray, x_test: np.ndarray):
        center, scale = x_val.mean(1, keepdims=True), x_val.std(1, keepdims=True)
        scale[scale < 1e-9] = 1.0
        self.val, self.test = (x_val - center) / scale, (x_test - center) / scale
        self.fold = estimates.folds(x_val.shape[1])

    def __call__(self, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """E[target | x]: of the val samples by fits on the other folds, of test by one on all."""
        crossed = np.empty((len(RIDGES), target.size))
        for k in np.unique(self.fold):
            other = self.fold != k
            crossed[:, ~other] = self._fit(other, target, self.val[:, ~other])
        best = int(np.argmin(((crossed - target) ** 2).sum(1)))
        whole = self._fit(np.ones(target.size, dtype=bool), target, self.test)
        return crossed[best], whole[best]

    def _fit(self, rows: np.ndarray, target: np.ndarray, x_new: np.ndarray) -> np.ndarray:
        """Predictions for new samples from a fit on `rows`, for each of RIDGES: [L, N']."""
        if not rows.any():  # a single val sample: nothing to learn from, and a tie stops
            return np.zeros((len(RIDGES), x_new.shape[1]))
        x, y = self.val[:, rows], target[rows]
        center, base = x.mean(1, keepdims=True), y.mean()
        x = x - center
        penalty = np.array(RIDGES)[:, None, None] * y.size * np.eye(len(x))
        weights = np.linalg.solve(x @ x.T + penalty, (x @ (y - base))[None, :, None])[..., 0]
        return base + weights @ (x_new - center)
