"""What to do: the rule and thresholds that val prefers for what is wanted, measured on test.

Wanted is the least risk at given costs, the least cost at a quality of at least Q, or the highest
quality at a mean cost of at most B. `paid` is in the file's unit, or in calls of the last model
where the file has no costs; quality is accuracy where answers are right or wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deferral import bootstrap, rules
from deferral.catalogue import RULES, Rule
from deferral.decide import Prepared, ScoredDecision, prepared, scored
from deferral.held_out import HeldOut, held_out
from deferral.predictions import Predictions
from deferral.report.guarantee import rate_cut
from deferral.report.numbers import Options, plain
from deferral.risk import Pair, stage_costs

WANTED = ("risk", "quality", "budget")
PRICES = 25  # of quality, that rules of three stages and more are fitted to
TIE = 1e-9
POINTS = 100  # of a drawn curve
THRESHOLD_DRAWS = 200
UNMET = 1e9  # loss of a quality that is not reached, less that quality


@dataclass(frozen=True)
class Wanted:
    """kind: one of WANTED; value: Q (0..1) or B, None for risk and for the last model's quality."""

    kind: str
    value: float | None = None


@dataclass(frozen=True, eq=False)
class Option:
    """One rule as it would be used, in every run."""

    rule: Rule
    val: list[np.ndarray]  # the stage that answers each val row, [Nv] in 0..E
    test: list[np.ndarray]
    thresholds: list[list[float]]  # of each stage but the last, a run each; none of fixed stages
    cost: Pair
    fit: Prepared | None = None  # of the first run, where it is fitted on a part of val
    promise: dict[str, float] | None = None  # max_reject_rate and delta, which thresholds keep


def choose(
    runs: Sequence[Predictions], cost: Pair, wanted: Wanted, options: Options
) -> tuple[Option, dict[str, Any]]:
    """The option that val prefers, and the numbers of the page's first section."""
    fits = [prepared(run) for run in runs]
    candidates = _candidates(runs, cost, wanted, options)
    losses: dict[str, float] = {}
    by_rule: dict[str, Option] = {}
    for candidate in candidates:
        name, loss = candidate.rule.name, _loss(fits, candidate, cost, wanted)
        if name == "always" and options.max_reject_rate is not None:
            loss = np.inf
        if loss < losses.get(name, np.inf) or name not in losses:
            losses[name], by_rule[name] = loss, candidate
    best = by_rule[min(losses, key=lambda name: losses[name])]
    rows = _measure(fits, [*by_rule.values()], cost, options)
    unit = runs[0].settings.get("cost_unit", "calls")
    for row in rows:
        loss = losses[row["name"]]
        row["val_loss"] = plain(np.float64(loss if loss < UNMET / 2 else np.inf))
    confident = [r for r in rows if r["kind"] == "confidence"]
    rival = min(confident, key=lambda row: losses[row["name"]])["name"] if confident else "always"
    return best, {
        "best_confidence": rival,
        "wanted": wanted.kind,
        "value": wanted.value,
        "unit": {"file": "the file's unit", "errors": "local errors", "calls": "calls"}[unit],
        "met": losses[best.rule.name] < UNMET / 2,
        "chosen": best.rule.name,
        "rules": rows,
        "models": runs[0].settings.get("models") or _stage_names(len(runs[0].correct)),
        "thresholds": plain(np.array(best.thresholds[0])) if best.thresholds else [],
        "curves": _curves(fits[0], candidates, by_rule, cost),
        "threshold_interval": _threshold_interval(fits[0], best, cost, wanted, options),
    }


def _stage_names(count: int) -> list[str]:
    return (
        ["local", "remote"]
        if count == 2
        else [f"exit {k + 1}" for k in range(count - 1)] + ["server"]
    )


def paid_of(fit: Prepared, split: str) -> np.ndarray:
    """What each row pays if stage e answers it, [E, N], in the file's unit."""
    paid, correct = (
        (fit.paid_val, fit.correct_val) if split == "val" else (fit.paid_test, fit.correct_test)
    )
    if paid is not None:
        return paid
    query = np.append(fit.device, fit.device[-1] + 1.0)
    return np.broadcast_to(query[:, None], correct.shape)


def _candidates(
    runs: Sequence[Predictions], cost: Pair, wanted: Wanted, how: Options
) -> list[Option]:
    """Every usable rule: each stage alone, and rules fitted to the costs or to what is wanted.

    With a reject rate to promise no rule sends more than what the promise allows.
    """
    fits = [prepared(run) for run in runs]
    count = len(fits[0].correct_val)
    candidates = [
        Option(
            _alone(fits[0], e),
            [np.full(fit.correct_val.shape[1], e) for fit in fits],
            [np.full(fit.correct_test.shape[1], e) for fit in fits],
            [],
            cost,
        )
        for e in range(count)
    ]
    prices = [cost] if wanted.kind == "risk" or count == 2 else _prices(fits[0], cost)
    decided = {price: [_decisions(run, price, how) for run in runs] for price in prices}
    # Each of them keeps the promise with this delta, so the one that is chosen does with delta.
    delta = how.delta / max(1, sum(len(of_runs[0]) for of_runs in decided.values()))
    for price, of_runs in decided.items():
        for name in of_runs[0]:
            if not all(name in by_name for by_name in of_runs):
                continue
            moved = []
            for fit, by_name in zip(fits, of_runs, strict=True):
                held, decision = by_name[name]
                cut: float | None = decision.threshold
                if wanted.kind != "risk" and count == 2:
                    cut = _cut(fit, decision, wanted)
                if cut is not None and held is not None and how.max_reject_rate is not None:
                    cut = max(cut, rate_cut(held, how.max_reject_rate, delta))
                if cut is not None:
                    moved.append(_moved(decision, cut))
            if len(moved) == len(fits):
                option = _option(fits, moved, price)
                first = of_runs[0][name][0]
                if first is not None and how.max_reject_rate is not None:
                    promise = {"max_reject_rate": how.max_reject_rate, "delta": how.delta}
                    option = replace(option, fit=first.fit, promise=promise)
                candidates.append(option)
    return candidates


def _decisions(
    run: Predictions, cost: Pair, how: Options
) -> dict[str, tuple[HeldOut | None, ScoredDecision]]:
    """Every rule with a score; to promise a reject rate, fitted without the rows held out."""
    decided = scored(prepared(run).decide(*cost))
    if how.max_reject_rate is None:
        return {name: (None, decision) for name, decision in decided.items()}
    held = {name: held_out(run, cost, name) for name in decided}
    return {name: (one, one.decision) for name, one in held.items()}


def _alone(fit: Prepared, e: int) -> Rule:
    last = len(fit.correct_val) - 1
    if e == last:
        return RULES["always"]
    if e == last - 1:
        return RULES["never"]
    return Rule(f"exit {e + 1}", f"exit {e + 1}", "limit", f"exit {e + 1} answers everything")


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


def _moved(decision: ScoredDecision, t: float) -> ScoredDecision:
    """The same score with another threshold."""
    return replace(decision, stop=rules.threshold(decision.score, t), threshold=t)


def _cut(fit: Prepared, decision: ScoredDecision, wanted: Wanted) -> float | None:
    """The threshold on val that meets what is wanted, of two stages; None where none does."""
    return cut_for(
        decision.score_val,
        fit.correct_val,
        paid_of(fit, "val"),
        wanted,
        np.ones(len(decision.score_val)),
    )


def cut_for(
    score: np.ndarray, quality: np.ndarray, paid: np.ndarray, wanted: Wanted, weight: np.ndarray
) -> float | None:
    """The cheapest cut of a quality, or the best cut within a budget; None where there is none.

    score [N], quality and paid [2, N], weight [N] of the rows.
    """
    order, places = rules.cut_places(score)
    w = weight[order]
    total = w.sum()

    def curve(values: np.ndarray) -> np.ndarray:
        gain = np.concatenate([[0.0], np.cumsum(w * (values[1] - values[0])[order])])
        return ((w * values[0][order]).sum() + gain[places]) / total

    q, c = curve(np.asarray(quality, dtype=np.float64)), curve(np.asarray(paid, dtype=np.float64))
    if wanted.kind == "quality":
        goal = q[-1] if wanted.value is None else wanted.value
        usable, loss = q >= goal - TIE, c
    else:
        usable, loss = c <= (wanted.value or 0.0) + TIE, -q
    if not usable.any():
        return None
    best = int(np.flatnonzero(usable)[np.argmin(loss[usable])])
    return rules.between(np.asarray(score, dtype=np.float64)[order], int(places[best]))


def _prices(fit: Prepared, cost: Pair) -> list[Pair]:
    """(1, c_e) from where quality is nearly free to where it is nearly nothing worth."""
    paid, quality = paid_of(fit, "val").mean(1), fit.correct_val.mean(1)
    gap = max(float(quality.max() - quality.min()), 1e-3)
    around = gap / max(float(paid.max() - paid.min()), 1e-12)
    return [(cost[0], float(x)) for x in around * np.geomspace(1 / 64, 64, PRICES)]


def _loss(fits: list[Prepared], option: Option, cost: Pair, wanted: Wanted) -> float:
    """What is to be least on val, mean over runs; UNMET or inf where what is wanted is not met."""
    values = []
    for fit, stage in zip(fits, option.val, strict=True):
        rows = np.arange(len(stage))
        if wanted.kind == "risk":
            values.append(stage_costs(fit.correct_val, *fit.val_price(*cost))[stage, rows].mean())
            continue
        q, c = fit.correct_val[stage, rows].mean(), paid_of(fit, "val")[stage, rows].mean()
        if wanted.kind == "quality":
            goal = fit.correct_val[-1].mean() if wanted.value is None else wanted.value
            values.append(c if q >= goal - TIE else UNMET - float(q))
        else:
            values.append(-q if c <= (wanted.value or 0) + TIE else np.inf)
    return float(np.mean(values))


def _measure(
    fits: list[Prepared], options: list[Option], cost: Pair, how: Options
) -> list[dict[str, Any]]:
    """One row an option: quality, cost, risk, who answers, and differences to the last stage."""
    n, size = fits[0].correct_test.shape[1], len(options)
    columns = np.empty((len(fits), n, 3 * size), dtype=np.float32)
    for s, fit in enumerate(fits):
        price = stage_costs(fit.correct_test, *fit.price(*cost))
        paid, rows = paid_of(fit, "test"), np.arange(n)
        for k, option in enumerate(options):
            stage = option.test[s]
            for part, values in enumerate((fit.correct_test, paid, price)):
                columns[s, :, part * size + k] = values[stage, rows]
    means = columns.mean((0, 1), dtype=np.float64).reshape(3, size)
    draws = bootstrap.resample(columns, how.draws, how.seed, fits[0].group).reshape(-1, 3, size)
    last = next(k for k, option in enumerate(options) if option.rule.name == "always")
    rows_out = []
    for k, option in enumerate(options):
        shares = np.mean(
            [np.bincount(s, minlength=len(fits[0].correct_val)) / len(s) for s in option.test],
            axis=0,
        )
        row: dict[str, Any] = {
            "name": option.rule.name,
            "label": option.rule.label,
            "kind": option.rule.kind,
            "about": option.rule.about,
            "shares": plain(shares),
            "sent": float(1 - shares[0]),
            "thresholds": plain(np.array(option.thresholds[0])) if option.thresholds else [],
        }
        for part, name in enumerate(("quality", "cost", "risk")):
            low, high = bootstrap.interval(draws[:, part, k], how.level)
            row |= {
                name: float(means[part, k]),
                f"{name}_low": float(low),
                f"{name}_high": float(high),
            }
            change = draws[:, part, k] - draws[:, part, last]
            low, high = bootstrap.interval(change, how.level)
            row[f"{name}_change"] = float(means[part, k] - means[part, last])
            row |= {f"{name}_change_low": float(low), f"{name}_change_high": float(high)}
        with np.errstate(invalid="ignore", divide="ignore"):
            saved = 1 - draws[:, 1, k] / draws[:, 1, last]
            row["saved"] = plain(np.float64(1 - means[1, k] / means[1, last]))
        known = bool(np.isfinite(saved).all())
        ends = bootstrap.interval(saved, how.level) if known else (None, None)
        row["saved_low"], row["saved_high"] = (plain(e) if known else None for e in ends)
        rows_out.append(row)
    return rows_out


def _curves(
    fit: Prepared, candidates: list[Option], shown: dict[str, Option], cost: Pair
) -> list[dict[str, Any]]:
    """Mean cost and quality on the first run's test rows, along each rule's thresholds.

    Of two stages the threshold runs over all shares sent; of more, thresholds are those fitted to
    each price of quality. The oracle takes the answer that is best at each such price.
    """
    quality, paid = fit.correct_test, paid_of(fit, "test")
    rows, curves = np.arange(quality.shape[1]), []
    if len(quality) == 2:
        decided = scored(fit.decide(*cost))
        for name, option in shown.items():
            if name in decided:
                order = np.argsort(-decided[name].score, kind="stable")
                ends = (np.arange(POINTS + 1) * len(order)) // POINTS
                points = [
                    values[0].mean()
                    + np.concatenate([[0.0], np.cumsum((values[1] - values[0])[order])])[ends]
                    / len(order)
                    for values in (paid, quality.astype(np.float64))
                ]
                curves.append(_curve(option.rule, *points))
    else:
        for name, option in shown.items():
            found = [c for c in candidates if c.rule.name == name and c.thresholds]
            if len(found) > 1:
                points = [
                    [values[c.test[0], rows].mean() for c in found] for values in (paid, quality)
                ]
                curves.append(_curve(option.rule, *map(np.array, points)))
    best = [
        np.argmax(quality - price * paid, axis=0)
        for _, price in [(0, 0.0), *_prices(fit, cost), (0, 1e12)]
    ]
    points = [[values[stage, rows].mean() for stage in best] for values in (paid, quality)]
    return [*curves, _curve(RULES["oracle"], *map(np.array, points))]


def _curve(rule: Rule, cost: np.ndarray, quality: np.ndarray) -> dict[str, Any]:
    order = np.argsort(cost, kind="stable")
    return {
        "name": rule.name,
        "label": rule.label,
        "kind": rule.kind,
        "cost": plain(cost[order]),
        "quality": plain(quality[order]),
    }


def _threshold_interval(
    fit: Prepared, option: Option, cost: Pair, wanted: Wanted, how: Options
) -> list[float | None] | None:
    """How far the threshold moves when val is drawn anew, of two stages and a fitted threshold."""
    fitted = option.rule.kind == "confidence" or option.rule.name.endswith(", fitted")
    if len(fit.correct_val) != 2 or not option.thresholds or not fitted or option.promise:
        return None
    decision = scored(fit.decide(*cost))[option.rule.name]
    score, rng = decision.score_val, np.random.default_rng(how.seed)
    order, _ = rules.cut_places(score)
    falling = np.asarray(score, dtype=np.float64)[order]
    price, paid = stage_costs(fit.correct_val, *fit.val_price(*cost)), paid_of(fit, "val")
    extra = (price[1] - price[0])[order]
    found: list[float] = []
    for _ in range(THRESHOLD_DRAWS):
        weight = rng.poisson(1.0, len(score)).astype(np.float64)
        if wanted.kind == "risk":
            found.append(rules.cheapest_cut(falling, extra * weight[order]))
        else:
            t = cut_for(score, fit.correct_val, paid, wanted, weight)
            found.append(np.inf if t is None else t)
    values = np.sort(found)
    ends = (1 - how.level) / 2
    places = [int(ends * (len(values) - 1)), int(np.ceil((1 - ends) * (len(values) - 1)))]
    return [plain(values[place]) for place in places]
