"""One row per rejector setting: its results on test beside the rules that need no rejector."""

from typing import Any

import numpy as np

from deferral import rules
from deferral.catalogue import DOUBTS, SUMMARY
from deferral.npz_checks import tolerance
from deferral.predictions import Predictions
from deferral.risk import Pair, accuracy, costs, random_risk, risk, send_rate, stage_costs

COLUMNS = (
    "stem",
    "cost_1",
    "cost_e",
    "async_freq",
    "surrogate",
    "reject_rate",
    "accuracy",
    *(f"risk_{rule.key}" for rule in SUMMARY),
    "local_accuracy",
    "edge_accuracy",
    "kept_n",
    "kept_local_accuracy",
    "kept_edge_accuracy",
    "sent_n",
    "sent_local_accuracy",
    "sent_edge_accuracy",
)


class Baselines:
    """The rules of SUMMARY that need no rejector, on two stages; thresholds are fitted on val."""

    def __init__(
        self,
        logits_val: np.ndarray,
        correct_val: np.ndarray,
        logits_test: np.ndarray,
        correct_test: np.ndarray,
    ):
        """Local logits [N, K] and correct [2, N] of both splits. Sorts once for all costs."""
        self.correct_val, self.correct_test = correct_val, correct_test
        self.doubts = {}
        for rule in SUMMARY:
            if doubt := DOUBTS.get(rule.name):
                on_val = doubt(logits_val)
                order, _ = rules.cut_places(on_val)
                self.doubts[rule.key] = order, on_val[order], doubt(logits_test)

    def stops(self, cost_1: float, cost_e: float) -> dict[str, np.ndarray]:
        """stop [Nt] of never, always, every confidence rule and the oracle, by `Rule.key`."""
        cost, n = costs(cost_1, cost_e), self.correct_test.shape[1]
        local, remote = stage_costs(self.correct_val, *cost)
        stops = {"never": rules.never(n), "always": rules.always(n)}
        for key, (order, falling, on_test) in self.doubts.items():
            cut = rules.cheapest_cut(falling, (remote - local)[order])
            stops[key] = rules.threshold(on_test, cut)
        return stops | {"oracle": rules.oracle(self.correct_test, *cost)}


def baselines(predictions: Predictions) -> Baselines:
    """The `Baselines` of a file. ValueError unless it has two stages, val and test rows."""
    if len(predictions.stage_logits) != 2:
        raise ValueError(f"{predictions.source}: a summary needs 2 stages, local and edge")
    val, test = predictions.part("val"), predictions.part("test")
    return Baselines(val.stage_logits[0], val.correct, test.stage_logits[0], test.correct)


def setting_name(async_freq: int | str) -> str:
    """The refresh rule of the rejector's copy of the edge: "S = 100", "S = |D|", "joint".

    "adaptive, 0.05": refresh when more than this share of its answers have changed.
    """
    share = tolerance(async_freq)
    if share is not None:
        return f"adaptive, {share:g}"
    return async_freq if isinstance(async_freq, str) else f"S = {async_freq or '|D|'}"


def summarise(predictions: Predictions) -> list[dict[str, Any]]:
    """A dict of COLUMNS, in that order, per rejector setting (none for an edge-only run).

    Thresholds are fitted on val, every reported number is measured on test. Rates and accuracies
    are shares, 0..1; risks are in units of one local error. `random` is the expectation at the
    rejector's reject rate; `confidence` the threshold on 1 - max softmax of the local net; other
    confidence rules of the catalogue have columns of their own names. kept_* and sent_* are
    measured on the samples that the rejector keeps and sends; nan without any. Values are Python's
    own str, int and float. ValueError unless E = 2 with val and test rows.
    """
    simple, test = baselines(predictions), predictions.part("test")
    everywhere = _stages(test.correct, "")
    no_rejector: dict[Pair, dict[str, float]] = {}
    rows = []
    for setting, score in zip(predictions.settings["rejectors"], test.scores, strict=True):
        pair = setting["cost_1"], setting["cost_e"]
        cost = costs(*pair)
        stop = rules.threshold(score, 0)
        rate = send_rate(stop)
        if pair not in no_rejector:
            stops = simple.stops(*pair)
            no_rejector[pair] = {k: risk(test.correct, s, *cost) for k, s in stops.items()}
        risks = no_rejector[pair] | {"rejector": risk(test.correct, stop, *cost)}
        risks["random"] = random_risk(test.correct, rate, *cost)
        values = {k: setting[k] for k in ("stem", "async_freq", "surrogate")}
        values |= {k: float(setting[k]) for k in ("cost_1", "cost_e")}
        values |= {"reject_rate": rate, "accuracy": accuracy(test.correct, stop)}
        values |= {f"risk_{key}": value for key, value in risks.items()}
        values |= everywhere
        values |= {"kept_n": int((stop == 0).sum()), "sent_n": int((stop == 1).sum())}
        values |= _stages(test.correct[:, stop == 0], "kept_")
        values |= _stages(test.correct[:, stop == 1], "sent_")
        rows.append({column: values[column] for column in COLUMNS})
    return rows


def _stages(correct: np.ndarray, prefix: str) -> dict[str, float]:
    """Accuracy of both nets on the same samples, correct [2, n]."""
    n = correct.shape[1]
    return {
        f"{prefix}local_accuracy": accuracy(correct, rules.never(n)),
        f"{prefix}edge_accuracy": accuracy(correct, rules.always(n)),
    }
