"""What to do: the rule and thresholds that val prefers for what is wanted, measured on test.

Wanted is the least risk at given costs, the least cost at a quality of at least Q or at a promised
risk of at most R, or the highest quality at a mean cost of at most B. `paid` is in the file's unit,
or in calls of the last model where the file has no costs; quality is accuracy where answers are
right or wrong.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deferral import rules
from deferral.catalogue import RULES, Rule
from deferral.decide import Prepared, ScoredDecision, confidence_rule, prepared, scored
from deferral.predictions import Predictions
from deferral.report import cuts
from deferral.report.cuts import Wanted
from deferral.report.intervals import threshold_intervals
from deferral.report.numbers import Options, plain
from deferral.report.promised import keep_promise
from deferral.report.tradeoff import (
    Option,
    curves,
    measure,
    paid_by,
    paid_of,
    prices,
    risk_by,
)
from deferral.risk import Pair, stage_costs
from deferral.stages import fit_price_thresholds, leave

TIE = 1e-9
FITTED = 20_000  # the most val rows that thresholds of three models and more are first fitted to


def choose(
    runs: Sequence[Predictions], cost: Pair, wanted: Wanted, options: Options
) -> tuple[Option, dict[str, Any]]:
    """The option that val prefers, and the numbers of the page's first section.

    Of options that are equally good on val to rounding, the first: models alone come before rules.
    ValueError where none is as wanted.
    """
    fits = [prepared(run) for run in runs]
    models = runs[0].settings.get("models") or _stage_names(len(runs[0].correct))
    every = candidates_of(fits, cost, wanted, models)
    candidates = keep_promise(runs, fits, every, cost, wanted, options)
    losses: dict[str, float] = {}
    by_rule: dict[str, Option] = {}
    for candidate in candidates:
        name, loss = candidate.rule.name, _loss(fits, candidate, cost, wanted)
        if name not in losses or loss < losses[name]:
            losses[name], by_rule[name] = loss, candidate
    if not losses:
        least = min(_loss(fits, option, cost, Wanted("risk")) for option in every)
        raise ValueError(
            f"--max_risk {wanted.value:g}: no rule keeps it with probability "
            f"{1 - options.delta:g}; the least risk on val is {least:.4g}"
        )
    met = math.isfinite(min(losses.values()))
    if not met and options.max_reject_rate is None:
        raise ValueError(_nothing(fits, by_rule, cost, wanted))
    if not met:  # within the promise: what comes closest
        best_quality = Wanted("budget", math.inf)
        losses = {n: _loss(fits, o, cost, best_quality) for n, o in by_rule.items()}
    least = min(losses.values())
    chosen = next(n for n, loss in losses.items() if loss <= least + TIE * max(1.0, abs(least)))
    best = by_rule[chosen]
    for option in every[: len(models)]:  # shown beside it, whatever is promised
        if by_rule.setdefault(option.rule.name, option) is option:
            losses.setdefault(option.rule.name, math.inf)
    rows = measure(fits, [*by_rule.values()], cost, options)
    for row in rows:
        row["val_loss"] = plain(np.float64(losses[row["name"]]))
    confident = [r for r in rows if r["kind"] == "confidence"]
    rival = min(confident, key=lambda row: losses[row["name"]])["name"] if confident else "always"
    intervals = threshold_intervals(runs[0], fits[0], best, cost, wanted, options)
    return best, {
        "best_confidence": rival,
        "wanted": wanted.kind,
        "value": wanted.value,
        "unit": _unit(runs[0], fits[0]),
        "cost_unit": runs[0].settings.get("cost_unit"),
        "pay": runs[0].settings.get("pay", "cascade"),
        "chosen": chosen,
        "met": met,
        "promise": best.promise,
        "rules": rows,
        "models": models,
        "curves": curves(fits[0], candidates, by_rule, cost),
        "threshold_intervals": intervals,
    }


def _stage_names(count: int) -> list[str]:
    if count == 2:
        return ["local", "remote"]
    return [*(f"exit {k + 1}" for k in range(count - 1)), "server"]


def _unit(run: Predictions, fit: Prepared) -> str:
    named = {"file": "the file's unit", "errors": "local errors", "calls": "calls"}
    unit = "errors" if fit.device.any() else run.settings.get("cost_unit", "calls")
    return str(run.settings.get("unit_name") or named[unit])


def candidates_of(
    fits: list[Prepared], cost: Pair, wanted: Wanted, models: Sequence[str]
) -> list[Option]:
    """Every usable rule: each stage alone, and rules fitted to the costs or to what is wanted."""
    candidates = []
    for stage, model in enumerate(models):
        val = [np.full(fit.correct_val.shape[1], stage) for fit in fits]
        test = [np.full(fit.correct_test.shape[1], stage) for fit in fits]
        candidates.append(Option(_alone(stage, model, len(models)), val, test, [], cost))
    decided = [scored(fit.decide(*cost)) for fit in fits]
    for name in decided[0]:
        of_runs = [d[name] for d in decided if name in d]
        if len(of_runs) < len(fits):
            continue
        if wanted.kind in ("risk", "max_risk") or f"{name}, fitted" in decided[0]:
            candidates.append(_option(fits, of_runs, cost))
        elif len(models) == 2:
            candidates += _cut(fits, of_runs, cost, wanted)
        elif name in fits[0].doubts:
            candidates += _by_prices(fits, name, cost, wanted)
        elif name == "optimum" and fits[0].paid_val is not None:
            candidates += _optima(fits, cost)
        else:
            candidates.append(_option(fits, of_runs, cost))
    return candidates


def _alone(stage: int, model: str, count: int) -> Rule:
    name = {count - 1: "always", count - 2: "never"}.get(stage, f"exit {stage + 1}")
    label = RULES[name].label if name in RULES else name
    return Rule(name, label, "limit", f"{model} answers everything")


def _option(fits: list[Prepared], decisions: list[ScoredDecision], cost: Pair) -> Option:
    val = []
    for fit, decision in zip(fits, decisions, strict=True):
        send = rules.threshold(decision.score_val, decision.threshold)
        val.append(np.where(send > 0, fit.last + 1, decision.exit_val))
    return Option(
        decisions[0].rule,
        val,
        [fit.stage(d) for fit, d in zip(fits, decisions, strict=True)],
        [[*map(float, d.exit_thresholds), float(d.threshold)] for d in decisions],
        cost,
    )


def _cut(
    fits: list[Prepared], decisions: list[ScoredDecision], cost: Pair, wanted: Wanted
) -> list[Option]:
    """The same score of two stages with the threshold that val wants; none where there is none."""
    doubts, thresholds = [], []
    for fit, decision in zip(fits, decisions, strict=True):
        doubt = decision.score_val[None]
        t = cuts.fit(doubt, fit.correct_val, paid_of(fit, "val", cost), wanted)
        if t is None:
            return []
        doubts.append((doubt, decision.score[None]))
        thresholds.append(t)
    return [_stopping_at(decisions[0].rule, doubts, thresholds, cost)]


def _stopping_at(
    rule: Rule,
    doubts: Sequence[tuple[np.ndarray, np.ndarray]],
    thresholds: Sequence[np.ndarray],
    cost: Pair,
) -> Option:
    """Thresholds [E - 1] on doubts of val and test [E - 1, N], of each run."""
    val, test = (
        [leave(doubt[part], t) for doubt, t in zip(doubts, thresholds, strict=True)]
        for part in (0, 1)
    )
    return Option(rule, val, test, [[float(x) for x in t] for t in thresholds], cost)


def _by_prices(fits: list[Prepared], name: str, cost: Pair, wanted: Wanted) -> list[Option]:
    """A confidence rule of three stages and more: fitted to each price of quality, and to the goal.

    The last option improves the best of the others, one threshold at a time.
    """
    rule, at_prices, doubts = confidence_rule(name), prices(fits[0], cost), []
    starts: list[list[np.ndarray]] = []
    refined: list[np.ndarray | None] = []
    for fit in fits:
        doubt, paid = fit.doubts[name][0], paid_of(fit, "val", cost)
        doubts.append(fit.doubts[name])
        step = -(-doubt.shape[1] // FITTED)
        wrong = stage_costs(fit.correct_val, *_free(fit, cost))
        starts.append(
            [
                fit_price_thresholds(doubt[:, ::step], (wrong + x * paid)[:, ::step])
                for _, x in at_prices
            ]
        )
        whole, goal = cuts.Rows(doubt, fit.correct_val, paid), wanted.resolved(fit.correct_val[-1])
        found = [whole.fit(goal, start) for start in _near(whole, goal, starts[-1])]
        tried = [t for t in found if t is not None]
        losses = [whole.loss(goal, t) for t in tried]
        refined.append(tried[int(np.argmin(losses))] if tried else None)
    options = [
        _stopping_at(rule, doubts, list(thresholds), price)
        for thresholds, price in zip(zip(*starts, strict=True), at_prices, strict=True)
    ]
    final = [t for t in refined if t is not None]
    if len(final) == len(fits):
        options.append(_stopping_at(rule, doubts, final, cost))
    return options


def _near(rows: cuts.Rows, goal: Wanted, starts: list[np.ndarray]) -> list[np.ndarray]:
    """The best of the starts that is allowed and its neighbours; the first where none is."""
    best = int(np.argmin([rows.loss(goal, start) for start in starts]))
    return [*starts[max(0, best - 1) : best + 2]]


def _free(fit: Prepared, cost: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Costs of stages where asking is free: query_cost and error_cost [E]."""
    _, error = fit.price(*cost)
    return np.zeros(len(error)), error


def _optima(fits: list[Prepared], cost: Pair) -> list[Option]:
    """The optimum of three models and more at each price of quality."""
    found = []
    for price in prices(fits[0], cost):
        parts: tuple[list[np.ndarray], list[np.ndarray]] = [], []
        for fit in fits:
            if fit.stopping is None:
                return []
            stops = fit.stopping.decide(*fit.val_price(*price))
            for part, stop in zip(parts, stops, strict=True):
                part.append(np.where(stop.score > 0, fit.last + 1, stop.exit))
        found.append(Option(RULES["optimum"], *parts, [[0.0]] * len(fits), price))
    return found


def _loss(fits: list[Prepared], option: Option, cost: Pair, wanted: Wanted) -> float:
    """What is to be least on val, mean over runs; inf where what is wanted is not met."""
    values = []
    for run, (fit, stage) in enumerate(zip(fits, option.val, strict=True)):
        goal, rows = wanted.resolved(fit.correct_val[-1]), np.arange(len(stage))
        by = risk_by if wanted.kind == "risk" else paid_by
        paid = by(fit, option, run, "val", cost).mean(dtype=np.float64)
        values.append(goal.loss(fit.correct_val[stage, rows].mean(dtype=np.float64), paid))
    return float(np.mean(values))


def _nothing(fits: list[Prepared], by_rule: dict[str, Option], cost: Pair, wanted: Wanted) -> str:
    """Why nothing is as wanted, and what is nearest."""
    fit, found = fits[0], []
    for option in by_rule.values():
        stage, rows = option.val[0], np.arange(len(option.val[0]))
        values = fit.correct_val if wanted.kind == "quality" else paid_of(fit, "val", cost)
        found.append(float(values[stage, rows].mean(dtype=np.float64)))
    if wanted.kind == "quality":
        return (
            f"--min_quality {wanted.value:g}: no rule reaches it on val; the highest quality "
            f"there is {max(found):.4g}"
        )
    return f"--budget {wanted.value:g}: every rule costs more on val; the cheapest {min(found):.4g}"
