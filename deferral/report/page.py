"""A report's numbers as one HTML page that needs nothing else: no links out, no script."""

from html import escape
from pathlib import Path
from typing import Any

from deferral import catalogue
from deferral.catalogue import Look
from deferral.predictions import Predictions
from deferral.report import charts
from deferral.report.classes import classes, pictures
from deferral.report.exits import exits
from deferral.report.html import (
    Cell,
    Html,
    definitions,
    figure,
    html,
    marked,
    paragraph,
    table,
    with_key,
)
from deferral.report.notes import about_run, terms
from deferral.report.sections import curves, promises, reliability
from deferral.report.words import between, lowest, number, signed, spread, thousands

STYLE = Path(__file__).with_name("report.css")
SIZES = ("parameters", "multiply_adds")
VERDICTS = {"better": "better", "worse": "worse", "no difference": "same"}


def page(report: dict[str, Any], pictures_of: Predictions) -> str:
    """The whole document. `report` is what the JSON holds; pictures come from the first run."""
    rules = [*report["settings"][0]["rules"], *report["grid"]["rules"], *report["curves"]["rules"]]
    looks = catalogue.looks({row["name"]: row["kind"] for row in rules})
    sections = [("rules", "All rules", _rules(report, looks))]
    if report.get("exits"):
        sections.append(("exits", "Exits", exits(report, looks)))
    if len(report["grid"]["costs"]) > 1:
        sections.append(("grid", "Other costs", _grid(report, looks)))
    sections += [
        ("curves", "What sending more gains", curves(report, looks)),
        ("promises", "Thresholds with a guarantee", promises(report)),
        ("estimates", "Are the estimates right?", reliability(report, looks)),
        ("classes", "Which classes are sent", classes(report)),
    ]
    if report["pictures"]:
        sections.append(("pictures", "Kept and sent pictures", pictures(report, pictures_of)))
    sections.append(("made", "How this was made", _made(report)))
    links = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in sections)
    body = "\n".join(
        f'<section id="{anchor}"><h2>{escape(title)}</h2>\n{text}</section>'
        for anchor, title, text in sections
    )
    lead, *said = report["verdict"]
    verdict = paragraph(lead, "lead") + "".join(map(paragraph, said))
    title, style = escape(report["title"]), STYLE.read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style></head>\n<body><main>\n"
        f'<h1>{title}</h1>\n<p class="about">{escape(about_run(report))}</p>\n'
        f'<div class="verdict">{verdict}</div>\n<nav>{links}</nav>\n{body}\n</main></body></html>\n'
    )


def _rules(report: dict[str, Any], looks: dict[str, Look]) -> str:
    """A table of all rules at each pair of costs; the main one with a figure."""
    parts = []
    for i, setting in enumerate(report["settings"]):
        parts.append(f"<h3>c₁ = {setting['cost_1']:g}, cₑ = {setting['cost_e']:g}</h3>")
        parts.append(_rule_table(setting, report, looks))
        if i == 0:
            rival = setting["best_confidence"]
            labels = _labels(setting["rules"])
            drawn = [row for row in setting["rules"] if row["name"] in looks]
            ladder = charts.ladder(drawn, rival, looks)
            caption = (
                f"Left of the line is better than the best confidence rule, {labels[rival]}. "
                f"Bars are {100 * report['options']['level']:g}\u00a0% intervals. "
                "A rule at an arrow lies outside. The oracle is left out."
            )
            parts.append(figure([ladder], caption))
    return "".join(parts)


def _rule_table(setting: dict[str, Any], report: dict[str, Any], looks: dict[str, Look]) -> str:
    """A row a rule, lowest risk first, the oracle below a line."""
    runs, level = report["data"]["runs"], f"{100 * report['options']['level']:g} %"
    rows = sorted(setting["rules"], key=lambda r: (r["kind"] == "oracle", r["risk"]))
    known = any(row.get(key) is not None for row in rows for key in SIZES)
    chance = "random_risk" in rows[0]
    best, cells = lowest(rows)["name"], []
    for row in rows:
        name = with_key(looks.get(row["name"]), row["label"])
        risk = spread(row, "risk", runs)
        line: list[Cell] = [
            _small(name, row["about"]),
            _small(
                marked(risk, "lowest") if row["name"] == best else risk,
                f"{number(row['risk_low'])} to {number(row['risk_high'])}",
            ),
            spread(row, "reject_rate", runs, 1, 100),
            spread(row, "accuracy", runs, 1, 100),
        ]
        if row["name"] == setting["best_confidence"]:
            line += ["–", marked("the one to beat", "same")]
        else:
            line.append(_small(signed(row["difference"]), between(row, "difference")))
            told = row["difference_verdict"]
            bound = marked("a bound", "same")
            line.append(bound if row["kind"] == "oracle" else marked(told, VERDICTS[told]))
        line += [number(row["random_risk"])] if chance else []
        line += [_small(*(thousands(row[key]) for key in SIZES))] if known else []
        cells.append(line)
    head: list[Cell] = ["rule", _small("risk", level), "sent\u00a0%", "right\u00a0%"]
    head += [_small("to the best confidence rule", level), "verdict"]
    head += ["risk if sent at random"] if chance else []
    head += [_small("parameters", "multiply-adds")] if known else []
    apart = ["apart" if row["kind"] == "oracle" else "" for row in rows]
    return table(head, cells, row_class=apart, css="rules")


def _small(text: Cell, below: str) -> Html:
    """Text and a smaller line below it."""
    return Html(f"{html(text)}<small>{escape(below)}</small>")


def _grid(report: dict[str, Any], looks: dict[str, Look]) -> str:
    """Figures over c_e, the mean over the grid, and the risk at every pair."""
    grid, runs = report["grid"], report["data"]["runs"]
    everywhere = [row for row in grid["rules"] if row["risk"] is not None]
    whole = [row for row in everywhere if row["name"] in looks]
    whole.sort(key=lambda row: row["kind"] == "oracle")
    partly = [row["label"] for row in grid["rules"] if row["risk"] is None]
    entries = [(looks[row["name"]], row["label"]) for row in whole]
    caption = (
        "Risk on test, and its difference to that of the best confidence rule, "
        f"{_labels(whole)[grid['best_confidence']]}, with intervals as bands. Lower is better. "
        "What is far above leaves the figure."
    )
    drawn = grid | {"rules": whole}
    panels = charts.risk_by_cost(drawn, looks) + charts.difference_by_cost(drawn, looks)
    parts = [figure(panels, caption, entries)]
    parts.append(f"<h3>Mean over {len(grid['costs'])} pairs of costs</h3>")
    parts.append(_rule_table(grid | {"rules": everywhere}, report, looks))
    parts.append("<h3>Risk at each pair of costs</h3>")
    rows, apart, before = [], [], None
    for i, cost in enumerate(grid["costs"]):
        least = min(number(r["risk_at"][i]) for r in whole if r["kind"] != "oracle")
        line: list[Cell] = [f"{cost['cost_1']:g}", f"{cost['cost_e']:g}"]
        for row in whole:
            text = number(row["risk_at"][i])
            bold = row["kind"] != "oracle" and text == least
            line.append(marked(text, "lowest") if bold else text)
        rows.append(line)
        apart.append("apart" if before not in (None, cost["cost_1"]) else "")
        before = cost["cost_1"]
    rows.append(["mean", "", *(spread(row, "risk", runs) for row in whole)])
    head = ["c₁", "cₑ", *(row["label"] for row in whole)]
    parts.append(table(head, rows, row_class=[*apart, "total apart"], css="grid"))
    note = "Bold: the lowest to three digits, the oracle apart."
    if len(everywhere) > len(whole):
        note += " Exits alone are in the table of means."
    if partly:
        note += f" Left out, because not there at all of these costs: {', '.join(partly)}."
    parts.append(paragraph(note, "note"))
    return "".join(parts)


def _labels(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["name"]: row["label"] for row in rows}


def _made(report: dict[str, Any]) -> str:
    facts = [(fact["what"], fact["value"]) for fact in report["facts"]]
    return (
        f"<pre>{html(report['command'])}</pre>{definitions(facts)}"
        f"<h3>What the numbers are</h3>{definitions(terms(report))}"
    )
