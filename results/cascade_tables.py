"""Tables of learning to help, and of exits with a server behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from deferral.summary import setting_name
from figures.tables import spread
from results.text import (
    DASH,
    interval,
    markdown,
    number,
    plus_minus,
    read,
    summaries,
)

Entry = dict[str, Any]
SIMPLE = ("rejector", "never", "always", "random", "confidence", "oracle")


def digits(published: Path) -> str:
    """Risk by rule at every pair of costs with S = 1."""
    frame = summaries(published / "digits")
    rows = []
    for (cost_1, cost_e), at in frame[frame.async_freq == 1].groupby(["cost_1", "cost_e"]):
        shares = [spread(at[column], 1, 100) for column in ("reject_rate", "accuracy")]
        risks = [spread(at[f"risk_{name}"], 3) for name in SIMPLE]
        rows.append([f"{cost_1:g}", f"{cost_e:g}", *shares, *risks])
    return markdown(["c_1", "c_e", "reject %", "accuracy %", *SIMPLE], rows)


def digits_mean(published: Path) -> str:
    """Mean risk over all settings, and how often the rejector's is below each other rule's."""
    frame = summaries(published / "digits")
    rows = []
    for name in SIMPLE:
        below = (frame.risk_rejector < frame[f"risk_{name}"]).sum()
        wins = f"{below} of {len(frame)}" if name not in ("rejector", "oracle") else ""
        rows.append([name, spread(frame.groupby("run")[f"risk_{name}"].mean(), 3), wins])
    settings = len(frame) // frame.run.nunique()
    return markdown(["rule", f"mean risk over {settings} settings", "rejector below it"], rows)


def rule_named(rules: list[Entry], name: str) -> Entry:
    return next((rule for rule in rules if rule["name"] == name), {})


def at_costs(report: Entry, cost_1: float, cost_e: float) -> list[Entry]:
    """The rules of a report at one of its pairs of costs."""
    pair = (cost_1, cost_e)
    return next(x["rules"] for x in report["settings"] if (x["cost_1"], x["cost_e"]) == pair)


def risk(rule: Entry, digits: int) -> str:
    return plus_minus(rule.get("risk"), rule.get("risk_std"), digits)


def difference(rule: Entry, digits: int) -> str:
    """+0.0132 (+0.0112 to +0.0153) worse; "" for the rule that differences are to."""
    if rule.get("difference") is None:
        return ""
    low, high = rule["difference_low"], rule["difference_high"]
    if low == high == 0:
        return ""
    verdict = rule.get("difference_verdict") or ""
    value = number(rule["difference"], digits, True)
    return f"{value} ({interval(low, high, digits)}) {verdict}".strip()


def noniid(published: Path) -> str:
    """A local net that has never seen a class: risk at one pair of costs and on the mean."""
    report = read(published / "digits-noniid" / "report.json")
    rows = []
    here = at_costs(report, 1.25, 0.25)
    for rule in sorted(report["grid"]["rules"], key=lambda r: (r["kind"] == "oracle", r["risk"])):
        one = rule_named(here, rule["name"])
        cells = [risk(one, 3), difference(one, 3), risk(rule, 3), difference(rule, 3)]
        rows.append([f"`{rule['name']}`", *cells])
    best = rule_named(report["grid"]["rules"], report["grid"]["best_confidence"])["label"]
    heads = ["rule", "risk at (1.25, 0.25)", "difference there"]
    return markdown([*heads, f"mean of {len(report['grid']['costs'])}", f"minus {best}"], rows)


def noniid_classes(published: Path) -> str:
    """Who is sent at (1.25, 0.25): the class never seen, and the others."""
    classes = pd.DataFrame(read(published / "digits-noniid" / "report.json")["classes"]["classes"])
    rows = []
    for label, part in (("never seen", classes[~classes.seen]), ("seen", classes[classes.seen])):
        names, total, sent = ", ".join(part["class"]), part.total.sum(), part.sent.sum()
        local, edge = (
            (part[column] * part.total).sum() / total
            for column in ("local_accuracy", "edge_accuracy")
        )
        cells = [number(x, 1, scale=100) for x in (sent / total, local, edge)]
        rows.append([f"{label} ({names})", total, sent, *cells])
    return markdown(["classes", "samples", "sent", "sent %", "local right %", "edge right %"], rows)


def digits_async(published: Path) -> str:
    """Refreshes, bytes and mean risk by S, with the link up and with an outage."""
    columns: dict[int | str, list[str]] = {}
    for kind in ("up", "outage"):
        frame = summaries(published / "digits-async" / kind)
        means = frame.groupby(["async_freq", "run"], sort=False).mean(numeric_only=True)
        for key, at in means.groupby(level=0, sort=False):
            columns.setdefault(key, []).extend(
                [
                    f"{at.refreshes.mean():.3g}"
                    if at.refreshes.mean() < 100
                    else number(at.refreshes.mean()),
                    number(at.bytes_sent.mean() / 1e6, 1),
                    spread(at.risk_rejector, 3),
                ]
            )
    heads = ["refreshes", "MB sent", "risk"]
    rows = [[setting_name(key).replace("|", r"\|"), *cells] for key, cells in columns.items()]
    return markdown(["refresh", *heads, *(f"{head}, outage" for head in heads)], rows)


def asynchronous(published: Path, study: str) -> str:
    """Accuracy, risk and bytes by costs and S, and the risk minus that of S = 1, synchronous."""
    frame = summaries(published / study / "async")
    rows = []
    for (cost_1, cost_e), at in frame.groupby(["cost_1", "cost_e"]):
        risks = at.pivot(index="run", columns="async_freq", values="risk_rejector")
        groups = at.groupby("async_freq", sort=False)
        for key, one in sorted(groups, key=lambda group: group[0] or float("inf")):  # 0 is |D|
            rows.append(
                [
                    f"({cost_1:g}, {cost_e:g})",
                    setting_name(key).replace("|", r"\|"),
                    spread(one.accuracy, 2, 100),
                    spread(one.reject_rate, 1, 100),
                    spread(one.risk_rejector, 4),
                    DASH if key == 1 else spread(risks[key] - risks[1], 4),
                    number(one.bytes_sent.mean() / 1e6, 1),
                ]
            )
    heads = [
        "(c_1, c_e)",
        "refresh",
        "accuracy %",
        "sent %",
        "risk",
        "minus S = 1",
        "MB of refreshes",
    ]
    return markdown(heads, rows)


def exits_and_server(published: Path, cost_1: float) -> str:
    """Risk of every rule on the mean over c_e, and what it sends and computes."""
    study = published / "cifar10-exits-and-server"
    path = study / f"cost_1-{cost_1:g}" / "cifar10-exits_and_server.csv"
    rows, rival = [], ""
    for one in pd.read_csv(path).to_dict("records"):
        reference = one["low"] == one["high"] == 0
        rival = one["label"] if reference else rival
        change = f"{number(one['difference'], 4, True)} ({interval(one['low'], one['high'], 4)})"
        rows.append(
            [
                NAMES.get(one["label"], one["label"]),
                plus_minus(one["risk"], one["risk_std"], 4),
                "" if reference else change,
                "" if reference or one["label"] == "oracle" else one["verdict"],
                number(one["sent"], 1, scale=100),
                number(one["accuracy"], 1, scale=100),
                number(one["multiply_adds"], 2, scale=1e-6),
            ]
        )
    heads = ["rule", "risk", f"minus {rival}", "verdict", "sent %", "right %"]
    return markdown([*heads, "multiply-adds, 1e6"], rows)


# What the labels of figures/exits_and_server.py mean.
NAMES = {
    "never": "last exit alone",
    "always": "server always",
    "exit 1": "exit 1 alone",
    "exit 2": "exit 2 alone",
    "exit 3": "exit 3 alone",
    "exit 4": "exit 4 alone",
    "exits only": "exits, never asking",
    "max softmax": "max softmax at exits and for the server",
    "margin": "margin at exits and for the server",
    "entropy": "entropy at exits and for the server",
    "optimum": "optimum (dynamic programming)",
    "amortized, features": "rejector on the last features",
    "oracle": "oracle (sees labels)",
}
