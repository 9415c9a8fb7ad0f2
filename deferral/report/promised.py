"""Options held to a promise: a reject rate or a risk that none of them exceeds.

A rule is fitted on other val rows than those that its promise is made from. Each option keeps it
with its share of delta, so the one that is chosen among them keeps it with delta.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deferral import calibrate, rules
from deferral.decide import Prepared
from deferral.held_out import HeldOut, held_out, one_of_each_group
from deferral.predictions import Predictions
from deferral.report import cuts
from deferral.report.cuts import Wanted
from deferral.report.guarantee import highest_cost, rate_cut, risk_cut
from deferral.report.numbers import Options
from deferral.report.tradeoff import Option, paid_of, risk_by
from deferral.risk import Pair


def keep_promise(
    runs: Sequence[Predictions],
    fits: Sequence[Prepared],
    options: Sequence[Option],
    cost: Pair,
    wanted: Wanted,
    how: Options,
) -> list[Option]:
    """The options that keep how.max_reject_rate and, where it is wanted, a risk; all without these.

    Thresholds are moved to where they do; options that do not keep it at any threshold are left
    out. ValueError for a reject rate of three models or more unless a risk is wanted: their
    thresholds are fitted together.
    """
    promise = {}
    if how.max_reject_rate is not None:
        promise["max_reject_rate"] = how.max_reject_rate
    if wanted.kind == "max_risk" and wanted.value is not None:
        promise["max_risk"] = wanted.value
    if not promise:
        return [*options]
    last = len(fits[0].correct_val) - 1
    if last > 1 and wanted.kind not in ("risk", "max_risk"):
        raise ValueError(
            "--max_reject_rate with three models or more goes with the least risk: give costs, and "
            "neither --budget nor --min_quality"
        )
    counted = [option for option in options if option.thresholds or wanted.kind == "max_risk"]
    delta = how.delta / max(1, len(counted) * len(promise))
    kept = []
    for option in options:
        if option.thresholds:
            moved = _moved(option, runs, fits, cost, wanted, how, delta)
        elif option.rule.name == "always" and how.max_reject_rate is not None:
            moved = None
        else:
            safe = wanted.kind != "max_risk" or _alone_keeps(
                option, runs, fits, cost, wanted.value or 0.0, delta
            )
            moved = option if safe else None
        if moved is not None:
            kept.append(replace(moved, promise=promise | {"delta": how.delta}))
    return kept


def _alone_keeps(
    option: Option,
    runs: Sequence[Predictions],
    fits: Sequence[Prepared],
    cost: Pair,
    max_risk: float,
    delta: float,
) -> bool:
    """Whether a model by itself has, in every run, a risk of at most max_risk."""
    for number, (run, fit) in enumerate(zip(runs, fits, strict=True)):
        paid = risk_by(fit, option, number, "val", cost)
        rows = one_of_each_group(run, np.arange(paid.size))
        possible = np.unique(np.append(paid, highest_cost(run, cost)))
        if not calibrate.risk_is_below(paid[rows], possible, max_risk, delta):
            return False
    return True


def _moved(
    option: Option,
    runs: Sequence[Predictions],
    fits: Sequence[Prepared],
    cost: Pair,
    wanted: Wanted,
    how: Options,
    delta: float,
) -> Option | None:
    """The option with thresholds that keep the promise in every run; None where none does."""
    last, held = len(fits[0].correct_val) - 1, []
    val: list[np.ndarray] = []
    test: list[np.ndarray] = []
    thresholds: list[list[float]] = []
    for run, fit in zip(runs, fits, strict=True):
        one = held_out(run, cost, option.rule.name)
        held.append(one)
        t = _threshold(one, run, fit, cost, wanted, how, delta)
        if t is None:
            return None
        decision = one.decision
        for stages, score, exit in (
            (val, decision.score_val, decision.exit_val),
            (test, decision.score, decision.exit),
        ):
            stages.append(np.where(rules.threshold(score, t) > 0, last, exit))
        thresholds.append([*map(float, decision.exit_thresholds), t])
    return replace(option, val=val, test=test, thresholds=thresholds, fit=held[0].fit)


def _threshold(
    one: HeldOut,
    run: Predictions,
    fit: Prepared,
    cost: Pair,
    wanted: Wanted,
    how: Options,
    delta: float,
) -> float | None:
    """The threshold that is wanted, moved to where the promise holds; None where it cannot."""
    decision, most = one.decision, how.max_reject_rate
    limit = -math.inf if most is None else rate_cut(one, most, delta)
    if wanted.kind == "max_risk":
        safe = risk_cut(one, wanted.value or 0.0, delta, highest_cost(run, cost))
        return safe if safe is not None and safe >= limit else None
    t = float(decision.threshold)
    if wanted.kind != "risk":
        paid = paid_of(fit, "val", cost)
        found = cuts.fit(decision.score_val[None], fit.correct_val, paid, wanted)
        t = math.inf if found is None else float(found[0])
    return max(t, limit)
