"""The first words of a page: what to do, what it gives, and how sure that is.

All of it is of `choice.choose`: the rule is chosen on val, the numbers are of test. A difference is
called better or worse only where its interval says so.
"""

import math
from typing import Any

from deferral.catalogue import RULES
from deferral.report.tradeoff import FARTHEST
from deferral.report.words import number, percent

Row = dict[str, Any]
MOST_ALONE = 3  # models by themselves, in the first table
MOST_RULES = 6  # in the first table


def headline(choice: dict[str, Any], level: float, cost: tuple[float, float]) -> list[str]:
    """Plain sentences, a paragraph each; the first one says what to do."""
    rows = {row["name"]: row for row in choice["rules"]}
    chosen = rows[choice["chosen"]]
    return [what_to_do(choice), _gives(choice, chosen, rows, level), _why(choice, rows, cost)]


def what_to_do(choice: dict[str, Any]) -> str:
    """One sentence: the rule with its thresholds."""
    chosen = next(row for row in choice["rules"] if row["name"] == choice["chosen"])
    models, thresholds = choice["models"], chosen["thresholds"]
    if not thresholds:
        return f"Let {_answering(chosen, models)} answer everything."
    last = models[-1]
    if len(models) > 2:
        of_models = zip(models, chosen["shares"], strict=True)
        shares = ", ".join(f"{model} answers {percent(share)}" for model, share in of_models)
        asked = f"Ask {', then '.join(models)}, and stop"
        if choice["pay"] == "router":
            asked = f"Give each sample to the first of {', '.join(models)}"
        if chosen["kind"] == "estimates":
            return f"{asked} where {chosen['label']} expects no gain: {shares}."
        if chosen["kind"] != "confidence":
            return f"{asked} where {chosen['label']} says so: {shares}."
        side, signed = _side(chosen)
        limits = ", ".join(
            f"{limit(sign_of(t, signed))} for {model}"
            for model, t in zip(models[:-1], thresholds, strict=True)
        )
        at = {"above": "at most", "below": "at least"}[side]
        where = "whose" if choice["pay"] == "router" else "where its"
        return f"{asked} {where} {subject(chosen)} is {at} {limits}: {shares}."
    sent = percent(chosen["sent"])
    if chosen["kind"] == "estimates":
        gain = f"expect to save more than {limit(thresholds[0])} by it" if thresholds[0] else ""
        return (
            f"Send {sent} of the samples to {last}: those for which {chosen['label']} "
            f"{gain or 'expect a gain'}."
        )
    side, signed = _side(chosen)
    return (
        f"Send {sent} of the samples to {last}: those whose {subject(chosen)} is {side} "
        f"{limit(sign_of(thresholds[0], signed))}."
    )


def _side(row: Row) -> tuple[str, bool]:
    """On which side of a threshold samples are passed on, and whether the doubt is negated."""
    return ("below", True) if row["name"] == "score" else ("above", False)


def sign_of(threshold: float, negated: bool) -> float:
    return -threshold if negated else threshold


def subject(row: Row) -> str:
    """What a threshold is on, in a sentence."""
    rule = RULES.get(row["name"])
    if rule is None or rule.kind != "confidence":
        return f"score “{row['label'].removesuffix(', fitted')}”"
    shorter = {
        "entropy": "entropy in nats",
        "score": "own score",
        "score_gap": "difference of scores, the last model's minus its own,",
    }
    return shorter.get(rule.name) or rule.about.replace(" - ", " − ")


def limit(threshold: float) -> str:
    """A threshold to four digits; the policy has all of them."""
    if abs(threshold) >= FARTHEST:
        return "∞" if threshold > 0 else "−∞"
    return f"{threshold + 0.0:.4g}".replace("-", "−")


def _gives(choice: dict[str, Any], chosen: Row, rows: dict[str, Row], level: float) -> str:
    models, dear, cheap = choice["models"], rows["always"], rows["never"]
    if len(models) > 2:
        cheap = next(row for row in choice["rules"] if not row["thresholds"])
    words = [
        f"Quality {percent(chosen['quality'])} on test ({percent(chosen['quality_low'])} to "
        f"{percent(chosen['quality_high'])}); {models[-1]} alone {percent(dear['quality'])}, "
        f"{models[0]} alone {percent(cheap['quality'])}."
    ]
    if chosen is not dear:
        words += [_against(chosen, models[-1]), _saved(chosen)]
    return " ".join([*words, f"Ranges are {100 * level:g} % intervals."]).replace("  ", " ")


def _against(chosen: Row, dear: str) -> str:
    """Whether the quality differs from the last model's, as far as the printed interval goes."""
    ends = [100 * chosen[f"quality_change_{end}"] for end in ("low", "high")]
    digits = 1 if max(map(abs, ends)) >= 1 else 2
    low, high = (round(end, digits) + 0.0 for end in ends)
    change = f"{number(low, digits)} to {number(high, digits)} points"
    if low <= 0 <= high:
        return f"No difference from {dear} alone is shown: {change}."
    return f"Against {dear} alone that is {'lower' if high < 0 else 'higher'}: {change}."


def _saved(chosen: Row) -> str:
    """What it saves of the last model's cost; nothing where that is 0."""
    saved, low, high = (chosen[key] for key in ("saved", "saved_low", "saved_high"))
    if saved is None or low is None:
        return ""
    if round(1000 * low) > 0 and saved > 0:
        return f"It saves {percent(saved)} of its cost ({percent(low)} to {percent(high)})."
    if round(1000 * high) < 0 and saved < 0:
        return f"It costs {percent(-saved)} more ({percent(-high)} to {percent(-low)})."
    return f"No difference in cost is shown: {percent(low)} to {percent(high)} of it is saved."


def _answering(row: Row, models: list[str]) -> str:
    return models[row["shares"].index(max(row["shares"]))]


def _why(choice: dict[str, Any], rows: dict[str, Row], cost: tuple[float, float]) -> str:
    chosen, value, unit = rows[choice["chosen"]], choice["value"], choice["unit"]
    errors = f"c₁ = {cost[0]:g}"
    priced = {"errors": "asking costs the file's cost_e"}
    if cost[1]:
        priced["file"] = f"an error costs {1 / cost[1]:g}, in {unit}"
    at = priced.get(choice["cost_unit"], f"cₑ = {cost[1]:g}")
    goal = {
        "risk": f"with the least risk where {errors} and {at}",
        "quality": "that is cheapest at a quality of at least "
        + (f"{choice['models'][-1]}'s" if value is None else f"{100 * (value or 0):.4g} %"),
        "budget": f"with the highest quality at a mean cost of at most {value}, in {unit}",
        "max_risk": f"that is cheapest with at most {100 * (value or 0):.4g} % wrong answers"
        if cost == (1, 0)
        else f"that is cheapest with a risk of at most {value}, where {errors} and {at},",
    }[choice["wanted"]]
    if choice["promise"]:
        goal += f" and keeps that with probability {1 - choice['promise']['delta']:g}"
    words = [f"Of {len(rows)} rules this is, on val, the one {goal}."]
    if not choice["met"]:
        words = [f"Of {len(rows)} rules none is, on val, the one {goal}: this one comes closest."]
    short = chosen["quality_change_high"] if value is None else chosen["quality_high"] - value
    if choice["wanted"] == "quality" and round(short, 4) < 0:
        words.append("On test it falls short of that.")
    if choice["wanted"] == "max_risk" and value is not None and chosen["risk_low"] > value:
        words.append("On test its risk is higher than that.")
    if choice["wanted"] == "budget" and value is not None and chosen["cost_low"] > value:
        words.append("On test it costs more than that.")
    thresholds = [row for row in rows.values() if row["kind"] == "confidence"]
    if chosen["kind"] in ("estimates", "rejector") and thresholds and choice["wanted"] == "risk":
        rival = rows[choice["best_confidence"]]
        words.append(
            f"Its risk is {number(chosen['risk'])} and that of the best plain threshold, "
            f"{rival['label']}, {number(rival['risk'])}."
        )
    if not any(row["kind"] in ("confidence", "estimates", "rejector") for row in rows.values()):
        words.append("The file does not say how sure a model is, so no rule can choose samples.")
    return " ".join(words)


def table(choice: dict[str, Any]) -> list[Row]:
    """The rows of the first table: each model alone, the chosen rule, the best of each kind."""
    rows = {row["name"]: row for row in choice["rules"]}
    alone = [row["name"] for row in choice["rules"] if row["kind"] == "limit"]
    alone = alone if len(alone) <= MOST_ALONE else ["never", "always"]
    names = [*alone, choice["chosen"], choice["best_confidence"]]
    for kind in ("estimates", "rejector"):
        of_kind = [row for row in choice["rules"] if row["kind"] == kind]
        if of_kind:
            names.append(
                min(
                    of_kind,
                    key=lambda row: math.inf if row["val_loss"] is None else row["val_loss"],
                )["name"]
            )
    chosen = list(dict.fromkeys(name for name in names if name in rows))
    return [rows[name] for name in chosen][:MOST_RULES]


def model_alone(row: Row, choice: dict[str, Any]) -> str:
    """A rule's label; of a model that answers everything, its name."""
    if row["thresholds"] or row["kind"] not in ("limit",):
        return str(row["label"])
    return f"only {_answering(row, choice['models'])}"
