"""Every rule of a study at the paper's 42 pairs of costs, from its kept predictions."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from deferral import predictions
from deferral.compare import Comparison, compare
from results.text import interval, markdown, number, plus_minus, spread

GRID = [(c_1, 0.025 * k) for c_1 in (1.0, 1.25) for k in range(21)]
DRAWS = 400


@cache
def compared(folder: Path) -> tuple[Comparison, list[list[float]]]:
    """The comparison of a study's runs on GRID, and the accuracy of each stage, a run each."""
    runs = [predictions.load(path) for path in predictions.find(folder)]
    alone = [run.part("test").correct.mean(1, dtype=np.float64).tolist() for run in runs]
    return compare(runs, GRID, DRAWS), alone


def rules(folder: Path) -> str:
    """Mean risk of every rule, against the best threshold, and how much of the gap it closes.

    The gap is that between the best threshold and the oracle, in risk.
    """
    comparison, _ = compared(folder)
    against = comparison.against()
    names = [rule.name for rule in comparison.rules]
    mean, std = comparison.risk[:, -1], comparison.risk_std[:, -1]
    threshold, oracle = (mean[names.index(n)] for n in (against.reference, "oracle"))
    rows = []
    for r in sorted(range(len(names)), key=lambda r: (names[r] == "oracle", mean[r])):
        if np.isnan(mean[r]):
            continue
        low, high = against.low[r, -1], against.high[r, -1]
        same = names[r] == against.reference
        rows.append(
            [
                comparison.rules[r].label,
                plus_minus(mean[r], None if np.isnan(std[r]) else std[r], 4),
                number(comparison.reject_rate[r, -1], 1, scale=100),
                number(comparison.accuracy[r, -1], 1, scale=100),
                "–"
                if same
                else f"{number(mean[r] - threshold, 4, True)} ({interval(low, high, 4)})",
                number((threshold - mean[r]) / (threshold - oracle), 1, True, 100),
            ]
        )
    heads = ["rule", "mean risk of 42", "sent %", "accuracy %", "to the best threshold"]
    return markdown([*heads, "of the way to the oracle %"], rows)


def alone(folder: Path) -> str:
    """Accuracy of the local net and the edge net by themselves, over runs."""
    _, accuracies = compared(folder)
    local, edge = (
        spread(column, 2, 100) for column in zip(*((a[0], a[-1]) for a in accuracies), strict=True)
    )
    return f"Alone, on test: local net {local} %, server {edge} % ({len(accuracies)} runs)."


def cifar10_resnets(published: Path) -> str:
    folder = published / "cifar10-resnets"
    return f"{alone(folder)}\n\n{rules(folder)}"


def cifar10_lite0(published: Path) -> str:
    folder = published / "cifar10-lite0"
    return f"{alone(folder)}\n\n{rules(folder)}"
