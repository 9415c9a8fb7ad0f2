"""All rules on the same samples at the same costs, and which differences are more than chance.

Thresholds, post-hoc estimates and the choice of the reference are fitted on val; every number of a
`Comparison` is measured on test. Two stages: local (m) and edge (e).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from deferral import bootstrap, estimates, rules
from deferral.predictions import Predictions
from deferral.risk import accuracy, risk, send_rate, stage_costs
from deferral.risk import costs as pair
from deferral.summary import setting_name

CONFIDENCE = tuple(rules.DOUBTS)


@dataclass(frozen=True)
class Rule:
    """Who a decision is from. kind: limit, confidence, estimates, rejector or oracle."""

    name: str
    label: str
    kind: str
    about: str


KINDS = ("limit", "oracle", "confidence", "estimates", "rejector")  # in the order of a table
FITTED = "the threshold of least risk on val"
LIMITS = {
    "never": Rule("never", "never", "limit", "the local net answers everything"),
    "always": Rule("always", "always", "limit", "the edge answers everything"),
    "oracle": Rule("oracle", "oracle", "oracle", "the cheaper answer of each sample; sees labels"),
}
CONFIDENCES = {
    "max_softmax": Rule(
        "max_softmax", "max softmax", "confidence", f"1 - highest probability of m; {FITTED}"
    ),
    "margin": Rule(
        "margin", "margin", "confidence", f"1 - (highest - second probability of m); {FITTED}"
    ),
    "entropy": Rule("entropy", "entropy", "confidence", f"entropy of m's answer; {FITTED}"),
}
POST_HOC = Rule(
    "post_hoc",
    "post-hoc estimates",
    "estimates",
    "logistic regressions of both nets' being right on m's logits, fitted on val; Bayes rule",
)


@dataclass(frozen=True, eq=False)
class Decision:
    """A rule's answer on the test rows at one pair of costs: REMOTE (1) iff score > threshold."""

    rule: Rule
    stop: np.ndarray  # [Nt] of 0 and 1
    score: np.ndarray | None = None  # [Nt]; None for never, always and oracle
    threshold: float | None = None
    score_val: np.ndarray | None = None  # [Nv]; out of fold where it was fitted on val


@dataclass(frozen=True, eq=False)
class Differences:
    """Risk of each rule minus that of `reference`, each [R, C + 1]; nan where one is not there.

    The last column is the mean over all costs. [low, high] is the bootstrap interval of `level`.
    verdicts[r][c] is "better", "worse", "no difference", or "" where there is no difference.
    """

    reference: str
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    verdicts: list[list[str]]


@dataclass(frozen=True, eq=False)
class Comparison:
    """R rules at C pairs of costs over S runs; arrays are [R, C + 1], the last column the mean.

    risk, reject_rate and accuracy are means over runs of what was measured on test; *_std is their
    standard deviation over runs (ddof 1; nan for one run). A rule that is not there at some costs
    has nan in those columns and in the mean.
    """

    rules: list[Rule]
    costs: list[tuple[float, float]]  # C pairs (c_1, c_e)
    runs: int  # S
    samples: int  # test rows
    risk: np.ndarray
    risk_std: np.ndarray
    reject_rate: np.ndarray
    reject_rate_std: np.ndarray
    accuracy: np.ndarray
    accuracy_std: np.ndarray
    draws: np.ndarray  # [D, R, C + 1]: bootstrap risks
    level: float  # of the intervals, 0.95
    best_confidence: str  # the confidence rule of least mean risk on val: the one to beat

    def against(self, reference: str | None = None) -> Differences:
        """Every rule against one of them (default: best_confidence). ValueError if not there.

        Each interval is of one difference; with many of them some will exclude zero by chance.
        """
        reference = self.best_confidence if reference is None else reference
        names = [rule.name for rule in self.rules]
        if reference not in names:
            raise ValueError(f"rule {reference!r}: there are {', '.join(names)}")
        row = names.index(reference)
        difference = self.risk - self.risk[row]
        low, high = bootstrap.interval(self.draws - self.draws[:, row, None], self.level)
        verdicts = [
            ["" if np.isnan(a) else bootstrap.verdict(a, b) for a, b in zip(*pairs, strict=True)]
            for pairs in zip(low, high, strict=True)
        ]
        return Differences(reference, difference, low, high, verdicts)

    def rows(self, reference: str | None = None) -> list[dict[str, Any]]:
        """One dict a rule and column, in that order, as JSON has them: None for what is not there.

        cost_1 and cost_e are None in the row of the mean over costs.
        """
        against = self.against(reference)
        rows = []
        for r, rule in enumerate(self.rules):
            for c, (cost_1, cost_e) in enumerate([*self.costs, (None, None)]):
                row = {"rule": rule.name, "kind": rule.kind, "cost_1": cost_1, "cost_e": cost_e}
                for name in ("risk", "reject_rate", "accuracy"):
                    row[name] = _plain(getattr(self, name)[r, c])
                    row[f"{name}_std"] = _plain(getattr(self, f"{name}_std")[r, c])
                row["reference"] = against.reference
                for name in ("difference", "low", "high"):
                    row[name] = _plain(getattr(against, name)[r, c])
                row["verdict"] = against.verdicts[r][c] or None
                rows.append(row)
        return rows


def decide(predictions: Predictions, cost_1: float, cost_e: float) -> dict[str, Decision]:
    """What every rule does with the test rows at (c_1, c_e), by name, in this order:

    never, always, oracle; max_softmax, margin, entropy: the local net's doubt against the
    threshold of least risk on val; post_hoc and every estimator of the file, by its name: the Bayes
    rule with the estimates put in, send iff `estimates.bayes_score` > 0; every rejector that was
    trained at exactly these costs: send iff its score > 0. A rejector has the name of its
    surrogate, with ", S = 100" or ", joint" unless S = 1. A name that is taken gets " #2".

    What does not depend on the costs is fitted once a `Predictions`. ValueError unless there are
    2 stages, val and test rows, and costs >= 0.
    """
    return _prepared(predictions).decide(cost_1, cost_e)


def compare(
    runs: Sequence[Predictions],
    costs: Sequence[tuple[float, float]],
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Risk, reject rate and accuracy of every rule at every pair (c_1, c_e), and the bootstrap.

    runs: S predictions of the same test rows (seeds of one experiment). ValueError where test rows
    differ, where a pair of costs is given twice, or as in `decide`. The largest array is what each
    sample costs, float32 [S, N, R (C + 1)].
    """
    costs = [(float(cost_1), float(cost_e)) for cost_1, cost_e in costs]
    if not runs or not costs or len(set(costs)) < len(costs):
        raise ValueError("a comparison needs runs, and costs that are not given twice")
    prepared = [_prepared(run) for run in runs]
    for run, other in zip(runs, prepared, strict=True):
        if not prepared[0].same_test(other):
            raise ValueError(f"{run.source}: has other test rows than {runs[0].source}")
    decisions = [[each.decide(*cost) for cost in costs] for each in prepared]
    found = {name: d.rule for run in decisions for by_name in run for name, d in by_name.items()}
    by_kind = sorted(found.values(), key=lambda rule: KINDS.index(rule.kind))
    paid, sent, right = _measure(prepared, decisions, costs, [rule.name for rule in by_kind])
    spread = {}
    measured = {"risk": paid.mean(1, dtype=np.float64), "reject_rate": sent, "accuracy": right}
    for name, values in measured.items():  # [S, R, C + 1]
        spread[name] = values.mean(0)
        spread[f"{name}_std"] = (
            values.std(0, ddof=1) if len(runs) > 1 else np.full_like(values[0], np.nan)
        )
    means = bootstrap.resample(paid.reshape(*paid.shape[:2], -1), draws, seed)
    return Comparison(
        rules=by_kind,
        costs=costs,
        runs=len(runs),
        samples=paid.shape[1],
        draws=means.reshape(draws, *paid.shape[2:]),
        level=level,
        best_confidence=_best_confidence(prepared, decisions, costs),
        **spread,
    )


def _measure(
    prepared: list["_Prepared"],
    decisions: list[list[dict[str, Decision]]],
    costs: list[tuple[float, float]],
    names: list[str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cost of each sample [S, N, R, C + 1]; reject rate and accuracy, each [S, R, C + 1]."""
    n = len(prepared[0].test_labels)
    paid = np.full((len(prepared), n, len(names), len(costs) + 1), np.nan, dtype=np.float32)
    sent, right = np.full((2, len(prepared), *paid.shape[2:]), np.nan)
    for s, each in enumerate(prepared):
        for c, cost in enumerate(costs):
            local, remote = stage_costs(each.correct_test, *pair(*cost))
            for r, name in enumerate(names):
                if name in decisions[s][c]:
                    stop = decisions[s][c][name].stop
                    paid[s, :, r, c] = np.where(stop > 0, remote, local)
                    sent[s, r, c] = send_rate(stop)
                    right[s, r, c] = accuracy(each.correct_test, stop)
    for values in (paid, sent, right):
        values[..., -1] = values[..., :-1].mean(-1)
    return paid, sent, right


def _best_confidence(
    prepared: list["_Prepared"],
    decisions: list[list[dict[str, Decision]]],
    costs: list[tuple[float, float]],
) -> str:
    """The confidence rule of least risk on val, summed over costs and runs."""
    total = dict.fromkeys(CONFIDENCE, 0.0)
    for each, run in zip(prepared, decisions, strict=True):
        for cost, by_name in zip(costs, run, strict=True):
            for name in CONFIDENCE:
                stop = rules.threshold(by_name[name].score_val, by_name[name].threshold)
                total[name] += risk(each.correct_val, stop, *pair(*cost))
    return min(total, key=total.get)


class _Prepared:
    """What a file's rules need at any costs. Keeps no logits: they are the bulk of a file."""

    def __init__(self, predictions: Predictions):
        if len(predictions.stage_logits) != 2:
            raise ValueError(f"{predictions.source}: needs 2 stages, local and edge")
        val, test = predictions.part("val"), predictions.part("test")
        self.test_labels, self.test_index = test.labels, test.index
        self.correct_val, self.correct_test = val.correct, test.correct
        self.doubts = {
            name: (doubt(val.stage_logits[0]), doubt(test.stage_logits[0]))
            for name, doubt in rules.DOUBTS.items()
        }
        self.estimators = [(POST_HOC, *estimates.post_hoc(val, test))]
        for number, estimator in enumerate(predictions.settings.get("estimators") or []):
            rule = Rule(estimator["name"], estimator["name"], "estimates", estimator["about"])
            self.estimators.append((rule, val.estimates[number], test.estimates[number]))
        settings = predictions.settings["rejectors"]
        self.rejectors = list(zip(settings, val.scores, test.scores, strict=True))

    def same_test(self, other: "_Prepared") -> bool:
        """Whether both have the same test rows, which a paired bootstrap needs."""
        return np.array_equal(self.test_index, other.test_index) and np.array_equal(
            self.test_labels, other.test_labels
        )

    def cut(self, name: str, cost_1: float, cost_e: float) -> float:
        """The threshold of least risk on val of one of CONFIDENCE."""
        return rules.best_threshold(self.doubts[name][0], self.correct_val, *pair(cost_1, cost_e))

    def decide(self, cost_1: float, cost_e: float) -> dict[str, Decision]:
        """As the function `decide`."""
        for name, cost in (("cost_1", cost_1), ("cost_e", cost_e)):
            if not 0 <= cost < math.inf:
                raise ValueError(f"{name} {cost}: a cost must be a number >= 0")
        n = len(self.test_labels)
        limits = {
            "never": rules.never(n),
            "always": rules.always(n),
            "oracle": rules.oracle(self.correct_test, *pair(cost_1, cost_e)),
        }
        made = [Decision(LIMITS[name], stop) for name, stop in limits.items()]
        scored = [
            (CONFIDENCES[name], *self.doubts[name], self.cut(name, cost_1, cost_e))
            for name in CONFIDENCE
        ]
        scored += [
            (rule, *(estimates.bayes_score(both, cost_1, cost_e) for both in parts), 0.0)
            for rule, *parts in self.estimators
        ]
        scored += [
            (_rejector_rule(setting), on_val, on_test, 0.0)
            for setting, on_val, on_test in self.rejectors
            if (setting["cost_1"], setting["cost_e"]) == (cost_1, cost_e)
        ]
        made += [
            Decision(rule, rules.threshold(on_test, t), on_test, t, on_val)
            for rule, on_val, on_test, t in scored
        ]
        named: dict[str, Decision] = {}
        for decision in made:
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


# Fits are kept as long as the predictions they are of: a report asks for many costs of one file.
_PREPARED: WeakKeyDictionary[Predictions, _Prepared] = WeakKeyDictionary()


def _prepared(predictions: Predictions) -> _Prepared:
    if predictions not in _PREPARED:
        _PREPARED[predictions] = _Prepared(predictions)
    return _PREPARED[predictions]


def _rejector_rule(setting: dict[str, Any]) -> Rule:
    surrogate, every = setting["surrogate"], setting["async_freq"]
    suffix = "" if every == 1 else f", {setting_name(every)}"
    about = f"a rejector trained on the {surrogate} loss at these costs{suffix}"
    about = str(setting.get("about", about))
    return Rule(surrogate + suffix, surrogate.replace("_", " ") + suffix, "rejector", about)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
