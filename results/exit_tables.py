"""Tables of texts that leave a network early, from kept predictions."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from deferral import exits, predictions
from deferral.metrics import beside_accuracy
from deferral.predictions import Predictions
from figures.tables import spread
from results.study_tables import METHODS
from results.text import markdown

WORDS = {"accuracy": "accuracy %", "f1": "F1 %", "matthews": "Matthews × 100"}
KEPT = 0.99  # share of the last exit's score


def runs_of(folder: Path) -> dict[tuple[str, str], list[Predictions]]:
    """The runs of TASK/METHOD/seed-N, by task and method, in the order of tasks' names."""
    found = defaultdict(list)
    for path in predictions.find(folder):
        task, method = path.relative_to(folder).parts[:2]
        found[task, method].append(predictions.load(path))
    return dict(sorted(found.items(), key=lambda item: (item[0][0], [*METHODS].index(item[0][1]))))


def score(run: Predictions, stop: np.ndarray, name: str) -> float:
    """A metric of the answers of exits stop [N]: accuracy, f1 or matthews."""
    answers = run.stage_logits.argmax(-1)[stop, np.arange(len(stop))]
    if name == "accuracy":
        return float((answers == run.labels).mean())
    return beside_accuracy([name], run.labels, answers)[name]


def glue_minilm(published: Path) -> str:
    """Accuracy of every exit on test, and F1 or Matthews' correlation where the task has it."""
    rows, count = [], 0
    for (task, method), runs in runs_of(published / "glue-minilm").items():
        count = len(runs[0].stage_logits)
        for name in dict.fromkeys(["accuracy", *runs[0].settings["metrics"]]):
            tests = [run.part("test") for run in runs]
            cells = [
                spread((score(t, np.full(len(t.labels), k), name) for t in tests), 1, 100)
                for k in range(count)
            ]
            rows.append([task, METHODS[method], len(runs), WORDS[name], *cells])
    return markdown(["task", "method", "n", "", *(f"exit {k + 1}" for k in range(count))], rows)


def cheapest(run: Predictions, name: str) -> np.ndarray:
    """The thresholds [E] of least cost that keep KEPT of the last exit's score, all on val.

    Out of the budgeted points, all at the first exit, and all at the last, which always does.
    """
    val, count = run.part("val"), len(run.stage_logits)
    sure = exits.confidence(val.stage_logits)
    q = exits.q_of_points()
    ends = np.full((2, count), np.inf)
    ends[0, 0] = ends[:, -1] = -np.inf
    thresholds = np.concatenate([ends, exits.fit_thresholds(sure, exits.shares(q, count))])
    stop = exits.stops(sure, thresholds)
    cost = exits.spent(stop, val.correct, run.settings["multiply_adds"])[2]
    scores = np.array([score(val, one, name) for one in stop])
    enough = scores >= KEPT * scores[1]
    enough[1] = True
    return thresholds[np.where(enough, cost, np.inf).argmin()]


def glue_minilm_speed_up(published: Path) -> str:
    """Multiply-adds of all exits over those of early exits that keep KEPT of the score on val."""
    rows = []
    for (task, method), runs in runs_of(published / "glue-minilm").items():
        name = runs[0].settings["metrics"][-1]
        last, early, faster = [], [], []
        for run in runs:
            test, adds = run.part("test"), run.settings["multiply_adds"]
            stop = exits.stops(exits.confidence(test.stage_logits), cheapest(run, name)[None])
            last.append(score(test, np.full(len(test.labels), len(adds) - 1), name))
            early.append(score(test, stop[0], name))
            faster.append(adds[-1] / float(exits.spent(stop, test.correct, adds)[2][0]))
        cells = [spread(last, 1, 100), spread(early, 1, 100), spread(faster, 2)]
        rows.append([task, METHODS[method], len(runs), WORDS[name], *cells])
    heads = [
        "task",
        "method",
        "n",
        "score",
        "last exit",
        "early exit",
        "fewer multiply-adds, times",
    ]
    return markdown(heads, rows)
