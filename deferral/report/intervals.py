"""How far the thresholds of the chosen rule would move if val were drawn anew."""

import math

import numpy as np

from deferral.decide import Prepared
from deferral.predictions import Predictions
from deferral.report import cuts
from deferral.report.cuts import Wanted
from deferral.report.numbers import Options
from deferral.report.tradeoff import FARTHEST, Option, paid_of
from deferral.risk import Pair, stage_costs

DRAWS, DRAWN_ROWS = 200, 4_000_000  # fewer draws where these are more rows


def threshold_intervals(
    run: Predictions, fit: Prepared, option: Option, cost: Pair, wanted: Wanted, how: Options
) -> list[list[float]]:
    """How far each threshold moves when val is drawn anew: [E - 1] of low and high.

    Empty for thresholds that are not fitted to val. Whole groups are drawn, each a number of times
    that is Poisson's of mean 1; every threshold is fitted with the others as they are.
    """
    name = option.rule.name
    if not option.thresholds or name not in fit.doubts or option.promise:
        return []
    doubt = fit.doubts[name][0]
    paid = paid_of(fit, "val", cost)
    if wanted.kind == "risk":
        paid = stage_costs(fit.correct_val, *fit.val_price(*cost))
    rows, own, n = cuts.Rows(doubt, fit.correct_val, paid), run.part("val").own, doubt.shape[1]
    group = np.arange(n)
    if own is not None and own.group is not None:
        group = np.unique(own.group, return_inverse=True)[1]
    rng, found = np.random.default_rng(how.seed), []
    start = np.array(option.thresholds[0])
    for _ in range(min(DRAWS, max(20, DRAWN_ROWS // n))):
        weight = rng.poisson(1.0, group.max() + 1)[group].astype(np.float64)
        if weight.any():
            goal = wanted.resolved(fit.correct_val[-1], weight)
            found.append(rows.move(goal, start, weight))
    values = np.sort(np.clip(found, -FARTHEST, FARTHEST), axis=0)
    ends = (1 - how.level) / 2 * (len(values) - 1)
    low, high = values[int(ends)], values[math.ceil(len(values) - 1 - ends)]
    return [[float(a), float(b)] for a, b in zip(low, high, strict=True)]
