"""The README's table of claims: what the four papers say, what was measured here, what holds.

A verdict is computed from an interval of 95 %: a claim holds if the difference lies on its side of
zero with the whole interval, does not hold if on the other, and otherwise was not shown.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from active_learning.over_seeds import t_interval
from deferral import predictions
from results import cascade_tables as cascade
from results import rule_tables
from results.folders import machines
from results.study_tables import active, evaluations
from results.text import DASH, interval, markdown, number, read, summaries

Entry = dict[str, Any]
HEADS = [
    "claim",
    "paper's numbers",
    "our setting",
    "our difference (95 % interval)",
    "seeds",
    "holds",
    "command",
]
STUDIES = (  # that the table reads
    "digits-noniid",
    "all-rules",
    "digits-async",
    "cifar10-async",
    "when-it-pays",
    "mnist-active",
    "cifar10-msdnet",
    "cifar10-ceiling",
    "cifar10-lite0",
    "cifar10-resnets",
    "cifar10-people-server",
    "cifar10-exits-and-server",
)


def claims(published: Path) -> str:
    """A row a claim: the paper's numbers, our setting and difference, the verdict, the command."""
    rows = [
        *_learning_to_help(published),
        *_asynchronous(published),
        *_exits(published),
        *_active_learning(published),
        *_ours(published),
    ]
    hardware = dict.fromkeys(
        name
        for study in STUDIES
        if (published / study).exists()
        for name in machines(published / study)
    )
    measured = "; ".join(hardware).replace("1 threads", "one thread a run")
    return f"{markdown(HEADS, rows)}\n\nHardware: {measured}."


def verdict(low: float, high: float, lower: bool = True) -> str:
    """Whether a difference is on the claim's side of zero; lower: the claim is that it is below."""
    if not low <= 0 <= high:
        return "yes" if (high < 0) == lower else "**no**"
    return "not shown"


def _row(
    claim: str,
    theirs: str,
    setting: str,
    values: tuple[float, float, float],
    count: int,
    command: str,
    digits: int = 4,
    lower: bool = True,
) -> list[str]:
    """values: the difference and its interval."""
    middle, low, high = values
    shown = f"{number(middle, digits, True)} ({interval(low, high, digits)})"
    return [claim, theirs, setting, shown, str(count), verdict(low, high, lower), f"`{command}`"]


def _of(rows: list[Entry], name: str) -> tuple[float, float, float]:
    """A rule's risk minus the best threshold's, from rows of `rule_tables.means`."""
    row = next(row for row in rows if row["rule"] == name)
    return row["difference"], row["low"], row["high"]


def _learning_to_help(published: Path) -> list[list[str]]:
    claim = "L2H: a rejector trained on the paper's loss has a lower risk than the best threshold"
    theirs = "no threshold in the paper"
    report = read(published / "digits-noniid" / "report.json")["grid"]
    digits = cascade.rule_named(report["rules"], "stage_switching")
    values = tuple(digits[key] for key in ("difference", "difference_low", "difference_high"))
    count = len(predictions.find(published / "digits-noniid"))
    setting = "digits, one class unknown to the local net; edge net and rejectors trained together"
    rows = [_row(claim, theirs, setting, values, count, "bash runs/noniid.sh")]
    pair = published / "all-rules/cifar10/compare/cifar10-report.json"
    values = _of(rule_tables.report_rows(pair), "stage_switching")
    setting = "CIFAR-10, LeNet-5 and convnet; edge net and rejectors trained together, 8 epochs"
    count = read(pair)["data"]["runs"]
    rows.append(_row(claim, theirs, setting, values, count, "bash results/make.sh all-rules"))
    found = rule_tables.report_rows(published / "cifar10-lite0" / "cifar10-report.json")
    setting = "CIFAR-10, LeNet-5 and a fine-tuned EfficientNet-Lite0, fixed; rejectors on features"
    values = _of(found, "stage_switching, features")
    count = len(predictions.find(published / "cifar10-lite0"))
    rows.append(_row(claim, theirs, setting, values, count, "bash results/make.sh cifar10-lite0"))
    pays = read(published / "when-it-pays" / "when-it-pays.json")["regimes"]
    for regime, more in (("blind", "; two classes unknown to ResNet-20"), ("good", "")):
        setting = f"CIFAR-10, ResNet-20 and ResNet-56, fixed; rejectors on its features{more}"
        values = _of(pays[regime]["rows"], "stage_switching, features")
        count = len(pays[regime]["alone"])
        make = "bash results/make.sh when-it-pays"
        rows.append(_row(claim, theirs, setting, values, count, make))
    return rows


def _asynchronous(published: Path) -> list[list[str]]:
    """Risk with a copy refreshed every S = 100 batches, and once an epoch, minus that of S = 1."""
    rows, claim = [], "L2H: trained asynchronously"
    for folder, setting, command in (
        ("digits-async/up", "digits; the local net has not seen two classes", "train-async.sh"),
        (
            "cifar10-async/async",
            "CIFAR-10, LeNet-5 and convnet, 8 epochs",
            "results/make.sh cifar10-async",
        ),
    ):
        if not (published / folder).exists():
            continue
        frame = summaries(published / folder)
        risks = frame.pivot_table(index="run", columns="async_freq", values="risk_rejector")
        sent = frame.groupby("async_freq").bytes_sent.mean()
        for key, name in ((100, "S = 100"), (0, r"S = \|D\|")):
            middle, half = map(float, t_interval((risks[key] - risks[1]).to_numpy()))
            rows.append(
                _row(
                    f"{claim}, {name}, the risk is no higher than synchronously",
                    "figures only",
                    f"{setting}; {number(sent[key] / sent[1], 1, scale=100)} % of the bytes",
                    (middle, middle - half, middle + half),
                    len(risks),
                    f"bash {command}",
                )
            )
            if rows[-1][5] == "not shown":
                rows[-1][5] = "no difference shown"
    return rows


def _exits(published: Path) -> list[list[str]]:
    """l2w and boosted minus base, paired by seed; "not measured" with fewer than three seeds."""
    folder = published / "cifar10-msdnet"
    runs = evaluations(folder / "exits") if folder.exists() else {}
    by_seed = {m: {run["seed"]: run for run in found} for m, found in runs.items()}
    setting = "CIFAR-10, a small MSDNet with 5 exits, 20 epochs; points"
    measures: tuple[tuple[str, str, str, str, Callable[[Entry], float]], ...] = (
        (
            "l2w",
            "L2W: higher budgeted accuracy than base at the same cost, CIFAR-10",
            "base 92.0, l2w 92.3 % (300 epochs, 10 million multiply-adds)",
            f"{setting}, mean over all budgets",
            lambda run: run["area"],
        ),
        (
            "boosted",
            "boosted: higher accuracy than base at exit 1, CIFAR-100, MSDNet",
            "base 64.6, boosted 65.3 % (300 epochs)",
            setting,
            lambda run: run["anytime"][0]["accuracy"],
        ),
        (
            "boosted",
            "boosted: higher accuracy than base at the last exit",
            "base 76.0, boosted 76.3 % (exit 10)",
            setting,
            lambda run: run["anytime"][-1]["accuracy"],
        ),
    )
    rows = []
    for method, claim, theirs, ours, measure in measures:
        command = "bash results/make.sh cifar10-msdnet"
        seeds = sorted(set(by_seed.get(method, {})) & set(by_seed.get("base", {})))
        if len(seeds) < 3:
            rows.append([claim, theirs, DASH, "not run", DASH, "not measured", f"`{command}`"])
            continue
        pairs = [[100 * measure(by_seed[m][seed]) for m in (method, "base")] for seed in seeds]
        middle, half = map(float, t_interval(-np.diff(pairs).ravel()))
        values = middle, middle - half, middle + half
        rows.append(_row(claim, theirs, ours, values, len(seeds), command, 2, lower=False))
    return rows


def _active_learning(published: Path) -> list[list[str]]:
    one = active(published)["methods"]["DIAM"]
    versus = one["versus_random"]["top1"]
    return [
        _row(
            "DIAM: higher mean top-1 than random",
            "97.34 and 97.03 % (MNIST, 12 targets, 3,000 labels up, 1 seed)",
            "MNIST, 10,000 images, 4 small targets, 200 to 600 labels; points",
            (100 * versus["difference"], 100 * versus["low"], 100 * versus["high"]),
            len(one["seeds"]),
            "bash runs/iter_all.sh",
            2,
            lower=False,
        )
    ]


def _ours(published: Path) -> list[list[str]]:
    pays = read(published / "when-it-pays" / "when-it-pays.json")["regimes"]["blind"]
    people = read(published / "cifar10-people-server" / "people.json")["servers"]["person"]
    pair, rejector = "CIFAR-10, ResNet-20 and ", "amortized, features"
    large = "a rejector of as many multiply-adds as LeNet-5"
    found = [
        (study, setting, *rule_tables.compared(published / study))
        for study, setting in (
            ("cifar10-ceiling", f"CIFAR-10, LeNet-5 and convnet; {large}"),
            ("cifar10-lite0", "CIFAR-10, LeNet-5 and a fine-tuned EfficientNet-Lite0"),
            ("cifar10-resnets", f"{pair}ResNet-56, fixed"),
        )
    ]
    rows = [(study, text, rule_tables.means(of), alone) for study, text, of, alone in found]
    blind = f"{pair}ResNet-56, fixed; two classes unknown to ResNet-20"
    rows.insert(2, ("when-it-pays", blind, pays["rows"], pays["alone"]))
    rows.append(("cifar10-people-server", f"{pair}a person", people["rows"], people["alone"]))
    claim = "ours: one rejector for all costs has a lower risk than the best threshold"
    of_study = {"cifar10-ceiling": "amortized, both, large"}
    return [
        _row(
            claim,
            DASH,
            setting,
            _of(of, of_study.get(study, rejector)),
            len(alone),
            f"bash results/make.sh {study}",
        )
        for study, setting, of, alone in rows
    ] + [_exits_and_server(published)]


def _exits_and_server(published: Path) -> list[str]:
    """Risk of the thresholds that val prefers minus that of exits that never ask."""
    study = published / "cifar10-exits-and-server"
    table = pd.read_csv(study / "cost_1-1" / "cifar10-exits_and_server.csv", index_col="label")
    alone = table.loc["exits only"]
    rival = table.index[(table.low == 0) & (table.high == 0)][0]
    return _row(
        "ours: thresholds at exits and for a server behind them have a lower risk than exits alone",
        DASH,
        f"CIFAR-10, an MSDNet with 5 exits and a fine-tuned EfficientNet-Lite0; {rival}, c_1 = 1",
        (-alone.difference, -alone.high, -alone.low),
        len(list(study.rglob("args.json"))),
        "bash results/make.sh cifar10-exits-and-server",
    )
