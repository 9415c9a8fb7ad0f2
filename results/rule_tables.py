"""Every rule of a study at the paper's 42 pairs of costs, from its kept predictions."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from deferral import predictions
from deferral.compare import Comparison, compare
from figures import ceiling
from results.text import DASH, interval, markdown, number, plus_minus, read, spread

Row = dict[str, Any]
GRID = [(c_1, 0.025 * k) for c_1 in (1.0, 1.25) for k in range(21)]
DRAWS = 400


@cache
def compared(folder: Path) -> tuple[Comparison, list[list[float]]]:
    """The comparison of a study's runs on GRID, and the accuracy of each stage, a run each."""
    runs = [predictions.load(path) for path in predictions.find(folder)]
    alone = [run.part("test").correct.mean(1, dtype=np.float64).tolist() for run in runs]
    return compare(runs, GRID, DRAWS), alone


def rules(folder: Path) -> str:
    """`rules_table` of a study's kept predictions."""
    comparison, _ = compared(folder)
    against = comparison.against()
    rows: list[Row] = [
        {
            "name": rule.name,
            "label": rule.label,
            "risk": comparison.risk[r, -1],
            "risk_std": comparison.risk_std[r, -1],
            "reject_rate": comparison.reject_rate[r, -1],
            "accuracy": comparison.accuracy[r, -1],
            "difference_low": against.low[r, -1],
            "difference_high": against.high[r, -1],
        }
        for r, rule in enumerate(comparison.rules)
    ]
    return rules_table([row for row in rows if not np.isnan(row["risk"])], against.reference)


def known(std: float | None) -> float | None:
    """A standard deviation; None where there is one run."""
    return None if std is None or np.isnan(std) else std


def rules_table(rows: list[Row], reference: str) -> str:
    """Mean risk of every rule, against the best threshold, and how much of the gap it closes.

    The gap is that between the best threshold and the oracle, in risk. Rows are those of a report.
    """
    risks = {row["name"]: row["risk"] for row in rows}
    threshold, oracle = risks[reference], risks["oracle"]
    cells = []
    for row in sorted(rows, key=lambda row: (row["name"] == "oracle", row["risk"])):
        risk = row["risk"]
        low, high = row["difference_low"], row["difference_high"]
        difference = f"{number(risk - threshold, 4, True)} ({interval(low, high, 4)})"
        cells.append(
            [
                row["label"],
                plus_minus(risk, known(row["risk_std"]), 4),
                number(row["reject_rate"], 1, scale=100),
                number(row["accuracy"], 1, scale=100),
                DASH if row["name"] == reference else difference,
                number((threshold - risk) / (threshold - oracle), 1, True, 100),
            ]
        )
    heads = ["rule", "mean risk of 42", "sent %", "accuracy %", "to the best threshold"]
    return markdown([*heads, "of the way to the oracle %"], cells)


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


def l2h_cifar10(published: Path) -> str:
    """The same of the paper's protocol, from its report: its predictions are too large to keep."""
    grid = read(published / "l2h-cifar10" / "l2h-cifar10-report.json")["grid"]
    rows = [row for row in grid["rules"] if row["risk"] is not None]
    of = {row["name"]: plus_minus(row["accuracy"], row["accuracy_std"], 2, 100) for row in rows}
    about = f"Alone, on test: local net {of['never']} %, server {of['always']} %."
    return f"{about}\n\n{rules_table(rows, grid['best_confidence'])}"


def cifar10_ceiling(published: Path) -> str:
    """The table of figures/ceiling.py, lowest risk last."""
    paths = predictions.find(published / "cifar10-ceiling")
    columns = [
        column for column in ceiling.COLUMNS if column.key not in ("risk_std", "low", "high")
    ]
    rows = []
    for row in ceiling.table([predictions.load(path) for path in paths], DRAWS):
        gain = f"{number(row['gain'], 0, scale=100)} ({interval(row['low'], row['high'], 0, 100)})"
        rows.append(
            [
                row["rule"],
                number(row["multiply_adds"]),
                plus_minus(row["risk"], known(row["risk_std"]), 4),
                number(row["sent"], 1, scale=100),
                number(row["accuracy"], 1, scale=100),
                gain,
            ]
        )
    return markdown([column.head for column in columns], rows)
