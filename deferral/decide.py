"""The decisions of every rule on the test rows of a file, at one pair of costs.

Either two stages, local (m) and edge (e); or a device with exits 1..E and a server: then a rule
decides at which exit a sample stops, and may send a sample that reaches the last one without
stopping. Thresholds and estimates are fitted on val.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from deferral import ceiling, estimates, rules, stages
from deferral.catalogue import DOUBTS, RULES, Rule
from deferral.predictions import Predictions
from deferral.risk import Costs, Pair, costs, risk
from deferral.stopping import Stopping
from deferral.summary import setting_name

RECENT = 4  # pairs of costs whose decisions are cached, some MB each


@dataclass(frozen=True, eq=False)
class Decision:
    """What a rule does with the test rows at one pair of costs.

    A sample that is not sent is answered by the exit at which it stops, 0 where there is but one.
    """

    rule: Rule
    stop: np.ndarray  # [Nt] of 0 (kept) and 1 (sent)
    exit: np.ndarray  # [Nt] in 0..E-1


@dataclass(frozen=True, eq=False)
class ScoredDecision(Decision):
    """A decision by a score at the last exit: send iff score > threshold.

    Samples that stop before the last exit have score -inf: they are never sent. Never, always,
    oracle and the rules of single exits have no score.
    """

    score: np.ndarray  # [Nt]
    threshold: float
    score_val: np.ndarray  # [Nv]; out of fold where the score was fitted on val
    exit_val: np.ndarray  # [Nv]; out of fold likewise
    exit_thresholds: tuple[float, ...] = ()  # [E - 1]: stop at exit k iff its doubt is <= this


def decide(predictions: Predictions, cost_1: float, cost_e: float) -> dict[str, Decision]:
    """The decision of every rule on the test rows at (c_1, c_e), by name, in this order:

    never, always, oracle; `ceiling.both_right` of two stages whose logits are in the file, which
    like the oracle has no score; the confidence rules of deferral/catalogue.py: the local net's
    doubt against the threshold of least risk on val; post_hoc and every estimator of the file, by
    its name: the Bayes rule with the estimates put in, send iff `estimates.bayes_score` > 0; every
    rejector that was trained at exactly these costs: send iff its score > 0. A rejector has the
    name of its surrogate, with ", S = 100" or ", joint" unless S = 1. A second rule of one name
    gets " #2".

    With exits, costs being those of `stages.device_costs` too: never is the last exit alone, and
    "exit 1" to "exit E-1", after always, are the others alone; a confidence rule stops at an exit
    iff the doubt there is no more than its threshold (`stages.fit_thresholds`), and "exits only"
    does the same with max softmax and never asks; "optimum" (`stopping.Stopping`) replaces
    post_hoc. Estimators and rejectors decide at the last exit whether to ask; earlier exits have
    thresholds on max softmax, fitted on val with that decision given.

    Fits that do not depend on the costs are made once per `Predictions`. ValueError unless there
    are 2 stages, or exits and a server, val and test rows, and costs >= 0.
    """
    return prepared(predictions).decide(cost_1, cost_e)


def scored(decisions: dict[str, Decision]) -> dict[str, ScoredDecision]:
    """The decisions that go by a score."""
    return {name: d for name, d in decisions.items() if isinstance(d, ScoredDecision)}


def answered_by(part: Predictions, exit: np.ndarray) -> Predictions:
    """Rows of a device with exits as of two stages: the logits of `exit` [N], and the server's."""
    logits, rows = part.stage_logits, np.arange(len(exit))
    if len(logits) == 2:
        return part

    def both(values: np.ndarray) -> np.ndarray:
        return np.stack([values[exit, rows], values[-1]])

    own = part.own and replace(part.own, quality=both(part.own.quality))
    return replace(part, stage_logits=both(logits), own=own)


class Prepared:
    """What a file's rules need at any costs. Keeps no logits, which are the bulk of a file."""

    def __init__(self, predictions: Predictions):
        self.device = stages.device_costs(predictions)
        val, test = predictions.part("val"), predictions.part("test")
        self.test_labels, self.test_index = test.labels, test.index
        self.correct_val, self.correct_test = val.correct, test.correct
        self.last = len(self.device) - 1
        self.paid_val, self.paid_test = _paid(val), _paid(test)
        # A model alone costs less than in a cascade; an exit needs all that is computed before it.
        own, settings = predictions.own, predictions.settings
        paid = own is not None and own.paid is not None
        self.cascade = paid and settings.get("pay") == "cascade" and not settings.get("exits")
        self.group = None if test.own is None else test.own.group
        on_val, on_test = _doubts(val), _doubts(test)
        self.doubts = {name: (on_val[name], on_test[name]) for name in on_val}
        self.order = {name: stages.falling_order(doubt) for name, doubt in on_val.items()}
        # The doubt whose thresholds earlier exits have under rules of the last one.
        self.first = "max_softmax" if "max_softmax" in on_val else next(iter(on_val), "")
        self.without_last = RULES["exits only"]
        if own is not None and self.first:
            about = f"the last model is never asked; {confidence_rule(self.first).about}; the "
            about += "thresholds of least risk on val, one a model"
            self.without_last = replace(
                self.without_last, label="last model never asked", about=about
            )
        fitted = val.own is None or len(val.own.signals) > 0
        self.stopping = Stopping(val, test) if fitted else None
        self.ceiling = ceiling.both_right(val, test) if ceiling.is_known(val) else None
        self.estimators: list[tuple[Rule, np.ndarray, np.ndarray]] = []
        if val.estimates is not None and test.estimates is not None:
            for setting, *estimated in zip(
                predictions.settings["estimators"], val.estimates, test.estimates, strict=True
            ):
                rule = Rule(setting["name"], setting["name"], "estimates", setting["about"])
                self.estimators.append((rule, *estimated))
        settings = predictions.settings["rejectors"]
        self.rejectors = list(zip(settings, val.scores, test.scores, strict=True))
        self.recent: dict[Pair, dict[str, Decision]] = {}

    def price(self, cost_1: float, cost_e: float) -> Costs:
        """query_cost and error_cost of the test rows, [E + 1] each; or of each row, [E + 1, Nt]."""
        return self._price(cost_1, cost_e, self.paid_test)

    def val_price(self, cost_1: float, cost_e: float) -> Costs:
        """The same of the val rows."""
        return self._price(cost_1, cost_e, self.paid_val)

    def _price(self, cost_1: float, cost_e: float, paid: np.ndarray | None) -> Costs:
        query, error = costs(cost_1, cost_e, self.device)
        return (query, error) if paid is None else (cost_e * paid, error)

    def stage(self, decision: Decision) -> np.ndarray:
        """Which of all stages answers each test sample, [Nt] in 0..E, E being the server."""
        return np.where(decision.stop > 0, self.last + 1, decision.exit)

    def as_two(self, decision: Decision, cost_1: float, cost_e: float) -> tuple[np.ndarray, Costs]:
        """`stages.as_two` of the test rows: correct [2, N], and query_cost and error_cost."""
        return stages.as_two(self.correct_test, decision.exit, *self.price(cost_1, cost_e))

    def val_as_two(
        self, decision: ScoredDecision, cost_1: float, cost_e: float
    ) -> tuple[np.ndarray, Costs]:
        """The same of the val rows."""
        return stages.as_two(self.correct_val, decision.exit_val, *self.val_price(cost_1, cost_e))

    def val_risk(self, decision: ScoredDecision, cost_1: float, cost_e: float) -> float:
        """Risk on val under the decision's own threshold: what a choice among rules goes by."""
        correct, price = self.val_as_two(decision, cost_1, cost_e)
        return risk(correct, rules.threshold(decision.score_val, decision.threshold), *price)

    def decide(self, cost_1: float, cost_e: float) -> dict[str, Decision]:
        """As the function `decide`. The last RECENT are kept: a report asks for some many times."""
        if (cost_1, cost_e) not in self.recent:
            while len(self.recent) >= RECENT:
                del self.recent[next(iter(self.recent))]
            self.recent[cost_1, cost_e] = self._decide(cost_1, cost_e)
        return dict(self.recent[cost_1, cost_e])

    def _decide(self, cost_1: float, cost_e: float) -> dict[str, Decision]:
        for name, cost in (("cost_1", cost_1), ("cost_e", cost_e)):
            if not 0 <= cost < math.inf:
                raise ValueError(f"{name} {cost}: a cost must be a number >= 0")
        price = self.val_price(cost_1, cost_e)
        decisions = self._limits((cost_1, cost_e))
        decisions += [self._confidence(confidence_rule(name), price) for name in self.doubts]
        if self.last and self.doubts:
            decisions.append(self._exits_only(price))
        if self.stopping:
            rule = RULES["optimum" if self.last else "post_hoc"]
            decisions.append(self._optimum(rule, self.stopping, price))
        for rule, on_val, on_test in self.estimators:
            score_val = estimates.bayes_score(on_val, cost_1, cost_e)
            score = estimates.bayes_score(on_test, cost_1, cost_e)
            decisions.append(self._by_score(rule, score_val, score, price))
        for setting, on_val, on_test in self.rejectors:
            if trained_for(setting, (cost_1, cost_e)):
                decisions.append(self._by_score(_rejector_rule(setting), on_val, on_test, price))
        return _by_name(decisions)

    def _limits(self, pair: Pair) -> list[Decision]:
        """Each stage alone, the oracle, and the ceiling where there is one."""
        n, last = len(self.test_labels), self.last
        at_last = np.full(n, last, dtype=np.int64)
        alone = [
            Decision(
                Rule(f"exit {k + 1}", f"exit {k + 1}", "limit", f"exit {k + 1} answers everything"),
                rules.never(n),
                np.full(n, k, dtype=np.int64),
            )
            for k in range(last)
        ]
        cheapest = rules.oracle(self.correct_test, *self.price(*pair))
        limits = [
            Decision(self._limit("never"), rules.never(n), at_last),
            Decision(self._limit("always"), rules.always(n), at_last),
            *alone,
            Decision(
                self._limit("oracle"),
                (cheapest > last).astype(np.int64),
                np.minimum(cheapest, last),
            ),
        ]
        if self.ceiling is not None:
            send = rules.threshold(estimates.bayes_score(self.ceiling, *pair), 0.0)
            limits.append(Decision(RULES["ceiling"], send, at_last))
        return limits

    def _limit(self, name: str) -> Rule:
        rule = RULES[name]
        return replace(rule, about=rule.with_exits) if self.last else rule

    def _confidence(self, rule: Rule, price: Costs) -> Decision:
        fitted = "at each exit; the thresholds of least risk on val, one an exit"
        if not self.last:
            fitted = "of the local net; the threshold of least risk on val"
        rule = replace(rule, about=f"{rule.about} {fitted}")
        on_val, on_test = self.doubts[rule.name]
        order = self.order[rule.name]
        thresholds = stages.fit_thresholds(on_val, self.correct_val, *price, order=order)
        exits = [stages.leave(doubt[:-1], thresholds[:-1]) for doubt in (on_val, on_test)]
        t = float(thresholds[-1])
        return self._decision(rule, on_val[-1], on_test[-1], t, exits, thresholds[:-1])

    def _exits_only(self, price: Costs) -> Decision:
        """The thresholds of `_before` if nothing is sent."""
        (_, on_test), _ = self._before(np.zeros(self.correct_val.shape[1], dtype=bool), price)
        return Decision(self.without_last, rules.never(len(on_test)), on_test)

    def _optimum(self, rule: Rule, stopping: Stopping, price: Costs) -> Decision:
        on_val, on_test = stopping.decide(*price)
        exits = [on_val.exit, on_test.exit]
        return self._decision(rule, on_val.score, on_test.score, 0.0, exits, ())

    def _by_score(
        self, rule: Rule, on_val: np.ndarray, on_test: np.ndarray, price: Costs
    ) -> Decision:
        """A rule with a score at the last exit: send iff it is > 0."""
        exits, thresholds = self._before(rules.threshold(on_val, 0.0), price)
        return self._decision(rule, on_val, on_test, 0.0, exits, thresholds)

    def _before(self, send: np.ndarray, price: Costs) -> tuple[list[np.ndarray], np.ndarray]:
        """Exits [Nv] and [Nt] by max softmax, given which val samples the last exit sends, [Nv]."""
        if not self.last:
            sizes = self.correct_val.shape[1], self.correct_test.shape[1]
            return [np.zeros(n, dtype=np.int64) for n in sizes], np.empty(0)
        on_val, on_test = (doubt[:-1] for doubt in self.doubts[self.first])
        order = self.order[self.first][:-1]
        thresholds = stages.fit_thresholds(on_val, self.correct_val, *price, send, order)
        return [stages.leave(doubt, thresholds) for doubt in (on_val, on_test)], thresholds

    def _decision(
        self,
        rule: Rule,
        on_val: np.ndarray,
        on_test: np.ndarray,
        t: float,
        exits: list[np.ndarray],
        before: Sequence[float] | np.ndarray,
    ) -> ScoredDecision:
        exit_val, exit = exits
        if self.last:
            on_val = np.where(exit_val == self.last, on_val, -np.inf)
            on_test = np.where(exit == self.last, on_test, -np.inf)
        return ScoredDecision(
            rule,
            rules.threshold(on_test, t),
            exit,
            on_test,
            t,
            on_val,
            exit_val,
            tuple(map(float, before)),
        )


def trained_for(setting: dict[str, Any], cost: Pair) -> bool:
    """Whether a rejector stands at these costs: trained for them, or a file's that knows none."""
    return bool(setting.get("any_cost")) or (setting["cost_1"], setting["cost_e"]) == cost


def confidence_rule(name: str) -> Rule:
    """The catalogue's rule, or that of a router's score in a file of answers."""
    if name in RULES:
        return RULES[name]
    about = f"the file's score {name.removesuffix(', fitted')}"
    return Rule(name, name, "rejector", about)


def _doubts(part: Predictions) -> dict[str, np.ndarray]:
    """By rule, how unsure each stage but the last is: [E, N], higher is less sure."""
    if part.own is not None:
        return part.own.doubts
    exits = part.stage_logits[:-1]
    return {name: np.stack([doubt(logits) for logits in exits]) for name, doubt in DOUBTS.items()}


def _paid(part: Predictions) -> np.ndarray | None:
    return None if part.own is None else part.own.paid


# A report asks for many costs of one file, so fits are kept as long as the predictions.
_PREPARED: WeakKeyDictionary[Predictions, Prepared] = WeakKeyDictionary()


def prepared(predictions: Predictions) -> Prepared:
    """The fits of a file, computed once per `Predictions`."""
    if predictions not in _PREPARED:
        _PREPARED[predictions] = Prepared(predictions)
    return _PREPARED[predictions]


def _by_name(decisions: Sequence[Decision]) -> dict[str, Decision]:
    """A second rule of the same name gets " #2"."""
    named: dict[str, Decision] = {}
    for decision in decisions:
        rule, number = decision.rule, 2
        while rule.name in named:
            rule = replace(
                decision.rule,
                name=f"{decision.rule.name} #{number}",
                label=f"{decision.rule.label} #{number}",
            )
            number += 1
        named[rule.name] = replace(decision, rule=rule)
    return named


def _rejector_rule(setting: dict[str, Any]) -> Rule:
    surrogate, async_freq = setting["surrogate"], setting["async_freq"]
    suffix = "" if async_freq == 1 else f", {setting_name(async_freq)}"
    about = f"a rejector trained on the {surrogate} loss at these costs{suffix}"
    about = str(setting.get("about", about))
    return Rule(surrogate + suffix, surrogate.replace("_", " ") + suffix, "rejector", about)
