"""Thresholds with a guaranteed reject rate or risk, for the rule that a report shows."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deferral import calibrate, rules, simulated
from deferral.decide import ScoredDecision, prepared
from deferral.held_out import HeldOut, held_out
from deferral.predictions import Predictions
from deferral.report.numbers import plain, spread
from deferral.risk import Costs, Pair, accuracy, risk, send_rate

Stages = tuple[np.ndarray, Costs]  # correct [2, N] and costs, of `Prepared.as_two`

RATES = (0.1, 0.2, 0.3, 0.4, 0.5)  # promised in every report
SPLITS = 200


def rate_promises(
    runs: Sequence[Predictions],
    cost: Pair,
    name: str,
    rates: Sequence[float],
    delta: float,
) -> dict[str, Any]:
    """Promises of `rates` for one rule: results on test (mean over runs), and a simulation.

    The rule is fitted on other val rows than those that the promise is made from (`held_out`).
    at: per rate max_rate, threshold (of the first run; None: none or all are sent), reject_rate,
    accuracy and risk on test with their _std, and `simulated`: the result of
    `simulated.simulate` over SPLITS splits of the first run's test rows.
    """
    held = [held_out(run, cost, name) for run in runs]
    decisions = [one.decision for one in held]
    on_test = [prepared(run).as_two(d, *cost) for run, d in zip(runs, decisions, strict=True)]
    rows = []
    for rate in rates:
        cuts = [rate_cut(one, rate, delta) for one in held]
        row = {"max_rate": float(rate), "threshold": plain(cuts[0])}
        row |= _on_test(decisions, on_test, cuts)
        row["simulated"] = simulated.simulate(
            decisions[0].score,
            *on_test[0],
            max_rate=float(rate),
            delta=delta,
            splits=SPLITS,
        )
        rows.append(row)
    return {"rule": name, "delta": delta, "splits": SPLITS, "at": rows}


def rate_cut(held: HeldOut, max_rate: float, delta: float) -> float:
    """`calibrate.reject_rate_threshold` of the rows held out; +inf where there is none."""
    if not held.rows.size:
        return math.inf
    return calibrate.reject_rate_threshold(held.score, max_rate, delta)


def risk_cut(held: HeldOut, max_risk: float, delta: float, highest: float) -> float | None:
    """`calibrate.risk_threshold` of the rows held out; None where no threshold is safe."""
    if held.rows.size < 2:
        return None
    right, price = held.two
    return calibrate.risk_threshold(held.score, right, *price, max_risk, delta, highest=highest)


def highest_cost(run: Predictions, cost: Pair) -> float:
    """The highest cost of a sample: an exit at which no val sample stops has a cost, too."""
    query, error = prepared(run).price(*cost)
    return float((query.T + error.T).max())


def _on_test(
    decisions: list[ScoredDecision], on_test: list[Stages], cuts: list[float]
) -> dict[str, Any]:
    """Reject rate, accuracy and risk on test at these thresholds: means over runs, with _std."""
    stops = [rules.threshold(d.score, t) for d, t in zip(decisions, cuts, strict=True)]
    pairs = list(zip(on_test, stops, strict=True))
    measured = {
        "reject_rate": [send_rate(stop) for stop in stops],
        "accuracy": [accuracy(right, stop) for (right, _), stop in pairs],
        "risk": [risk(right, stop, *price) for (right, price), stop in pairs],
    }
    return spread({key: np.array(values) for key, values in measured.items()})
