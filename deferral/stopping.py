"""The stopping policy of least risk for exits and a server, by dynamic programming.

Backward induction (Bellman, 1957): given the policy of all later stages, stop where stopping costs
no more than going on is expected to cost. With saved predictions the extra cost of going on is
regressed on features of the exit's logits, with the costs that val samples incur under the policy
of the later exits as targets (Longstaff and Schwartz, 2001, Valuing American Options by
Simulation). Using incurred costs avoids the expectation of a minimum of estimates, which is biased
low. Every regression is cross-fitted: a val sample's decisions come from fits without it, and so do
the costs that earlier exits are fitted to.
"""

from dataclasses import dataclass

import numpy as np

from deferral import estimates
from deferral.estimates import Linear, Logistic
from deferral.predictions import Predictions
from deferral.risk import stage_costs

RIDGES = (1e-3, 1e-2, 1e-1)  # of the number of samples; regressors have variance 1


@dataclass(frozen=True, eq=False)
class Stops:
    """The policy's decisions on N samples: the exit that answers unless the server is asked."""

    exit: np.ndarray  # [N] in 0..E-1
    score: np.ndarray  # [N] the expected saving of asking: ask iff > 0; -inf before the last exit
    # Of each exit but the last, as fitted on all val samples: what going on costs more than
    # stopping, from the exit's estimates [3, N] of who is right. Go on iff < 0.
    going_on: tuple[Linear, ...] = ()


class Stopping:
    """The policy of a device with exits and a server at any costs, fitted on val.

    From the logits of exit k `estimates.fit_right` estimates the probabilities that exit k, exit
    k + 1 and the server are right, [3, N]. At the last exit ask iff the expected saving of
    `estimates.bayes_score` is above 0: with E = 1 that is the whole policy. At an earlier exit, go
    on iff

        E[ cost of going on - cost of stopping | x ] < 0,

    estimated by a ridge regression on these three probabilities over the folds of
    `estimates.folds`. Its strength is the one of RIDGES of least squared error out of fold.

    Choices made by trials on simulated devices of 3 to 8 exits, 300 to 4,000 val rows and 10 or 100
    classes (mean test risk over 3 pairs of costs and 1 to 12 seeds a setting):
      - The difference is regressed. Regressing the cost of going on and comparing it with
        1 - P(exit k right) is right in expectation too, but two stages err on the same samples,
        which cancels in a difference: on all of `estimates.signals` the difference had a risk lower
        by 0.0008 to 0.0044 in 6 of 6 settings. Clipping the cost to its possible range gained
        0.0002 to 0.0005 of that; calibrating it by isotonic regression lost 0.0008 to 0.0037.
      - There are few regressors. All features instead of probabilities raised the risk by 0.0002 to
        0.0039, the probabilities of all later stages by up to 0.0005, squares and products by up to
        0.0012.

    Only the ridge regressions depend on costs. ValueError unless there are 2 stages or more.
    """

    def __init__(self, val: Predictions, test: Predictions):
        stages = len(val.correct)
        if stages < 2:
            raise ValueError(f"{val.source}: needs an exit and a server, not {stages} stages")
        self.correct = np.asarray(val.correct, dtype=np.float64)
        # Estimates of each exit on val and on test, [2 or 3, N].
        self.estimated: list[tuple[np.ndarray, np.ndarray]] = []
        self.models: list[Logistic] = []
        for k in range(stages - 1):
            x_val, x_test = (
                estimates.signals(part.stage_logits[k]) if part.own is None else part.own.signals[k]
                for part in (val, test)
            )
            later = sorted({k, k + 1, stages - 1})
            on_val, model = estimates.fit_right(x_val, self.correct[later])
            self.estimated.append((on_val, model(x_test)))
            self.models.append(model)
        self.fits = [_Ridge(*both) for both in self.estimated[:-1]]

    def decide(self, query_cost: np.ndarray, error_cost: np.ndarray) -> tuple[Stops, Stops]:
        """The policy's decisions on the val rows, out of fold, and on the test rows.

        query_cost [S] or, of the val samples, [S, Nv]; error_cost [S], as `risk.costs` gives them.
        """
        query, error = np.asarray(query_cost), np.asarray(error_cost)
        price = stage_costs(self.correct, query, error)
        last, rows = len(price) - 2, np.arange(price.shape[1])
        # What asking costs a sample is not known before: on average what it costs on val.
        ask = float(np.mean(query[-1] - query[-2]))
        scores = [
            error[-2] * (1 - exit) - ask - error[-1] * (1 - server)
            for exit, server in self.estimated[-1]
        ]
        exits = [np.full(score.shape, last) for score in scores]
        ahead = price[last + (scores[0] > 0), rows]  # the cost of each val sample if it goes on
        fitted: list[Linear] = []
        for k in reversed(range(last)):
            *extra, going_on = self.fits[k](ahead - price[k])
            fitted.insert(0, going_on)
            for part, more in enumerate(extra):
                exits[part][more >= 0] = k
            ahead = np.where(exits[0] == k, price[k], ahead)
        for exit, score in zip(exits, scores, strict=True):
            score[exit < last] = -np.inf
        return Stops(exits[0], scores[0]), Stops(exits[1], scores[1], tuple(fitted))


class _Ridge:
    """Ridge regression of several targets on the same samples. x_val, x_test [F, N]."""

    def __init__(self, x_val: np.ndarray, x_test: np.ndarray):
        center, scale = x_val.mean(1, keepdims=True), x_val.std(1, keepdims=True)
        scale[scale < 1e-9] = 1.0
        self.val, self.test = (x_val - center) / scale, (x_test - center) / scale
        self.center, self.scale = center[:, 0], scale[:, 0]
        self.fold = estimates.folds(x_val.shape[1])

    def __call__(self, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, Linear]:
        """E[target | x]: of the val samples by fits on the other folds, of test by one on all.

        And the latter's coefficients.
        """
        crossed = np.empty((len(RIDGES), target.size))
        for k in np.unique(self.fold):
            other = self.fold != k
            crossed[:, ~other] = self._fit(other, target, self.val[:, ~other])
        best = int(np.argmin(((crossed - target) ** 2).sum(1)))
        everything = np.ones(target.size, dtype=bool)
        whole = self._fit(everything, target, self.test)
        # Where all estimates are 0, and where one of them is 1, gives intercept and weights.
        ends = np.concatenate([np.zeros((len(self.scale), 1)), np.eye(len(self.scale))], axis=1)
        at = self._fit(everything, target, (ends - self.center[:, None]) / self.scale[:, None])
        linear = Linear(at[best, 1:] - at[best, 0], at[best, 0])
        return crossed[best], whole[best], linear

    def _fit(self, rows: np.ndarray, target: np.ndarray, x_new: np.ndarray) -> np.ndarray:
        """Predictions for new samples from a fit on `rows`, for each of RIDGES: [L, N']."""
        if not rows.any():  # a single val sample: predict 0, which stops
            return np.zeros((len(RIDGES), x_new.shape[1]))
        x, y = self.val[:, rows], target[rows]
        center, base = x.mean(1, keepdims=True), y.mean()
        x = x - center
        penalty = np.array(RIDGES)[:, None, None] * y.size * np.eye(len(x))
        weights = np.linalg.solve(x @ x.T + penalty, (x @ (y - base))[None, :, None])[..., 0]
        return base + weights @ (x_new - center)
