"""The measures that routers are judged by, of every rule of two models, on test.

deferral/gap.py defines them. A rule's threshold is moved from sending nothing to sending
everything; the random router and the oracle stand beside the rules.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deferral import curves, gap
from deferral.catalogue import RULES, Rule
from deferral.decide import decide, prepared, scored
from deferral.predictions import Predictions
from deferral.report.numbers import spread
from deferral.report.tradeoff import paid_of
from deferral.risk import Pair


def router_numbers(runs: Sequence[Predictions], cost: Pair) -> dict[str, Any] | None:
    """A row a rule, means over runs with their _std; None unless the second of two is better.

    rules: name, label, kind, and, each None where it does not exist (no threshold recovers as much,
    or calls are free),

      area_calls, area_cost   mean gap recovered over all shares of calls, and over all costs
      calls_50, calls_80      least share of calls that recovers 50 and 80 % of the gap
      cost_50, cost_80        the same as a share of the cost between no calls and all calls
      cost_at_quality         least mean cost with at least the second model's quality, as a share
                              of what that one alone costs
      quality_at_cost         highest quality, 0..1, for no more than that one alone costs
    """
    by_name: dict[str, Rule] = {}
    measured: dict[str, list[dict[str, float]]] = {}
    for run in runs:
        quality = np.asarray(prepared(run).correct_test, dtype=np.float64)
        if len(quality) > 2 or quality[1].mean() <= quality[0].mean():
            return None
        paid = paid_of(prepared(run), "test", cost).astype(np.float64)
        alone = paid[1] if run.settings.get("pay") == "router" else paid[1] - paid[0]
        limits = {"random": np.zeros(len(paid[0])), "oracle": quality[1] - quality[0]}
        decided = scored(decide(run, *cost))
        by_name |= {name: d.rule for name, d in decided.items()} | {n: RULES[n] for n in limits}
        for name, score in ({name: d.score for name, d in decided.items()} | limits).items():
            one = measures(score, quality, paid, float(alone.mean()))
            measured.setdefault(name, []).append(one)
    rows = [
        {"name": name, "label": by_name[name].label, "kind": by_name[name].kind}
        | spread({key: np.array([one[key] for one in per_run]) for key in per_run[0]})
        for name, per_run in measured.items()
        if len(per_run) == len(runs)
    ]
    return {"rules": rows}


def measures(
    score: np.ndarray, quality: np.ndarray, paid: np.ndarray, alone: float
) -> dict[str, float]:
    """The measures of one score [N], by the names of `router_numbers`; nan: does not exist.

    quality and paid [2, N]: of each sample if the first, and if the second model answers. alone:
    mean cost of the second model where the first is not asked.
    """
    free, ones = np.zeros(2), np.ones(2)
    curve = curves.deferral_curve(score, quality, free, ones)
    spent = curves.deferral_curve(score, paid, free, ones).accuracy  # mean cost along the curve
    part, extra = gap.recovered(curve), spent[-1] - spent[0]
    share = (spent - spent[0]) / extra if extra > 0 else np.full_like(spent, np.nan)
    found = {}
    for name, x in (("calls", curve.rate), ("cost", share)):
        found[f"area_{name}"] = curves.area_below(part, x)  # APGR
        for wanted in gap.PARTS:
            found[f"{name}_{round(100 * wanted)}"] = gap.needed(x, part, wanted)
    equal = gap.cost_at_quality(spent, curve.accuracy, float(quality[1].mean()))
    found["cost_at_quality"] = equal / alone if alone > 0 else float("nan")
    found["quality_at_cost"] = gap.quality_at_cost(spent, curve.accuracy, alone)
    return found
