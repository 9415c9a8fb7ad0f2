"""Quality and mean cost on test of every rule as it would be used, and the curves between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deferral import bootstrap
from deferral.catalogue import RULES, Rule
from deferral.curves import accuracy_at, deferral_curve
from deferral.decide import Prepared, scored
from deferral.report.numbers import Options, plain
from deferral.risk import Pair, stage_costs

PRICES = 25  # of quality, that rules of three stages and more are fitted to
POINTS = 100  # of a drawn curve
FARTHEST = 1e308  # stands for an infinite threshold: JSON has no infinity


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

    @property
    def limits(self) -> list[float]:
        """The first run's thresholds as JSON can hold them."""
        first = self.thresholds[0] if self.thresholds else []
        return [float(t) for t in np.clip(first, -FARTHEST, FARTHEST)]


def paid_of(fit: Prepared, split: str, cost: Pair) -> np.ndarray:
    """What each row pays if stage e answers it, [E, N].

    In the file's unit; else in calls of the last model; or, where a device's computing has a price,
    in local errors.
    """
    paid, correct = (
        (fit.paid_val, fit.correct_val) if split == "val" else (fit.paid_test, fit.correct_test)
    )
    if paid is not None:
        return paid
    call = cost[1] if fit.device.any() else 1.0
    query = np.append(fit.device, fit.device[-1] + call)
    return np.broadcast_to(query[:, None], correct.shape)


def paid_alone(fit: Prepared, split: str, cost: Pair) -> np.ndarray:
    """What each row pays where stage e answers everything by itself, [E, N].

    In a cascade of models that is less than `paid_of`: the models before it are not asked.
    """
    paid = paid_of(fit, split, cost)
    return np.diff(paid, axis=0, prepend=0.0) if fit.cascade else paid


def paid_by(fit: Prepared, option: Option, run: int, split: str, cost: Pair) -> np.ndarray:
    """What each row pays under an option in one run, [N]."""
    stage = (option.val if split == "val" else option.test)[run]
    alone = not option.thresholds and option.rule.kind == "limit"
    paid = paid_alone(fit, split, cost) if alone else paid_of(fit, split, cost)
    return paid[stage, np.arange(len(stage))]


def risk_by(fit: Prepared, option: Option, run: int, split: str, cost: Pair) -> np.ndarray:
    """What each row costs under an option in one run, its error included, [N], in local errors."""
    stage = (option.val if split == "val" else option.test)[run]
    rows = np.arange(len(stage))
    price = (
        stage_costs(fit.correct_val, *fit.val_price(*cost))
        if split == "val"
        else stage_costs(fit.correct_test, *fit.price(*cost))
    )[stage, rows]
    if not fit.cascade:
        return price
    saved = paid_of(fit, split, cost)[stage, rows] - paid_by(fit, option, run, split, cost)
    return price - cost[1] * saved


def prices(fit: Prepared, cost: Pair) -> list[Pair]:
    """(c_1, c_e) from where quality is nearly free to where it is nearly nothing worth."""
    paid = paid_of(fit, "val", cost).mean(1)
    quality = fit.correct_val.mean(1, dtype=np.float64)
    gap = max(float(quality.max() - quality.min()), 1e-3)
    around = gap / max(float(paid.max() - paid.min()), 1e-12)
    return [(cost[0], float(x)) for x in around * np.geomspace(1 / 64, 64, PRICES)]


def measure(
    fits: Sequence[Prepared], options: list[Option], cost: Pair, how: Options
) -> list[dict[str, Any]]:
    """One row an option: quality, cost, risk, who answers, and differences to the last stage."""
    n, size = fits[0].correct_test.shape[1], len(options)
    columns = np.empty((len(fits), n, 3 * size), dtype=np.float32)
    for s, fit in enumerate(fits):
        rows = np.arange(n)
        for k, option in enumerate(options):
            stage = option.test[s]
            columns[s, :, k] = fit.correct_test[stage, rows]
            columns[s, :, size + k] = paid_by(fit, option, s, "test", cost)
            columns[s, :, 2 * size + k] = risk_by(fit, option, s, "test", cost)
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
            "thresholds": option.limits,
        }
        for part, name in enumerate(("quality", "cost", "risk")):
            low, high = bootstrap.interval(draws[:, part, k], how.level)
            row |= {
                name: float(means[part, k]),
                f"{name}_low": float(low),
                f"{name}_high": float(high),
            }
        change = draws[:, 0, k] - draws[:, 0, last]
        low, high = bootstrap.interval(change, how.level)
        row |= {"quality_change_low": float(low), "quality_change_high": float(high)}
        with np.errstate(invalid="ignore", divide="ignore"):
            saved = 1 - draws[:, 1, k] / draws[:, 1, last]
            row["saved"] = plain(np.float64(1 - means[1, k] / means[1, last]))
        known = bool(np.isfinite(saved).all())
        ends = bootstrap.interval(saved, how.level) if known else (None, None)
        row["saved_low"], row["saved_high"] = (plain(e) if known else None for e in ends)
        rows_out.append(row)
    return rows_out


def curves(
    fit: Prepared, candidates: list[Option], shown: dict[str, Option], cost: Pair
) -> list[dict[str, Any]]:
    """Mean cost and quality on the first run's test rows, along each rule's thresholds.

    Of two stages the threshold runs over all shares sent, equal scores going together: between two
    thresholds lies a straight line. Of more, thresholds are those fitted to each price of quality.
    The oracle takes the answer that is best at each such price.
    """
    quality, paid = fit.correct_test, paid_of(fit, "test", cost)
    rows, drawn = np.arange(quality.shape[1]), []
    if len(quality) == 2:
        decided = scored(fit.decide(*cost))
        for name, option in shown.items():
            if name in decided:
                score, free = decided[name].score, (np.zeros(2), np.ones(2))
                sent = (np.arange(POINTS + 1) * len(score)) // POINTS / len(score)
                along = [deferral_curve(score, values, *free) for values in (paid, quality)]
                drawn.append(_curve(option.rule, *(accuracy_at(curve, sent) for curve in along)))
    else:
        for name, option in shown.items():
            found = [c for c in candidates if c.rule.name == name and c.thresholds]
            if len(found) > 1:
                points = [
                    [values[c.test[0], rows].mean() for c in found] for values in (paid, quality)
                ]
                drawn.append(_curve(option.rule, *map(np.array, points)))
    best = [
        np.argmax(quality - price * paid, axis=0)
        for _, price in [(0, 0.0), *prices(fit, cost), (0, 1e12)]
    ]
    points = [[values[stage, rows].mean() for stage in best] for values in (paid, quality)]
    return [*drawn, _curve(RULES["oracle"], *map(np.array, points))]


def _curve(rule: Rule, cost: np.ndarray, quality: np.ndarray) -> dict[str, Any]:
    order = np.argsort(cost, kind="stable")
    return {
        "name": rule.name,
        "label": rule.label,
        "kind": rule.kind,
        "cost": plain(cost[order]),
        "quality": plain(quality[order]),
    }
