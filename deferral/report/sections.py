"""Sections of the page: curves and areas, thresholds with a guarantee, reliability."""

from typing import Any

from scipy.stats import binom

from deferral.catalogue import BOUNDS, Look
from deferral.report import charts
from deferral.report.html import Cell, figure, paragraph, table, with_key
from deferral.report.words import nets, number, percent, shown_label, spread

CURVES_OF_TWO = "Random sends any; the oracle sends those first that it helps most."
CURVES_OF_EXITS = (
    "The exits before are as the rule has them at these costs: what stops there is sent last, in "
    "random order. As each rule has a device of its own by that, there is no one curve of random "
    "and of the oracle; the areas below are to each rule's own. AURC and AUGRC of the device alone "
    "are left out: samples that stop early have no order."
)
PROMISES_OF_EXITS = (
    "The thresholds of the exits before the last are taken as given, though they were fitted on "
    "the same val rows: the promise is exact for exits set beforehand, as in the simulation, and "
    "nearly so here."
)


def curves(report: dict[str, Any], looks: dict[str, Look]) -> str:
    """Accuracy and risk against reject rate, and what a whole curve comes to."""
    numbers, runs = report["curves"], report["data"]["runs"]
    setting = report["settings"][0]
    entries = [(looks[row["name"]], row["label"]) for row in numbers["rules"]]
    moved = "threshold" if not report.get("exits") else "threshold at the last exit"
    caption = (
        f"Every rule with its {moved} moved from sending nothing to sending everything, at "
        f"c₁ = {setting['cost_1']:g}, cₑ = {setting['cost_e']:g}. Large markers: where the rule "
        "itself stands. "
    )
    caption += CURVES_OF_EXITS if report.get("exits") else CURVES_OF_TWO
    parts = [figure(charts.curves(numbers, looks), caption, entries)]
    names: list[Cell] = [with_key(looks[row["name"]], row["label"]) for row in numbers["rules"]]
    rows = [[number(100 * x, 1) for x in row["accuracy_at"]] for row in numbers["rules"]]
    parts.append("<h3>Accuracy in % when so much is sent</h3>")
    head = ["rule", *(f"{100 * rate:g}\u00a0%" for rate in numbers["sent"])]
    parts.append(table(head, [[name, *row] for name, row in zip(names, rows, strict=True)]))
    keys = {"normalised_area": 3, "error_area": 4}
    if not report.get("exits"):
        keys |= {"aurc": 4, "augrc": 4}
    rows = [
        [spread(row, key, runs, digits) if key in row else "–" for key, digits in keys.items()]
        for row in numbers["rules"]
    ]
    parts.append("<h3>Areas</h3>")
    head = ["rule", "area", "error area", "AURC, local", "AUGRC, local"][: 1 + len(keys)]
    parts.append(table(head, [[name, *row] for name, row in zip(names, rows, strict=True)]))
    return "".join(parts)


def promises(report: dict[str, Any]) -> str:
    """Reject rates and, where it was asked for, a risk that are promised beforehand."""
    numbers, runs = report["rate_promises"], report["data"]["runs"]
    sure = f"{100 * (1 - numbers['delta']):g} %"
    parts = [
        paragraph(
            f"A threshold on the score of {shown_label(report)} can be set on val so that, with a "
            f"probability of at least {sure}, no more than a given share of all future samples is "
            "sent. The table has what came of it on test, and in "
            f"{numbers['splits']} simulated splits, where the true rate is known."
        )
    ]
    if report.get("exits"):
        parts.append(paragraph(PROMISES_OF_EXITS))
    names = [rule.name for rule in BOUNDS]
    rows, asked = [], report["options"]["max_reject_rate"]
    for at in numbers["at"]:
        simulated = at["simulated"]["rules"]
        line: list[Cell] = [percent(at["max_rate"])]
        if at["threshold"] is None:
            line.append("ask all that come" if at["reject_rate"] else "ask none")
        else:
            line.append(number(at["threshold"], 4))
        line += [spread(at, k, runs, 1, 100) for k in ("reject_rate", "accuracy")]
        line += [spread(at, "risk", runs)]
        line += [percent(simulated[k]["exceeds"]) for k in ("guaranteed", "empirical")]
        line += [number(100 * simulated[k]["accuracy"], 1) for k in names if k != "empirical"]
        rows.append(line)
    head = ["allowed", "threshold", "sent\u00a0%", "right\u00a0%", "risk", "broken with guarantee"]
    head += ["broken without", "right %, guarantee", "right %, Bernoulli", "right %, window"]
    strong = ["total" if at["max_rate"] == asked else "" for at in numbers["at"]]
    parts.append(table(head, rows, row_class=strong))
    low, high = binom.interval(0.95, numbers["splits"], numbers["delta"])
    parts.append(
        paragraph(
            f"Promised: broken in at most {percent(numbers['delta'])}. Of {numbers['splits']} "
            f"splits that is {low:g} to {high:g} by chance, {percent(low / numbers['splits'])} to "
            f"{percent(high / numbers['splits'])}.",
            "note",
        )
    )
    entries = [(rule.look, rule.label) for rule in BOUNDS]
    caption = (
        f"Means over {numbers['splits']} splits; the bands hold 90 % of them, the dotted line is "
        "the rate allowed. All four use the same score. The last two drop or add decisions at "
        "random, or drop them by the clock."
    )
    parts.append(figure(charts.promises(numbers), caption, entries))
    promise = report["risk_promise"]
    if promise:
        parts.append(f"<h3>A risk of at most {promise['max_risk']:g}</h3>")
        parts.append(paragraph(_risk_promise(promise, runs)))
    return "".join(parts)


def _risk_promise(promise: dict[str, Any], runs: int) -> str:
    sure = f"{100 * (1 - promise['delta']):g} %"
    if promise["promised_runs"] < runs:
        found = f"No threshold can be promised with {sure} on these val rows"
        found += f" in {runs - promise['promised_runs']} of {runs} runs." if runs > 1 else "."
    else:
        found = (
            f"Promised with {sure}; on test the threshold has risk {spread(promise, 'risk', runs)} "
            f"and sends {spread(promise, 'reject_rate', runs, 1, 100)} %."
        )
    return (
        f"{found} In {promise['splits']} simulated splits a threshold was given in "
        f"{percent(promise['given'])} of them, and its promise broken in "
        f"{percent(promise['broken'])}, which may be {percent(promise['delta'])}."
    )


def reliability(report: dict[str, Any], looks: dict[str, Look]) -> str:
    """Estimated probabilities beside what happened, a panel a net."""
    rows = report["reliability"]
    labels = {row["name"]: row["label"] for row in report["settings"][0]["rules"]}
    names = list(dict.fromkeys(row["name"] for row in rows))
    entries = [(looks[name], labels[name]) for name in names]
    caption = (
        "Ten groups of equally many test samples each. On the dotted line an estimate is right."
    )
    by = {(row["name"], row["net"]): row for row in rows}
    cells = []
    for name in names:
        line: list[Cell] = [with_key(looks[name], labels[name])]
        for net in ("local", "remote"):
            line += [number(by[name, net][key]) for key in ("calibration_error", "brier")]
        cells.append(line)
    who = nets(report)
    local = "last exit" if report.get("exits") else who.local
    titles = {"local": f"the {local}" if report.get("exits") else who.the_local}
    titles["remote"] = who.the_remote
    head = ["estimates", f"{local}: calibration error", "Brier score"]
    head += [f"{who.remote}: calibration error", "Brier score"]
    return figure(charts.reliability(rows, looks, titles), caption, entries) + table(head, cells)
