"""Tables of networks with exits, and of active learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from figures.tables import spread
from results.text import DASH, interval, markdown, number, read

Entry = dict[str, Any]
METHODS = {"base": "base", "l2w": "L2W", "boosted": "boosted"}


def evaluations(folder: Path) -> dict[str, list[Entry]]:
    """Results of early_exit.eval by method, one a seed."""
    found = {m: [read(p) for p in sorted(folder.glob(f"{m}/*/*-eval.json"))] for m in METHODS}
    return {method: runs for method, runs in found.items() if runs}


def exit_accuracy(published: Path, folder: str) -> str:
    """Accuracy of each exit, at half the cost and on average, by method."""
    rows, exits = [], 0
    for method, runs in evaluations(published / folder).items():
        exits = len(runs[0]["anytime"])
        of_exits = zip(*([x["accuracy"] for x in run["anytime"]] for run in runs), strict=True)
        cells = [spread(accuracies, 1, 100) for accuracies in of_exits]
        half = spread((run["at_share"]["0.5"] for run in runs), 1, 100)
        area = spread((run["area"] for run in runs), 1, 100)
        rows.append([METHODS[method], len(runs), *cells, half, area])
    heads = ["method", "n", *(f"exit {k + 1}" for k in range(exits))]
    return markdown([*heads, "budgeted, 50 % of the cost", "area"], rows)


def optimism(published: Path, folder: str) -> str:
    """What thresholds fitted on each split promise there and deliver on test."""
    rows = []
    for method, runs in evaluations(published / folder).items():
        frames = [pd.DataFrame(run["optimism"]).groupby("fitted_on", sort=False) for run in runs]
        means = [frame.mean() for frame in frames]
        furthest = [frame.above_clean_curve.agg(lambda x: x.abs().max()) for frame in frames]
        for split in means[0].index:
            of_runs = [mean.loc[split] for mean in means]
            promised = [mean.promised_accuracy for mean in of_runs]
            delivered = [mean.accuracy for mean in of_runs]
            gap = np.subtract(promised, delivered)
            cost = [mean.multiply_adds / mean.promised_multiply_adds - 1 for mean in of_runs]
            shares = [spread(x, 2, 100) for x in (promised, delivered, gap, cost)]
            curve = spread((one[split] for one in furthest), 2, 100)
            rows.append([METHODS[method], len(runs), split, *shares, curve])
    heads = ["method", "n", "fitted on", "promised %", "delivered %"]
    heads += [
        "promised − delivered, points",
        "cost beyond promise %",
        "largest distance to val's curve, points",
    ]
    return markdown(heads, rows)


def active(published: Path) -> Entry:
    return read(published / "mnist-active" / "mnist10k-4-methods.json")


def mnist_active(published: Path) -> str:
    """Accuracy and cascade risk by query method, and the difference to random."""
    rows = []
    for method, one in active(published)["methods"].items():
        cells = [spread(one[key], 2, 100) for key in ("top1", "last", "worst", "unseen")]
        cells.append(spread(one["risk"], 4))
        versus = one["versus_random"].get("top1")
        if versus:
            low, high = (number(versus[key], 2, True, 100) for key in ("low", "high"))
            cells += [f"{number(versus['difference'], 2, True, 100)} ({low} to {high})"]
            p = versus.get("p_holm")
            cells += [versus["verdict"], DASH if p is None else number(p, 3)]
        else:
            cells += [DASH] * 3
        seconds = number(one["train_seconds"], 1), number(one["select_seconds"], 2)
        rows.append([f"`{method}`", len(one["seeds"]), *cells, *seconds])
    heads = ["method", "n", "top-1 % mean", "last round", "worst target", "unseen targets", "risk"]
    heads += ["minus random, points", "verdict", "p (Holm)", "s to train", "s to select"]
    return markdown(heads, rows)


def mnist_active_risk(published: Path) -> str:
    """The cascade's risk under each method minus random's."""
    rows = []
    for method, one in active(published)["methods"].items():
        if versus := one["versus_random"].get("risk"):
            change = f"{number(versus['difference'], 4, True)} "
            change += f"({interval(versus['low'], versus['high'], 4)})"
            rows.append([f"`{method}`", len(one["seeds"]), change, versus["verdict"]])
    return markdown(["method", "n", "risk minus random's", "verdict"], rows)


def mnist_active_targets(published: Path) -> str:
    """Top-1 of each target in the last round; of an unseen one, the mean over rounds."""
    study = active(published)
    last = str(study["rounds"][-1])
    rows = []
    for method, one in study["methods"].items():
        runs = one["runs"].values()
        ends = zip(*(run[last]["top1"] for run in runs), strict=True)
        unseen = zip(
            *(np.mean([r["unseen_top1"] for r in run.values()], axis=0) for run in runs),
            strict=True,
        )
        rows.append([f"`{method}`", *(spread(x, 1, 100) for x in (*ends, *unseen))])
    unseen_heads = [f"{name} (unseen, mean)" for name in study["unseen_nets"]]
    return markdown(["method", *study["targets"], *unseen_heads], rows)


def mnist_kmnist_active(published: Path) -> str:
    """Mean top-1 over the targets and the cascade's risk by query method, a table a committee."""
    parts = []
    for path in sorted((published / "mnist-kmnist-active").rglob("*-methods.json")):
        study, rows = read(path), []
        for method, one in study["methods"].items():
            cells = [spread(one[key], 2, 100) for key in ("top1", "last", "worst")]
            cells += [
                _versus(one["versus_random"], "top1", 2, 100),
                _versus(one["versus_margin"], "top1", 2, 100),
                spread(one["risk"], 4),
                _versus(one["versus_margin"], "risk", 4),
            ]
            rows.append([f"`{method}`", len(one["seeds"]), *cells])
        heads = ["method", "n", "top-1 % mean", "last round", "worst target"]
        heads += ["minus random, points", "minus margin, points", "risk", "risk minus margin's"]
        table = markdown(heads, rows)
        parts.append(f"{study['dataset']}, {', '.join(study['targets'])}:\n\n{table}")
    return "\n\n".join(parts)


def _versus(versus: Entry, measure: str, digits: int, scale: float = 1) -> str:
    """A difference with its bootstrap interval; a dash where the method is the reference."""
    if measure not in versus:
        return DASH
    one = versus[measure]
    shown = number(one["difference"], digits, True, scale)
    return f"{shown} ({interval(one['low'], one['high'], digits, scale)})"
