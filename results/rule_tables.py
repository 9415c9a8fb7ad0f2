"""Every rule of a study at the paper's 42 pairs of costs, from predictions or kept numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from deferral import predictions
from deferral.compare import Comparison, compare
from deferral.risk import PAPER_COSTS
from figures import ceiling
from figures.tables import spread
from results.text import DASH, interval, markdown, number, plus_minus, read

Entry = dict[str, Any]
DRAWS = 400


def compared(folder: Path) -> tuple[Comparison, list[list[float]]]:
    """The comparison of a study's runs on PAPER_COSTS, and each run's accuracy of each stage."""
    return _compared(folder.resolve())


@cache
def _runs(folder: Path) -> list[predictions.Predictions]:
    return [predictions.load(path) for path in predictions.find(folder)]


@cache
def _compared(folder: Path) -> tuple[Comparison, list[list[float]]]:
    runs = _runs(folder)
    alone = [run.part("test").correct.mean(1, dtype=np.float64).tolist() for run in runs]
    return compare(runs, PAPER_COSTS, DRAWS), alone


def means(comparison: Comparison) -> list[Entry]:
    """The rows of `Comparison.rows` that are means over the costs, with each rule's `label`."""
    rows = [row for row in comparison.rows() if row["cost_1"] is None]
    return [row | {"label": rule.label} for row, rule in zip(rows, comparison.rules, strict=True)]


def rules(rows: list[Entry]) -> str:
    """Mean risk of every rule, against the best threshold, and how much of the gap it closes.

    rows: of `means`. The gap is that between the best threshold and the oracle, in risk.
    """
    risk = {row["rule"]: row["risk"] for row in rows}
    reference = rows[0]["reference"]
    threshold, oracle = risk[reference], risk["oracle"]
    cells = []
    for row in sorted(
        (row for row in rows if row["risk"] is not None),
        key=lambda row: (row["rule"] == "oracle", row["risk"]),
    ):
        distance = f"{number(row['difference'], 4, True)} ({interval(row['low'], row['high'], 4)})"
        cells.append(
            [
                row["label"],
                plus_minus(row["risk"], row["risk_std"], 4),
                number(row["reject_rate"], 1, scale=100),
                number(row["accuracy"], 1, scale=100),
                DASH if row["rule"] == reference else distance,
                number((threshold - row["risk"]) / (threshold - oracle), 1, True, 100),
            ]
        )
    heads = ["rule", "mean risk of 42", "sent %", "accuracy %", "to the best threshold"]
    return markdown([*heads, "of the way to the oracle %"], cells)


def alone(accuracies: list[list[float]]) -> str:
    """Accuracy of the local net and the edge net by themselves, over runs."""
    local, edge = (
        spread(column, 2, 100) for column in zip(*((a[0], a[-1]) for a in accuracies), strict=True)
    )
    return f"Alone, on test: local net {local} %, server {edge} % ({len(accuracies)} runs)."


def study(published: Path, name: str) -> str:
    """Both, from the kept predictions of a study."""
    comparison, accuracies = compared(published / name)
    return f"{alone(accuracies)}\n\n{rules(means(comparison))}"


def report_rows(path: Path) -> list[Entry]:
    """Rows as of `means`, from a report: of studies whose predictions are too large to keep."""
    grid = read(path)["grid"]
    return [
        row
        | {"rule": row["name"], "reference": grid["best_confidence"]}
        | {key: row.get(f"difference_{key}") for key in ("low", "high")}
        for row in grid["rules"]
    ]


def of_report(path: Path, more: Sequence[Entry] = ()) -> str:
    """The same from a report, with more rows."""
    rows = report_rows(path)
    of = {row["rule"]: plus_minus(row["accuracy"], row["accuracy_std"], 2, 100) for row in rows}
    about = f"Alone, on test: local net {of['never']} %, server {of['always']} %."
    return f"{about}\n\n{rules([*rows, *more])}"


def _ceiling(folder: Path) -> list[Entry]:
    return ceiling.table(_runs(folder.resolve()), compared(folder)[0])


def behind_lite0(published: Path, name: str) -> str:
    """All rules from the report, and the students in the local net's place from predictions."""
    folder = published / f"{name}-lite0"
    students = [
        row
        | {"label": row["rule"], "reject_rate": row["sent"]}
        | {key: row[f"difference_{key}"] for key in ("low", "high")}
        for row in _ceiling(folder)
        if ceiling.STUDENT in row["rule"]
    ]
    return of_report(folder / f"{name}-report.json", students)


def ceilings(published: Path, name: str) -> str:
    """The table of figures/ceiling.py of a study, lowest risk last."""
    columns = [
        column for column in ceiling.COLUMNS if column.key not in ("risk_std", "low", "high")
    ]
    rows = []
    for row in _ceiling(published / name):
        gain = f"{number(row['gain'], 0, scale=100)} ({interval(row['low'], row['high'], 0, 100)})"
        std = None if row["risk_std"] is None or np.isnan(row["risk_std"]) else row["risk_std"]
        rows.append(
            [
                row["rule"],
                number(row["multiply_adds"]),
                plus_minus(row["risk"], std, 4),
                number(row["sent"], 1, scale=100),
                number(row["accuracy"], 1, scale=100),
                gain,
            ]
        )
    return markdown([column.head for column in columns], rows)


def people_server(published: Path, server: str) -> str:
    """The same for a person or the majority of people as the server, from the study's numbers."""
    found = read(published / "cifar10-people-server" / "people.json")["servers"][server]
    return f"{alone(found['alone'])}\n\n{rules(found['rows'])}"


def gains(
    settings: dict[str, list[Entry]], first: str, shown: dict[str, str], by_rule: bool = False
) -> str:
    """A row a setting: the risk that rules save against the best threshold, with intervals.

    settings: rows as of `means`, by the name that column `first` shows; shown: the rules and their
    heads; by_rule: a row a rule, instead. Beside a gain stands its share of the way from the best
    threshold to the oracle.
    """
    lines: list[list[str]] = []
    for name, rows in settings.items():
        of = {row["rule"]: row for row in rows}
        best = of[rows[0]["reference"]]["risk"]
        cells = []
        for row in (of.get(rule) for rule in shown):
            if row is None or row["risk"] is None:
                cells.append(DASH)
                continue
            gain = f"{number(-row['difference'], 4, True)} "
            gain += f"({interval(-row['high'], -row['low'], 4)})"
            way = -row["difference"] / (best - of["oracle"]["risk"])
            cells.append(f"{gain}, {number(way, 0, scale=100)} %")
        nets = [number(of[rule]["accuracy"], 1, scale=100) for rule in ("never", "always")]
        lines.append([name, *nets, number(best, 4), *cells])
    heads = [first, "local net %", "server %", "risk of the best threshold"]
    heads += [f"{label}: gain" for label in shown.values()]
    if by_rule:
        heads, *lines = map(list, zip(heads, *lines, strict=True))
    return markdown(heads, lines)


def when_it_pays(published: Path) -> str:
    """Gain of rules over the best threshold by regime."""
    regimes = read(published / "when-it-pays" / "when-it-pays.json")["regimes"]
    shown = {
        "post_hoc": "post-hoc estimates",
        "amortized, features": "amortized rejector",
        "stage_switching, features": "paper's loss, one a cost",
        "ceiling": "ceiling",
    }
    return gains({regime: found["rows"] for regime, found in regimes.items()}, "regime", shown)


def all_rules(published: Path) -> str:
    """Gain of rules over the best threshold by pair of networks, of what is published of it."""
    places = {
        "CIFAR-10, LeNet-5 and convnet": "all-rules/cifar10/compare/cifar10-report.json",
        "the same, LeNet-5 knows nine classes": "all-rules/noniid/compare/cifar10-report.json",
        "CIFAR-10, LeNet-5 and EfficientNet-Lite0": "cifar10-lite0/cifar10-report.json",
        "CIFAR-100, LeNet-5 and EfficientNet-Lite0": "cifar100-lite0/cifar100-report.json",
        "CIFAR-10, ResNet-20 and ResNet-56": "cifar10-resnets",
        "MNIST, LeNet-5 and convnet": "all-rules/mnist/compare/mnist-report.json",
    }
    settings = {}
    for name, place in places.items():
        if (path := published / place).is_file():
            settings[name] = report_rows(path)
        elif path.is_dir():
            settings[name] = means(compared(path)[0])
    shown = {
        "post_hoc": "post-hoc estimates",
        "stage_switching": "paper's rejector, with the edge net",
        "mozannar_sontag": "Mozannar-Sontag, with the edge net",
        "mozannar_sontag_centred": "the same, log-probabilities",
        "one_vs_all": "one-vs-all, with the edge net",
        "stage_switching, features": "paper's loss, linear, one a cost",
        "released, features": "released loss, linear, one a cost",
        "amortized, features": "amortized on features",
        "amortized, both": "amortized, with the image",
        "ceiling": "ceiling",
    }
    return gains(settings, "", shown, by_rule=True)
