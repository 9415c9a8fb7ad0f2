"""Options held to a promised reject rate: none of them sends more than the promise allows."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deferral import rules
from deferral.decide import Prepared
from deferral.held_out import held_out
from deferral.predictions import Predictions
from deferral.report import cuts
from deferral.report.cuts import Wanted
from deferral.report.guarantee import rate_cut
from deferral.report.numbers import Options
from deferral.report.tradeoff import Option, paid_of
from deferral.risk import Pair


def keep_promise(
    runs: Sequence[Predictions],
    fits: Sequence[Prepared],
    options: Sequence[Option],
    cost: Pair,
    wanted: Wanted,
    how: Options,
) -> list[Option]:
    """The options with thresholds that keep how.max_reject_rate; what always sends is left out.

    A rule is fitted on other val rows than those that the promise is made from. Each option keeps
    it with its share of how.delta, so the one that is chosen among them keeps it with how.delta.
    ValueError for three models or more unless the least risk is wanted: their thresholds are
    fitted together.
    """
    if how.max_reject_rate is None:
        return [*options]
    last = len(fits[0].correct_val) - 1
    if last > 1 and wanted.kind != "risk":
        raise ValueError(
            "--max_reject_rate with three models or more goes with the least risk: give costs, and "
            "neither --budget nor --min_quality"
        )
    promise = {"max_reject_rate": how.max_reject_rate, "delta": how.delta}
    kept = [option for option in options if not option.thresholds and option.rule.name != "always"]
    scored = [option for option in options if option.thresholds]
    delta = how.delta / max(1, len(scored))
    for option in scored:
        held = [held_out(run, cost, option.rule.name) for run in runs]
        val: list[np.ndarray] = []
        test: list[np.ndarray] = []
        thresholds: list[list[float]] = []
        for one, fit in zip(held, fits, strict=True):
            decision, t = one.decision, float(one.decision.threshold)
            if wanted.kind != "risk":
                paid = paid_of(fit, "val", cost)
                found = cuts.fit(decision.score_val[None], fit.correct_val, paid, wanted)
                t = np.inf if found is None else float(found[0])
            t = max(t, rate_cut(one, how.max_reject_rate, delta))
            for stages, score, exit in (
                (val, decision.score_val, decision.exit_val),
                (test, decision.score, decision.exit),
            ):
                stages.append(np.where(rules.threshold(score, t) > 0, last, exit))
            thresholds.append([*map(float, decision.exit_thresholds), t])
        kept.append(
            replace(
                option, val=val, test=test, thresholds=thresholds, fit=held[0].fit, promise=promise
            )
        )
    return kept
