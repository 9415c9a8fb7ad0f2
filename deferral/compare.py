"""All rules on the same samples at the same costs, and which differences are significant.

Thresholds, post-hoc estimates and the choice of the reference are fitted on val; every number of a
`Comparison` is measured on test. Either two stages, local (m) and edge (e); or a device with exits
and a server, where the local answer is that of the exit at which a rule stops.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deferral import bootstrap
from deferral.catalogue import KINDS, Rule
from deferral.decide import Decision, Prepared, confidence_rule, prepared, scored
from deferral.predictions import Predictions
from deferral.risk import Pair, accuracy, at_stop, send_rate, stage_costs


@dataclass(frozen=True, eq=False)
class Differences:
    """Risk of each rule minus that of `reference`, each [R, C + 1]; nan where one is missing.

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
    standard deviation over runs (ddof 1; nan for one run). A rule that does not exist at some costs
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
    best_confidence: str  # the confidence rule of least mean risk on val: the one to beat; where
    # there is none, the better one of never and always

    def against(self, reference: str | None = None) -> Differences:
        """Every rule against one of them (default: best_confidence). ValueError for another name.

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
        """A dict per rule and column, in that order, with plain values for JSON: None for nan.

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


def compare(
    runs: Sequence[Predictions],
    costs: Sequence[tuple[float, float]],
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Risk, reject rate and accuracy of every rule at every pair (c_1, c_e), and the bootstrap.

    runs: S predictions of the same test rows (seeds of one experiment). ValueError where test rows
    or what the exits cost differ, where a pair of costs is given twice, or as in `decide`. The
    largest array holds the cost of each sample, float32 [S, N, R (C + 1)].
    """
    costs = [(float(cost_1), float(cost_e)) for cost_1, cost_e in costs]
    if not runs or not costs or len(set(costs)) < len(costs):
        raise ValueError("a comparison needs runs, and costs that are not given twice")
    fits = [prepared(run) for run in runs]
    for run, other in zip(runs, fits, strict=True):
        same = [
            np.array_equal(getattr(fits[0], rows), getattr(other, rows))
            for rows in ("test_index", "test_labels")
        ]
        if not all(same):
            raise ValueError(f"{run.source}: has other test rows than {runs[0].source}")
        prices = [fit.price(1.0, 1.0)[0] for fit in (fits[0], other)]
        if not np.array_equal(prices[0], prices[1]):
            raise ValueError(f"{run.source}: has exits of other costs than {runs[0].source}")
    rules: dict[str, Rule] = {}
    stages: list[list[dict[str, np.ndarray]]] = [[] for _ in fits]
    names = [name for name in fits[0].doubts if confidence_rule(name).kind == "confidence"]
    val_risk = dict.fromkeys(names or ("never", "always"), 0.0)
    for of_run, fit in zip(stages, fits, strict=True):
        for cost in costs:  # decisions of many costs at once would not fit in memory
            decisions = fit.decide(*cost)
            rules |= {name: decision.rule for name, decision in decisions.items()}
            of_run.append({name: fit.stage(d).astype(np.int8) for name, d in decisions.items()})
            _add_val_risk(val_risk, fit, decisions, cost)
    ordered = sorted(rules.values(), key=lambda rule: KINDS.index(rule.kind))
    paid, sent, right = _measure(fits, stages, costs, [rule.name for rule in ordered])
    spread = {}
    measured = {"risk": paid.mean(1, dtype=np.float64), "reject_rate": sent, "accuracy": right}
    for name, values in measured.items():  # [S, R, C + 1]
        spread[name] = values.mean(0)
        spread[f"{name}_std"] = (
            values.std(0, ddof=1) if len(runs) > 1 else np.full_like(values[0], np.nan)
        )
    columns = paid.reshape(*paid.shape[:2], -1)
    means = bootstrap.resample(columns, draws, seed, fits[0].group)
    return Comparison(
        rules=ordered,
        costs=costs,
        runs=len(runs),
        samples=paid.shape[1],
        draws=means.reshape(draws, *paid.shape[2:]),
        level=level,
        best_confidence=min(val_risk, key=lambda name: val_risk[name]),
        **spread,
    )


def _measure(
    fits: list[Prepared],
    stages: list[list[dict[str, np.ndarray]]],
    costs: list[tuple[float, float]],
    names: list[str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cost of each sample [S, N, R, C + 1]; reject rate and accuracy, each [S, R, C + 1].

    stages: of each run and pair of costs, by rule, which stage answers, [N].
    """
    n = len(fits[0].test_labels)
    paid = np.full((len(fits), n, len(names), len(costs) + 1), np.nan, dtype=np.float32)
    sent, right = np.full((2, len(fits), *paid.shape[2:]), np.nan)
    for s, fit in enumerate(fits):
        for c, cost in enumerate(costs):
            price = stage_costs(fit.correct_test, *fit.price(*cost))
            for r, name in enumerate(names):
                if name in stages[s][c]:
                    stage = stages[s][c][name]
                    paid[s, :, r, c] = at_stop(price, stage)
                    sent[s, r, c] = send_rate(stage > fit.last)
                    right[s, r, c] = accuracy(fit.correct_test, stage)
    for values in (paid, sent, right):
        values[..., -1] = values[..., :-1].mean(-1)
    return paid, sent, right


def _add_val_risk(
    total: dict[str, float], fit: Prepared, decisions: dict[str, Decision], cost: Pair
) -> None:
    """Add the risk on val of each rule in `total`: confidence rules, or never and always."""
    alone = stage_costs(fit.correct_val, *fit.val_price(*cost)).mean(1)
    by_name = scored(decisions)
    for name in total:
        if name in by_name:
            total[name] += fit.val_risk(by_name[name], *cost)
        else:
            total[name] += float(alone[-2 if name == "never" else -1])


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
