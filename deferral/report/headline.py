"""The first words of a page: what to do, what it gives, and how sure that is.

All of it is of `choice.choose`: the rule is chosen on val, the numbers are of test. A difference is
called better or worse only where its interval says so.
"""

import math
from typing import Any

from deferral import bootstrap
from deferral.report.words import number, percent

Row = dict[str, Any]
MOST_RULES = 6  # in the first table


def headline(choice: dict[str, Any], level: float, cost: tuple[float, float]) -> list[str]:
    """Plain sentences, a paragraph each; the first one says what to do."""
    rows = {row["name"]: row for row in choice["rules"]}
    chosen, dear = rows[choice["chosen"]], rows["always"]
    paragraphs = [what_to_do(choice), _gives(choice, chosen, dear, level)]
    paragraphs.append(_why(choice, rows, level, cost))
    return paragraphs


def what_to_do(choice: dict[str, Any]) -> str:
    """One sentence: the rule with its thresholds."""
    chosen = next(row for row in choice["rules"] if row["name"] == choice["chosen"])
    models, thresholds = choice["models"], chosen["thresholds"]
    if not thresholds:
        alone = {"always": models[-1], "never": models[-2]}.get(chosen["name"])
        return f"Let {alone or chosen['label']} answer everything."
    last = models[-1]
    if len(models) > 2:
        shares = ", ".join(
            f"{percent(share)} {model}"
            for model, share in zip(models, chosen["shares"], strict=True)
        )
        return (
            f"Ask {', then '.join(models)}, and stop at the first whose {subject(chosen)} is at "
            f"most its threshold ({', '.join(limit(t) for t in thresholds)}): {shares}."
        )
    sent = percent(chosen["sent"])
    if chosen["kind"] == "estimates":
        return (
            f"Send the {sent} of the samples to {last} that {chosen['label']} expect to gain by it."
        )
    if chosen["name"] == "score":
        return (
            f"Send {sent} of the samples to {last}: those whose score of {models[0]} is below "
            f"{limit(None if thresholds[0] is None else -thresholds[0])}."
        )
    return (
        f"Send {sent} of the samples to {last}: those whose {subject(chosen)} is above "
        f"{limit(thresholds[0])}."
    )


def subject(row: Row) -> str:
    """What a threshold is on, in a sentence."""
    about = {
        "max_softmax": "1 − highest probability",
        "margin": "1 − (highest − second probability)",
        "entropy": "entropy in nats",
        "score": "score, negated,",
    }
    return about.get(row["name"], f"score “{row['label']}”")


def limit(threshold: float | None) -> str:
    """A threshold to four digits; the policy has all of them."""
    return "±∞" if threshold is None else f"{threshold:.4g}".replace("-", "−")


def _gives(choice: dict[str, Any], chosen: Row, dear: Row, level: float) -> str:
    rows = {row["name"]: row for row in choice["rules"]}
    models, cheap = choice["models"], rows["never"]
    words = [
        f"Quality {percent(chosen['quality'])} on test ({percent(chosen['quality_low'])} to "
        f"{percent(chosen['quality_high'])}); {models[-1]} alone {percent(dear['quality'])}, "
        f"{models[-2]} alone {percent(cheap['quality'])}."
    ]
    if chosen is not dear:
        low, high = chosen["quality_change_low"], chosen["quality_change_high"]
        told = {"better": "lower", "worse": "higher"}.get(bootstrap.verdict(low, high))
        change = f"{number(100 * low, 1)} to {number(100 * high, 1)} points"
        words.append(
            f"Against {models[-1]} alone that is {told}: {change}."
            if told
            else f"No difference from {models[-1]} alone is shown: {change}."
        )
        if chosen["saved"] is not None:
            interval = ""
            if chosen["saved_low"] is not None:
                interval = f" ({percent(chosen['saved_low'])} to {percent(chosen['saved_high'])})"
            words.append(f"It saves {percent(chosen['saved'])} of its cost{interval}.")
    return " ".join(words) + f" Ranges are {100 * level:g} % intervals."


def _why(
    choice: dict[str, Any], rows: dict[str, Row], level: float, cost: tuple[float, float]
) -> str:
    goal = {
        "risk": f"with the least risk at c₁ = {cost[0]:g}, cₑ = {cost[1]:g}",
        "quality": "cheapest with a quality of at least "
        + (f"{choice['models'][-1]}'s" if choice["value"] is None else percent(choice["value"])),
        "budget": f"with the highest quality at a mean cost of at most {choice['value']}",
    }[choice["wanted"]]
    words = [f"Of {len(rows)} rules this one was, on val, the {goal}."]
    if choice["wanted"] == "budget" or choice["wanted"] == "risk":
        words[0] = f"Of {len(rows)} rules this one was, on val, the one {goal}."
    if not choice["met"]:
        words[0] = f"Of {len(rows)} rules none was, on val, {goal}; this one came closest."
    thresholds = [row for row in rows.values() if row["kind"] == "confidence"]
    chosen = rows[choice["chosen"]]
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
    names = ["never", "always", choice["chosen"], choice["best_confidence"]]
    for kind in ("estimates", "rejector"):
        of_kind = [row for row in choice["rules"] if row["kind"] == kind]
        if of_kind:
            names.append(
                min(
                    of_kind, key=lambda row: row["val_loss"] if row["val_loss"] is not None else 1e9
                )["name"]
            )
    chosen = list(dict.fromkeys(name for name in names if name in rows))
    return [rows[name] for name in chosen][:MOST_RULES]


def model_alone(row: Row, choice: dict[str, Any]) -> str:
    """A rule's label; of a model that answers everything, its name."""
    if row["thresholds"] or row["kind"] not in ("limit",):
        return str(row["label"])
    shares = row["shares"]
    return f"only {choice['models'][shares.index(max(shares))]}"


def _val_loss(row: Row) -> float:
    return math.inf if row["val_loss"] is None else row["val_loss"]
