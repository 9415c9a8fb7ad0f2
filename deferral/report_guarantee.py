"""Thresholds that keep a promise, for the rule that a report shows: numbers for page and JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deferral import calibrate, estimates, rules
from deferral.compare import decide
from deferral.predictions import Predictions
from deferral.report_numbers import Pair, plain, trained_rules
from deferral.risk import accuracy, costs, risk, send_rate

RATES = (0.1, 0.2, 0.3, 0.4, 0.5)  # promised where none is asked for
SPLITS = 200


def rate_promises(
    runs: Sequence[Predictions], cost: Pair, name: str, rates: Sequence[float], delta: float
) -> dict[str, Any]:
    """`rates` promised for one rule: what test shows (mean over runs), and the simulation.

    at: per rate max_rate, threshold (of the first run; None: none or all are sent), reject_rate,
    accuracy and risk on test with their _std, and `simulated`: what `calibrate.simulate` finds in
    SPLITS splits of the first run's test rows.
    """
    rows = []
    scores = [val_score(run, cost, name) for run in runs]
    decisions = [decide(run, *cost)[name] for run in runs]
    correct = [run.part("test").correct for run in runs]
    for rate in rates:
        cuts = [calibrate.reject_rate_threshold(score, rate, delta) for score in scores]
        row = {"max_rate": float(rate), "threshold": plain(cuts[0])}
        row |= _on_test(decisions, correct, cuts, cost)
        row["simulated"] = calibrate.simulate(
            decisions[0].score,
            correct[0],
            costs(*cost),
            max_rate=float(rate),
            delta=delta,
            own_threshold=decisions[0].threshold,
            splits=SPLITS,
        )
        rows.append(row)
    return {"rule": name, "delta": delta, "splits": SPLITS, "at": rows}


def risk_promise(
    runs: Sequence[Predictions], cost: Pair, name: str, max_risk: float, delta: float
) -> dict[str, Any]:
    """A risk promised for one rule: threshold (None: no promise can be kept), test, simulation.

    The simulation is that of `calibrate.simulate`: the first run's test rows are the population, a
    split draws half as many with replacement, and the true risk is that of the population.
    """
    scores = [val_score(run, cost, name) for run in runs]
    decisions = [decide(run, *cost)[name] for run in runs]
    correct = [run.part("test").correct for run in runs]
    cuts = [
        calibrate.risk_threshold(score, run.part("val").correct, *costs(*cost), max_risk, delta)
        for score, run in zip(scores, runs, strict=True)
    ]
    promised = [cut is not None for cut in cuts]
    found: dict[str, Any] = {"rule": name, "max_risk": max_risk, "delta": delta}
    found |= {"promised_runs": sum(promised), "threshold": None, "splits": SPLITS}
    if all(promised):
        found["threshold"] = plain(cuts[0])
        found |= _on_test(decisions, correct, cuts, cost)
    n, rng = correct[0].shape[1], np.random.default_rng(0)
    given, broken, risks = 0, 0, []
    for split in range(SPLITS):
        val = rng.integers(0, n, max(2, n // 2))
        score, right = decisions[0].score, correct[0]
        cut = calibrate.risk_threshold(
            score[val], right[:, val], *costs(*cost), max_risk, delta, seed=split
        )
        if cut is not None:
            given += 1
            risks.append(risk(right, rules.threshold(score, cut), *costs(*cost)))
            broken += risks[-1] > max_risk
    realised = float(np.mean(risks)) if risks else None
    return found | {"given": given / SPLITS, "broken": broken / SPLITS, "mean_risk": realised}


def val_score(run: Predictions, cost: Pair, name: str) -> np.ndarray:
    """Score of a rule on val, [Nv], as `decide` has it on test; ValueError where it has none."""
    val = run.part("val")
    if name in rules.DOUBTS:
        return rules.DOUBTS[name](val.stage_logits[0])
    if name == "post_hoc":
        return estimates.bayes_score(estimates.post_hoc(val, run.part("test"))[0], *cost)
    own = trained_rules(run, cost)
    if name not in own:
        raise ValueError(f"{run.source}: rule {name} has no score, so no threshold")
    return np.asarray(own[name][1], dtype=np.float64)


def _on_test(decisions: list, correct: list, cuts: list, cost: Pair) -> dict[str, Any]:
    stops = [rules.threshold(d.score, t) for d, t in zip(decisions, cuts, strict=True)]
    pairs = list(zip(correct, stops, strict=True))
    measured = {
        "reject_rate": [send_rate(stop) for stop in stops],
        "accuracy": [accuracy(right, stop) for right, stop in pairs],
        "risk": [risk(right, stop, *costs(*cost)) for right, stop in pairs],
    }
    found: dict[str, Any] = {}
    for key, values in measured.items():
        found[key] = float(np.mean(values))
        found[f"{key}_std"] = plain(np.std(values, ddof=1)) if len(values) > 1 else None
    return found
