"""How the page calls rules: by what they do, with the names of the models that answer."""

from collections.abc import Sequence
from typing import Any

from deferral.catalogue import RULES
from deferral.report import headline
from deferral.report.words import Nets, Row, nets

# {local}, {remote}: who answers; {at}: of which stage the score is.
ABOUT = {
    "score": "the file's score, negated, {at}",
    "oracle": "the cheaper answer of each sample; sees who is right",
    "post_hoc": "two logistic regressions on what {local} says, fitted on val: is {local} right, "
    "is {remote} right",
}


def in_words(report: dict[str, Any]) -> dict[str, Any]:
    """The report with labels and descriptions of rules that name the models."""
    who, choice = nets(report), report["choice"]
    alone = {row["name"]: row for row in choice["rules"] if not row["thresholds"]}

    def rename(rows: Sequence[Row]) -> list[Row]:
        return [
            row | {"label": _label(row, alone, choice), "about": _about(row, report, who)}
            for row in rows
        ]

    def of(part: dict[str, Any]) -> dict[str, Any]:
        return part | {"rules": rename(part["rules"])}

    renamed = {key: of(report[key]) for key in ("choice", "grid", "curves")}
    routers = report["routers"] and of(report["routers"])
    settings = [of(setting) for setting in report["settings"]]
    return report | renamed | {"settings": settings, "routers": routers}


def _label(row: Row, alone: dict[str, Row], choice: dict[str, Any]) -> str:
    """Of a model that answers everything, its name; of a score, whose it is."""
    if row["kind"] == "limit" and row["name"] in alone:
        return headline.model_alone(alone[row["name"]], choice)
    if (row["name"], row["kind"]) == ("score", "confidence"):
        return "score in the file"
    return str(row["label"])


def _about(row: Row, report: dict[str, Any], who: Nets) -> str:
    rule = RULES.get(row["name"])
    if row["kind"] == "limit":
        return ""
    at = f"of each {who.stage}" if report.get("exits") else f"of {who.the_local}"
    if rule is None or rule.kind != row["kind"] or not (rule.doubt or row["name"] in ABOUT):
        return str(row.get("about", ""))
    about = ABOUT.get(row["name"], rule.about.replace(" - ", " − ") + " {at}")
    return about.format(local=who.the_local, remote=who.the_remote, at=at)


def decides(row: Row, choice: dict[str, Any]) -> str:
    """When a rule of the first table asks, with its thresholds to four digits."""
    thresholds, models = row["thresholds"], choice["models"]
    if not thresholds:
        return "answers everything"
    limits = ", ".join(headline.limit(t) for t in thresholds)
    what = headline.subject(row)
    if row["kind"] == "estimates":
        what = "the gain that it expects"
    if row["name"] == "score" and len(models) == 2:
        return f"asks {models[-1]} where the score is below {headline.limit(-thresholds[0])}"
    if len(models) == 2:
        return f"asks {models[-1]} where {what} is above {limits}"
    if row["kind"] == "estimates":
        return f"goes on where {what} is above 0"
    return f"stops at the first where {what} is at most {limits}"


def threshold_ends(choice: dict[str, Any]) -> str:
    """The interval of the chosen rule's one threshold, as `decides` writes it; empty for others."""
    if len(choice["threshold_intervals"]) != 1:
        return ""
    (ends,) = choice["threshold_intervals"]
    if choice["chosen"] == "score":
        ends = [-end for end in reversed(ends)]
    return " and ".join(headline.limit(end) for end in ends)


def cost_scale(choice: dict[str, Any]) -> tuple[float, str]:
    """What mean costs are multiplied by in print, and the unit then, "calls a sample"."""
    unit = {"the file's unit": "the unit of the file's costs"}.get(choice["unit"], choice["unit"])
    if choice["unit"] == "calls" and len(choice["models"]) == 2:
        unit = f"calls of {choice['models'][-1]}"
    if max(row["cost"] for row in choice["rules"]) < 0.1:
        return 1000.0, f"{unit} for 1,000 samples"
    return 1.0, f"{unit} a sample"
