"""What the numbers of a report say, in a few plain sentences, and how numbers are written."""

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Nets:
    """What a page calls the two that answer, and what each of them is alone."""

    local: str = "local"
    remote: str = "remote"
    the_local: str = "the local net"
    the_remote: str = "the remote net"
    local_alone: str = "the local net alone"
    remote_alone: str = "the remote one alone"
    never: str = "never asking"


WITH_EXITS = Nets(
    local="device",
    remote="server",
    the_local="the device",
    the_remote="the server",
    local_alone="the last exit alone",
    remote_alone="the server alone",
    never="the last exit alone",
)


def nets(report: dict[str, Any]) -> Nets:
    return WITH_EXITS if report.get("exits") else Nets()


def number(value: float | None, digits: int = 3) -> str:
    """0.312; a dash for what is not there. A real minus sign, and none before zero."""
    if value is None:
        return "–"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{number(100 * value, digits)}\u00a0%"


def signed(value: float | None, digits: int = 4) -> str:
    """A difference: +0.0021, −0.0040, 0.0000."""
    text = number(value, digits)
    return f"+{text}" if value is not None and round(value, digits) > 0 else text


def spread(row: Row, key: str, runs: int, digits: int = 3, scale: float = 1) -> str:
    """ "0.312 ± 0.004" over several runs, "0.312" of one."""
    value, std = row[key], row[f"{key}_std"]
    if value is None:
        return "–"
    text = number(scale * value, digits)
    return text if runs < 2 or std is None else f"{text} ± {number(scale * std, digits)}"


def between(row: Row, key: str, digits: int = 4) -> str:
    """The interval of a difference: "−0.0070 to −0.0010"."""
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    return "–" if low is None else f"{signed(low, digits)} to {signed(high, digits)}"


def thousands(count: float | None) -> str:
    """12 345 678, whole, with narrow spaces."""
    return "–" if count is None else f"{count:,.0f}".replace(",", "\u202f")


def label(row: Row, who: Nets) -> str:
    """A rule in a sentence."""
    if row["kind"] == "limit" and row["name"].startswith("exit "):
        return f"{row['label']} alone"
    return {"never": who.never, "always": "always asking"}.get(row["name"], row["label"])


def shown_label(report: dict[str, Any]) -> str:
    """The rule whose classes, pictures and promises the page shows, in quotation marks."""
    labels = {row["name"]: row["label"] for row in report["settings"][0]["rules"]}
    return f"“{labels[report['shown']]}”"


def lowest(rows: list[Row]) -> Row:
    """The rule of least risk that can be used: the oracle sees the labels and cannot."""
    usable = [row for row in rows if row["kind"] != "oracle" and row["risk"] is not None]
    return min(usable, key=lambda row: row["risk"])


def verdict(report: dict[str, Any]) -> list[str]:
    """The page's first words: at the main costs, then over the grid. Plain text, a paragraph each.

    They judge by the intervals, not by which number is smaller, and say so where nothing is better
    than not asking, or nothing better than a confidence rule that needs no training.
    """
    main, level = report["settings"][0], report["options"]["level"]
    rules = {row["name"]: row for row in main["rules"]}
    best, never, always = lowest(main["rules"]), rules["never"], rules["always"]
    rival = rules[main["best_confidence"]]
    who, costs = nets(report), f"c₁ = {main['cost_1']:g} and cₑ = {main['cost_e']:g}"
    told = [f"At {costs}, the lowest risk is {number(best['risk'])}, by {label(best, who)}."]
    words = []
    if best is never or best["reject_rate"] == 0:
        words.append("No rule that asks is worth its price here.")
    if best is not never and best["from_never_verdict"] == "better":
        words.append(
            f"That is {number(-best['from_never'], 4)} below {who.never} "
            f"({interval(best, 'from_never', level)})."
        )
    elif best is not never:
        words.append(
            f"But nothing is shown to beat {who.never}: its risk is {number(never['risk'])}, "
            f"and the difference may be chance ({interval(best, 'from_never', level)})."
        )
    words += _against_confidence(main["rules"], best, rival, level)
    oracle = rules["oracle"]["risk"]
    limits = [row for row in main["rules"] if row["kind"] == "limit"]
    alone = min(limits, key=lambda row: row["risk"])
    start, ends, other = alone["risk"], "the better of these two", ""
    if len(limits) > 2:
        ends = "the best of the stages alone"
        if alone is not never and alone is not always:
            other = f", {label(alone, who)} {number(start)}"
    words.append(
        f"{who.never.capitalize()} costs {number(never['risk'])}, always asking "
        f"{number(always['risk'])}{other}; a rule that saw the labels would pay {number(oracle)}."
    )
    if start - oracle > 1e-9:
        closed = (start - best["risk"]) / (start - oracle)
        if closed > 0:
            words.append(
                f"So {percent(closed, 0)} of what there is to save beyond {ends} is saved."
            )
    told.append(" ".join(words))
    told.append(
        f"It sends {percent(best['reject_rate'])} of the test samples and is right on "
        f"{percent(best['accuracy'])} of all, where {who.local_alone} is on "
        f"{percent(never['accuracy'])} and {who.remote_alone} on {percent(always['accuracy'])}."
    )
    return told + _over_grid(report["grid"], level, who)


def interval(row: Row, key: str, level: float) -> str:
    """ "95 % interval 0.0010 to 0.0070: better", of a saving where the risk is lower."""
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    if row[key] < 0:
        low, high = -high, -low
    told = row[f"{key}_verdict"]
    return f"{100 * level:g}\u00a0% interval {number(low, 4)} to {number(high, 4)}: {told}"


def _against_confidence(rows: list[Row], best: Row, rival: Row, level: float) -> list[str]:
    """How the best rule stands to the confidence rule that val prefers."""
    name = f"the best confidence rule, {rival['label']}"
    if best["kind"] in ("estimates", "rejector"):
        amount = f"{number(abs(best['difference']), 4)} below {name}"
        said = f"It is {amount} ({interval(best, 'difference', level)})."
        if best["difference_verdict"] == "better":
            return [said]
        return [said, "So it is not shown to beat a threshold that needs no training."]
    trained = [r for r in rows if r["kind"] in ("estimates", "rejector") and r["risk"] is not None]
    if not trained:
        return []
    first = min(trained, key=lambda row: row["risk"])
    side = "above" if first["difference"] > 0 else "below"
    return [
        f"No rejector and no estimate is lower: the best of them, {first['label']}, is "
        f"{number(abs(first['difference']), 4)} {side} {name} "
        f"({interval(first, 'difference', level)})."
    ]


def _over_grid(grid: dict[str, Any], level: float, who: Nets) -> list[str]:
    """The same on the mean over the grid; nothing where the grid is one pair."""
    if len(grid["costs"]) < 2:
        return []
    rules = {row["name"]: row for row in grid["rules"]}
    best, rival = lowest(grid["rules"]), rules[grid["best_confidence"]]
    words = (
        f"On the mean over {len(grid['costs'])} pairs of costs the lowest risk is "
        f"{number(best['risk'])}, by {label(best, who)}"
    )
    if best is rival:
        return [f"{words}: a confidence rule, which needs no training."]
    side = "below" if best["difference"] < 0 else "above"
    return [
        f"{words}: {number(abs(best['difference']), 4)} {side} the best confidence rule there, "
        f"{rival['label']} ({interval(best, 'difference', level)})."
    ]
