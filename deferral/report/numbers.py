"""Every number of a report, as one dict of plain values: what the page shows and the JSON holds.

Runs differ in their seeds alone: the same test rows, in the same order. Thresholds and the choice
of the rule shown are made on val, everything else is measured on test. None stands for a missing or
undefined value.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deferral import curves, per_class
from deferral.bootstrap import interval
from deferral.catalogue import RULES, Rule
from deferral.compare import Comparison, compare
from deferral.decide import answered_by, decide, prepared, scored, trained_for
from deferral.predictions import Predictions
from deferral.risk import Pair, accuracy, random_risk, risk, send_rate

HEAT_CLASSES = 20  # with more, a confusion is a list of the CONFUSIONS most frequent errors
CONFUSIONS = 12
STEPS = 100  # a drawn curve has a point at every 1 / STEPS of the reject rate
BINS = 10  # of the reliability diagram, equally many samples each


@dataclass(frozen=True)
class Options:
    """The bootstrap's draws and their seed, the level of its intervals, and what to promise."""

    draws: int = 1000
    seed: int = 0
    level: float = 0.95
    delta: float = 0.05  # the probability with which a promise may be broken
    max_reject_rate: float | None = None


def at_costs(runs: Sequence[Predictions], cost: Pair, options: Options) -> dict[str, Any]:
    """A row for each rule at one pair (c_1, c_e), and the best confidence rule, the reference.

    Here as everywhere, a rule that some run lacks is left out.
    """
    comparison = compare(runs, [cost], options.draws, options.seed, options.level)
    decisions = [decide(run, *cost) for run in runs]
    rows = [row for row in _rows(comparison, 0, runs[0]) if row["risk"] is not None]
    for row in rows:
        by_chance = []
        for run, decided in zip(runs, decisions, strict=True):
            decision = decided[row["name"]]
            correct, price = prepared(run).as_two(decision, *cost)
            by_chance.append(random_risk(correct, send_rate(decision.stop), *price))
        row["random_risk"] = float(np.mean(by_chance))
    return {
        "cost_1": cost[0],
        "cost_e": cost[1],
        "best_confidence": comparison.best_confidence,
        "rules": rows,
    }


def over_grid(runs: Sequence[Predictions], grid: list[Pair], options: Options) -> dict[str, Any]:
    """Risk of every rule at every pair of costs, and on the mean over all of them.

    A rule that does not exist at some of the costs has None there, and no mean.
    """
    comparison = compare(runs, grid, options.draws, options.seed, options.level)
    rows, against = _rows(comparison, len(grid), runs[0]), comparison.against()
    at_each = {
        "risk_at": comparison.risk,
        "risk_std_at": comparison.risk_std,
        "reject_rate_at": comparison.reject_rate,
        "accuracy_at": comparison.accuracy,
        "difference_at": against.difference,
        "difference_low_at": against.low,
        "difference_high_at": against.high,
    }
    for r, row in enumerate(rows):
        row |= {key: plain(values[r, :-1]) for key, values in at_each.items()}
    return {
        "costs": [{"cost_1": c1, "cost_e": ce} for c1, ce in grid],
        "best_confidence": comparison.best_confidence,
        "rules": rows,
    }


def _rows(comparison: Comparison, column: int, run: Predictions) -> list[dict[str, Any]]:
    """One column of a comparison as a row a rule, with the bootstrap interval of its risk.

    Adds what the settings of `run` say about the file's own rules (at the first of the costs).
    """
    own_rules = own_settings(run, comparison.costs[0])
    low, high = interval(comparison.draws[:, :, column], comparison.level)
    against = comparison.against()
    rows = []
    for r, rule in enumerate(comparison.rules):
        row = {k: getattr(rule, k) for k in ("name", "label", "kind", "about")}
        setting = own_rules.get(rule.name, {})
        row |= {key: setting.get(key) for key in ("parameters", "multiply_adds")}
        for key in ("risk", "reject_rate", "accuracy"):
            row[key] = plain(getattr(comparison, key)[r, column])
            row[f"{key}_std"] = plain(getattr(comparison, f"{key}_std")[r, column])
        row |= {"risk_low": plain(low[r]), "risk_high": plain(high[r])}
        row |= {
            "difference": plain(against.difference[r, column]),
            "difference_low": plain(against.low[r, column]),
            "difference_high": plain(against.high[r, column]),
            "difference_verdict": against.verdicts[r][column] or None,
        }
        rows.append(row)
    return rows


def own_settings(run: Predictions, cost: Pair) -> dict[str, dict[str, Any]]:
    """Settings of the file's own rules at these costs, by `decide`'s names.

    Rejectors trained for them, and estimators; all send iff their score is > 0.
    """
    decided = decide(run, *cost)
    rejectors = [s for s in run.settings["rejectors"] if trained_for(s, cost)]
    estimators = run.settings.get("estimators") or []

    def names(kind: str) -> list[str]:
        fitted = prepared(run).doubts  # a router's score with a threshold fitted on val
        return [n for n, d in decided.items() if d.rule.kind == kind and n not in fitted]

    # `decide` keeps the order of the file, after estimates of its own.
    return dict(zip(names("rejector"), rejectors, strict=True)) | dict(
        zip(names("estimates")[1:], estimators, strict=True)
    )


def shown_rule(runs: Sequence[Predictions], cost: Pair, best_confidence: str) -> str:
    """The file's own rule of least mean val risk; `best_confidence` where there is none."""
    risks: dict[str, list[float]] = {}
    for run in runs:
        decided = scored(decide(run, *cost))
        for name in own_settings(run, cost):
            paid = prepared(run).val_risk(decided[name], *cost)
            risks.setdefault(name, []).append(paid)
    means = {name: np.mean(paid) for name, paid in risks.items() if len(paid) == len(runs)}
    return min(means, key=lambda name: means[name]) if means else best_confidence


def curve_numbers(runs: Sequence[Predictions], cost: Pair) -> dict[str, Any]:
    """Accuracy and risk against reject rate, mean over runs, of every rule that has a score.

    `rules`: name, label, kind, accuracy and risk [STEPS + 1] at `rates`, accuracy_at and its _std
    [9] at `sent`, normalised_area and error_area (both with _std), and aurc and augrc of the local
    net alone. `oracle` and `random` have the first of these. With exits, where every rule has a
    device of its own, there are no curves of these two, and no areas of the local net.
    """
    grid = np.arange(STEPS + 1) / STEPS
    per_rule: dict[str, list[dict[str, Any]]] = {}
    limits: dict[str, list[dict[str, Any]]] = {}
    by_name: dict[str, Rule] = {}
    for run in runs:
        fit, decided = prepared(run), decide(run, *cost)
        if not fit.last:
            correct, price = fit.as_two(decided["never"], *cost)
            best = curves.oracle_curve(correct, *price)
            ends = curves.Curve(*(x[[0, -1]] for x in (best.rate, best.accuracy, best.risk)))
            limits.setdefault("random", []).append(_one_curve(ends, best, grid))
            limits.setdefault("oracle", []).append(_one_curve(best, best, grid))
        for name, decision in scored(decided).items():
            by_name[name] = decision.rule
            correct, price = fit.as_two(decision, *cost)
            if fit.last:  # the most accurate stages, whatever they cost
                best = curves.oracle_curve(correct, np.zeros(2), np.ones(2))
            drawn = curves.deferral_curve(decision.score, correct, *price)
            one = _one_curve(drawn, best, grid)
            if not fit.last:
                one["aurc"] = curves.aurc(decision.score, 1.0 - correct[0])
                one["augrc"] = curves.augrc(decision.score, 1.0 - correct[0])
            one["own_rate"] = send_rate(decision.stop)
            one["own_accuracy"] = accuracy(correct, decision.stop)
            one["own_risk"] = risk(correct, decision.stop, *price)
            per_rule.setdefault(name, []).append(one)
    rows = [
        {"name": name, "label": by_name[name].label, "kind": by_name[name].kind}
        | _over_runs(per_run)
        for name, per_run in per_rule.items()
        if len(per_run) == len(runs)
    ]
    rows += [
        {"name": name, "label": RULES[name].label, "kind": "limit"} | _over_runs(per_run)
        for name, per_run in limits.items()
    ]
    return {"rates": plain(grid), "sent": list(curves.RATES), "rules": rows}


def _over_runs(per_run: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of every key, and the standard deviation of those that are not whole curves."""
    over_runs = spread({key: np.array([one[key] for one in per_run]) for key in per_run[0]})
    return {key: x for key, x in over_runs.items() if key not in ("accuracy_std", "risk_std")}


def _one_curve(curve: curves.Curve, oracle: curves.Curve, grid: np.ndarray) -> dict[str, Any]:
    return {
        "accuracy": curves.accuracy_at(curve, grid),
        "risk": curves.risk_at(curve, grid),
        "accuracy_at": curves.accuracy_at(curve),
        "normalised_area": curves.normalised_area(curve, oracle),
        "error_area": curves.error_area(curve),
    }


def reliability(runs: Sequence[Predictions]) -> list[dict[str, Any]]:
    """Calibration of the estimated probabilities on the test rows of all runs together.

    A dict an estimator (post_hoc first, or optimum) and net: name, net ("local" or "remote", the
    last exit or the server), estimated and observed [BINS], calibration_error (mean distance of the
    two over bins of equally many samples) and brier (mean squared distance to 0 and 1).
    """
    pooled: dict[str, list[np.ndarray]] = {}
    right = np.concatenate([prepared(run).correct_test[-2:] for run in runs], axis=1)
    for run in runs:
        fits = prepared(run)
        if fits.stopping:
            name = "optimum" if fits.last else "post_hoc"
            pooled.setdefault(name, []).append(fits.stopping.estimated[-1][1])
        for rule, _, on_test in fits.estimators:
            pooled.setdefault(rule.name, []).append(on_test)
    rows = []
    for name, parts in pooled.items():
        if len(parts) < len(runs):
            continue
        values = np.concatenate(parts, axis=1)
        for net, p, outcome in zip(("local", "remote"), values, right, strict=True):
            bins = np.array_split(np.argsort(p, kind="stable"), min(BINS, len(p)))
            estimated = np.array([p[bin].mean() for bin in bins])
            observed = np.array([outcome[bin].mean() for bin in bins])
            share = np.array([len(bin) / len(p) for bin in bins])
            rows.append(
                {
                    "name": name,
                    "net": net,
                    "estimated": plain(estimated),
                    "observed": plain(observed),
                    "calibration_error": float((share * np.abs(estimated - observed)).sum()),
                    "brier": float(np.mean((p - outcome) ** 2)),
                }
            )
    return rows


def classes(runs: Sequence[Predictions], cost: Pair, name: str) -> dict[str, Any] | None:
    """Reject rates by class, and confusions, under one rule: counts of all runs together.

    confusion_kept and confusion_sent: [K, K], true class x answer; None above HEAT_CLASSES classes,
    where errors_kept and errors_sent are the most frequent errors: (true class, answer, count).
    None where the runs do not say which classes were answered.
    """
    if not all(run.stage_logits.shape[-1] for run in runs):
        return None
    names = [str(c) for c in runs[0].settings["classes"]]
    groups, answered = [], []
    for run in runs:
        decision = decide(run, *cost)[name]
        test, stop = answered_by(run.part("test"), decision.exit), decision.stop
        _, price = prepared(run).as_two(decision, *cost)
        groups.append(per_class.per_class(test.labels, test.correct, stop, len(names), price))
        answered.append((test, stop))
    keys = ("total", "sent", "local_correct", "edge_correct", "cascade_correct", "cost")
    total = per_class.Groups(**{k: sum(getattr(g, k) for g in groups) for k in keys})
    seen = runs[0].settings.get("local_classes")
    rows = []
    for k, label in enumerate(names):
        row = {"class": label, "seen": None if seen is None else k in seen}
        row |= {key: plain(getattr(total, key)[k]) for key in ("total", "sent")}
        for key in ("reject_rate", "local_accuracy", "edge_accuracy", "accuracy", "risk"):
            row[key] = plain(getattr(total, key)[k])
        rows.append(row)
    found: dict[str, Any] = {"rule": name, "classes": rows}
    kept = sent = None
    if len(names) <= HEAT_CLASSES:
        both = [per_class.kept_and_sent(test, stop) for test, stop in answered]
        kept, sent = (plain(np.sum(side, axis=0)) for side in zip(*both, strict=True))
    else:
        for stage, side in enumerate(("kept", "sent")):
            found[f"errors_{side}"] = _frequent_errors(names, answered, stage)
    return found | {"confusion_kept": kept, "confusion_sent": sent}


def _frequent_errors(
    names: Sequence[str], answered: Sequence[tuple[Predictions, np.ndarray]], stage: int
) -> list[tuple[str, str, int]]:
    """The CONFUSIONS most frequent errors of one stage of two, over (test rows, stop) of runs."""
    pairs = []
    for test, stop in answered:
        answer = test.stage_logits[stage].argmax(-1)
        rows = (stop == stage) & (answer != test.labels)
        pairs.append(test.labels[rows] * len(names) + answer[rows])
    codes, counts = np.unique(np.concatenate(pairs), return_counts=True)
    most = np.argsort(-counts, kind="stable")[:CONFUSIONS]
    return [
        (names[codes[k] // len(names)], names[codes[k] % len(names)], int(counts[k])) for k in most
    ]


def exit_numbers(runs: Sequence[Predictions], cost: Pair, names: Sequence[str]) -> dict[str, Any]:
    """Cost and accuracy of the exits, and the stops of the rules in `names`, on test.

    stages: a row an exit, and the server's last: exit (None: the server), multiply_adds and cost
    (in local errors, up to there; the server's with c_e), accuracy with its _std. rules: name,
    shares [E] of the samples that each exit answers, sent, and multiply_adds of the device a sample
    (all of it for samples that are sent): means over runs, with their _std. Empty for a device with
    a single exit.
    """
    first = prepared(runs[0])
    if not first.last:
        return {}
    adds = np.array(runs[0].settings.get("multiply_adds", np.zeros(first.last + 1)), dtype=float)
    names_of = runs[0].settings.get("models")
    right = np.array([prepared(run).correct_test.mean(1) for run in runs])
    query = np.reshape(first.price(*cost)[0].T, (-1, first.last + 2)).mean(0)
    stages = [
        {
            "name": names_of[k] if names_of else "server" if k > first.last else f"exit {k + 1}",
            "exit": k + 1 if k <= first.last else None,
            "multiply_adds": int(adds[k]) if k <= first.last else None,
            "cost": float(query[k]),
            **spread({"accuracy": right[:, k]}),
        }
        for k in range(len(query))
    ]
    rows = []
    for name in names:
        stops = [prepared(run).stage(decide(run, *cost)[name]) for run in runs]
        shares = np.array([np.bincount(stop, minlength=len(query)) / len(stop) for stop in stops])
        spent = shares @ np.append(adds, adds[-1])
        measured = {"shares": shares[:, :-1], "sent": shares[:, -1], "multiply_adds": spent}
        rows.append({"name": name} | spread(measured))
    flops = float(runs[0].settings.get("cost_flops", 0))
    return {"cost_flops": flops, "stages": stages, "rules": rows}


def spread(measured: dict[str, np.ndarray]) -> dict[str, Any]:
    """Mean over runs of each, [S, ...], and its standard deviation (n - 1), None of one run."""
    over_runs: dict[str, Any] = {}
    for key, values in measured.items():
        over_runs[key] = plain(values.mean(0))
        deviation = values.std(0, ddof=1) if len(values) > 1 else values[0] * np.nan
        over_runs[f"{key}_std"] = plain(deviation)
    return over_runs


def plain(value: Any) -> Any:
    """numpy to Python's own int, float and list; None for nan and infinity."""
    if isinstance(value, np.ndarray) and value.ndim:
        return [plain(one) for one in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    return float(value) if math.isfinite(value) else None
