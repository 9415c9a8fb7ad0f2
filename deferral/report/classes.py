"""Sections of the page: which classes one rule sends, who is taken for whom, and pictures."""

from html import escape
from typing import Any

import numpy as np

from deferral.predictions import Predictions
from deferral.report.html import Cell, bar, marked, paragraph, picture, table
from deferral.report.words import nets, number, percent, shown_label

HEAT_CLASSES = 20  # above it, a confusion is a list of the most frequent errors
ALL_CLASSES = 40  # above it, the page lists the classes sent most and least
ENDS, CONFUSIONS = 15, 12
SIDES = ("kept", "sent")


def classes(report: dict[str, Any]) -> str:
    """A row a class, those sent most first, and the confusion of kept and of sent."""
    numbers, who = report["classes"], nets(report)
    found = [row for row in numbers["classes"] if row["total"]]
    each = "each net"
    if report.get("exits"):
        each = "the device, each sample at the exit that the rule chooses, and the server"
    parts = [
        paragraph(
            f"Decisions of {shown_label(report)} ({report['shown_because']}), counts of all runs "
            f"together. “Right” is what {each} would get right of all samples of the class, and "
            "what the two get right together."
        )
    ]
    ranked = sorted(found, key=lambda row: -row["reject_rate"])
    many = len(ranked) > ALL_CLASSES
    listed = [*ranked[:ENDS], *ranked[-ENDS:]] if many else ranked
    seen = any(row["seen"] is not None for row in listed)
    rows = []
    for row in listed:
        line: list[Cell] = [row["class"], f"{row['total']}"]
        line.append(bar(row["reject_rate"], percent(row["reject_rate"])))
        keys = ("local_accuracy", "edge_accuracy", "accuracy")
        line += [percent(row[key]) for key in keys] + [number(row["risk"])]
        line += [("yes" if row["seen"] else "no")] if seen else []
        rows.append(line)
    head = ["class", "samples", "sent", f"{who.local} right", f"{who.remote} right"]
    head += ["together", "risk"]
    head += [f"seen by {who.the_local}"] if seen else []
    apart = ["apart" if many and i == ENDS else "" for i in range(len(rows))]
    parts.append(table(head, rows, text_columns=[2], row_class=apart, css="classes"))
    if many:
        note = f"The {ENDS} classes sent most and the {ENDS} sent least; the JSON has all."
        parts.append(paragraph(note, "note"))
    parts.append("<h3>Who is taken for whom</h3>")
    names = [row["class"] for row in numbers["classes"]]
    make = _heat if len(names) <= HEAT_CLASSES else _top_confusions
    parts.append('<div class="heats">')
    for side, net in zip(SIDES, (who.the_local, who.the_remote), strict=True):
        counts = np.array(numbers[f"confusion_{side}"])
        title = f"{side.capitalize()}: {net}'s answers ({counts.sum()} samples)"
        parts.append(f"<div><h3>{title}</h3>{make(names, counts)}</div>")
    return "".join([*parts, "</div>"])


def _heat(names: list[str], counts: np.ndarray) -> str:
    """Rows are true classes, columns answers; the shade goes with the root of the count."""
    most = max(1, counts.max())
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j, count in enumerate(counts[i]):
            hue = "heat" if i == j else "wrong"
            shade = 0.75 * (count / most) ** 0.5
            style = f"background:rgba(var(--{hue}),{shade:.2f})"
            cells.append(f'<td style="{style}">{count or ""}</td>')
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return (
        '<div class="scroll" tabindex="0"><table class="heat"><thead><tr><th>true ↓ &nbsp;said →'
        f"</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _top_confusions(names: list[str], counts: np.ndarray) -> str:
    wrong = counts * (1 - np.eye(len(names), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [np.unravel_index(k, wrong.shape) for k in order]
    rows = [[names[i], names[j], f"{wrong[i, j]}"] for i, j in pairs if wrong[i, j]]
    return table(["true class", "answer", "samples"], rows, text_columns=[1])


def pictures(report: dict[str, Any], run: Predictions) -> str:
    """Example pictures of `run` in two groups, each with its true class and both answers."""
    pictures, who = report["pictures"], nets(report)
    names = {"local": who.the_local, "remote": who.the_remote}
    short = {"local": who.local, "remote": who.remote}
    parts = [
        paragraph(
            f"Test pictures that {shown_label(report)} keeps and sends, evenly over those that the "
            "file holds, not chosen (first run). Below each its true class and both answers; the "
            "one that counts is bold."
        )
    ]
    for side, net in zip(SIDES, ("local", "remote"), strict=True):
        shown = [one for one in pictures["shown"] if one["side"] == side]
        count = pictures[f"{side}_count"]
        title = f"{side.capitalize()}: {names[net]} answers ({count} of {pictures['count']})"
        parts.append(f'<h3>{title}</h3><div class="pictures">')
        for one in shown:
            image = picture(run.example_images[one["example"]], one["class"])
            lines = [marked(one["class"], "true").text]
            for stage in ("local", "remote"):
                sign, css = ("✓", "yes") if one[f"{stage}_right"] else ("✗", "no")
                css += " counts" * (stage == net)
                by = f"exit {one['exit']}" if stage == "local" and "exit" in one else short[stage]
                lines.append(marked(f"{sign} {by}: {one[stage]}", css).text)
            parts.append(f"<figure>{image}<figcaption>{''.join(lines)}</figcaption></figure>")
        parts.append("</div>")
    return "".join(parts)
