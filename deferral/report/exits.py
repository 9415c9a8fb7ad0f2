"""A report on a device with exits: what the exits cost and get right, and who leaves at which."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deferral.catalogue import Look
from deferral.decide import decide, prepared
from deferral.predictions import Predictions
from deferral.report.html import Cell, paragraph, table, with_key
from deferral.report.numbers import plain
from deferral.report.words import number, spread, thousands
from deferral.risk import Pair


def exit_numbers(runs: Sequence[Predictions], cost: Pair, names: Sequence[str]) -> dict[str, Any]:
    """What the exits cost, their accuracy, and the stops of the rules in `names`, on test.

    stages: a row an exit, and the server's last: exit (None: the server), multiply_adds and cost
    (in local errors, up to there; the server's with c_e), accuracy with its _std. rules: name,
    shares [E] of the samples that each exit answers, sent, and multiply_adds of the device a sample
    (all of it for what is sent): means over runs, with their _std. Empty for a device of a single
    exit, of which there is nothing to tell.
    """
    first = prepared(runs[0])
    if not first.last:
        return {}
    adds = np.array(runs[0].settings["multiply_adds"])
    right = np.array([prepared(run).correct_test.mean(1) for run in runs])
    query, _ = first.price(*cost)
    stages = [
        {
            "exit": k + 1 if k <= first.last else None,
            "multiply_adds": int(adds[k]) if k <= first.last else None,
            "cost": float(query[k]),
            **_spread({"accuracy": right[:, k]}),
        }
        for k in range(len(query))
    ]
    rows = []
    for name in names:
        stops = [prepared(run).stage(decide(run, *cost)[name]) for run in runs]
        shares = np.array([np.bincount(stop, minlength=len(query)) / len(stop) for stop in stops])
        spent = shares @ np.append(adds, adds[-1])
        measured = {"shares": shares[:, :-1], "sent": shares[:, -1], "multiply_adds": spent}
        rows.append({"name": name} | _spread(measured))
    flops = float(runs[0].settings.get("cost_flops", 0))
    return {"cost_flops": flops, "stages": stages, "rules": rows}


def exits(report: dict[str, Any], looks: dict[str, Look]) -> str:
    """Section of the page: two tables of `exit_numbers`."""
    numbers, runs = report["exits"], report["data"]["runs"]
    setting = report["settings"][0]
    flops, count = numbers["cost_flops"], len(numbers["stages"]) - 1
    price = (
        f"A multiply-add of the device costs {flops:g} local errors (cost_flops)."
        if flops
        else "Computing on the device costs nothing here (cost_flops is 0), so that a later exit "
        "is as cheap as the first; --cost_flops gives it a price."
    )
    parts = [
        paragraph(
            f"The device has {count} exits. A sample passes them in order, and stops at one or is "
            f"sent after the last. {price}"
        )
    ]
    cells: list[list[Cell]] = []
    for row in numbers["stages"]:
        name = "server" if row["exit"] is None else f"exit {row['exit']}"
        line: list[Cell] = [name, thousands(row["multiply_adds"]), number(row["cost"], 4)]
        cells.append([*line, spread(row, "accuracy", runs, 1, 100)])
    head: list[Cell] = ["stage", "multiply-adds", f"cost, cₑ = {setting['cost_e']:g}"]
    apart = ["apart" if row["exit"] is None else "" for row in numbers["stages"]]
    parts.append(table([*head, "right\u00a0%"], cells, row_class=apart))
    parts.append("<h3>Where samples stop</h3>")
    labels = {row["name"]: row["label"] for row in setting["rules"]}
    cells = []
    for row in numbers["rules"]:
        name = with_key(looks.get(row["name"]), labels[row["name"]])
        shares = [number(100 * share, 1) for share in row["shares"]]
        cells.append(
            [name, *shares, spread(row, "sent", runs, 1, 100), thousands(row["multiply_adds"])]
        )
    at = [f"exit {k + 1}" for k in range(count)]
    parts.append(table(["rule", *at, "sent\u00a0%", "multiply-adds"], cells))
    note = (
        "Share of the test samples that each exit answers, in %, and mean multiply-adds of the "
        f"device a sample, at c₁ = {setting['cost_1']:g}, cₑ = {setting['cost_e']:g}."
    )
    parts.append(paragraph(note, "note"))
    return "".join(parts)


def _spread(measured: dict[str, np.ndarray]) -> dict[str, Any]:
    """Mean over runs of each, [S, ...], and its standard deviation (n - 1), None of one run."""
    found: dict[str, Any] = {}
    for key, values in measured.items():
        found[key] = plain(values.mean(0))
        deviation = values.std(0, ddof=1) if len(values) > 1 else values[0] * np.nan
        found[f"{key}_std"] = plain(deviation)
    return found
