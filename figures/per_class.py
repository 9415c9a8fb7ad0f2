"""Reject rates by class, and the confusions of the local net on kept, of the edge on sent samples.

    python -m figures.per_class results/runs/first/noniid --cost_1 1.25 --cost_e 0.25

Left, the share of each class that one rejector sends, beside the confidence threshold (fitted on
val) and the oracle; classes that the local net was never trained on are marked. Right, the two
confusions, true class x answer: colours are shares of a row, numbers are counts (up to 10
classes). Above 20 classes only the classes most and least often sent are drawn; the table has all.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deferral import per_class, risk, rules
from deferral.catalogue import SUMMARY
from deferral.per_class import Groups
from deferral.predictions import Predictions
from deferral.summary import baselines
from figures import settings, style
from figures.command import command
from figures.tables import Column, fixed, print_table, write_table

COUNTS, MAPS = 10, 20  # classes up to which cells have numbers, and confusions are drawn at all
ENDS = 12  # classes drawn of the most and of the least often sent, where there are more than MAPS
BAND, LOUD = "#FBE6DA", style.WRONG  # behind classes that were never seen, and their names
# The rules whose decisions depend on the sample.
RULES = [rule for rule in SUMMARY if rule.kind != "limit"]
COLUMNS = [
    Column("seen", "m has seen"),
    Column("class", "class"),
    Column("n", "n", tex="$n$"),
    *(Column(f"reject_rate_{r.key}", r.label, fixed(1, 100), group="reject %") for r in RULES),
    Column("local_accuracy", "m", fixed(1, 100), tex="$m$", group="accuracy %"),
    Column("edge_accuracy", "e", fixed(1, 100), tex="$e$", group="accuracy %"),
    Column("accuracy", "both", fixed(1, 100), group="accuracy %"),
    Column("risk", "risk", fixed(3)),
]


def draw(
    predictions: Predictions,
    out: Path,
    name: str,
    cost_1: float | None = None,
    cost_e: float | None = None,
    show: bool = True,
) -> list[Path]:
    """name-per_class as .pdf and .png, and as a table .md, .tex and .csv; NotDrawn for edge-only.

    With `show` the table is printed too.
    """
    setting = settings.one_setting(predictions, cost_1, cost_e)
    seen = predictions.settings.get("local_classes")
    test, stops = predictions.part("test"), decide(predictions, setting)
    rows = table(test, stops, setting, seen)
    costs = f"c_1 = {setting['cost_1']:g}, c_e = {setting['cost_e']:g}"
    measured = f"{style.tested(predictions)}, {costs}, {settings.in_words(setting)}"
    caption = (
        "Share of each class that is sent, accuracy (%) of the local net m, of the edge net e and "
        "of both with the rejector, and the rejector's risk. The confidence threshold is fitted on "
        f"val. {style.nets(predictions)}, {measured}."
    )
    caption += f" Run at {made_by}." if (made_by := style.made_by(predictions)) else ""
    if show:
        print_table(rows, COLUMNS, caption)
    fig = _figure(test, stops, seen)
    title = [style.nets(predictions), measured.replace("c_1", "$c_1$").replace("c_e", "$c_e$")]
    style.finish(fig, "\n".join(title + _in_words(rows, test, seen)), 4)
    paths = style.save(fig, out, f"{name}-per_class")
    return paths + write_table(rows, COLUMNS, out, f"{name}-per_class", caption)


def decide(predictions: Predictions, setting: dict[str, Any]) -> dict[str, NDArray]:
    """stop [Nt] of each of RULES on the test rows, at the setting's costs, by `Rule.key`."""
    stops = baselines(predictions).stops(setting["cost_1"], setting["cost_e"])
    stops["rejector"] = rules.threshold(predictions.part("test").scores[setting["row"]], 0)
    return {rule.key: stops[rule.key] for rule in RULES}


def table(
    test: Predictions, stops: dict[str, NDArray], setting: dict[str, Any], seen: list[int] | None
) -> list[dict[str, Any]]:
    """Rows of COLUMNS: the seen classes and all of them, the unseen and all of them, then all.

    Where `seen` is None, or one side is empty, the other is all and gets no row of its own.
    """
    names = [str(c) for c in test.settings["classes"]]
    everything = np.zeros_like(test.labels)
    cost = risk.costs(setting["cost_1"], setting["cost_e"])

    def over(labels: NDArray, count: int) -> dict[str, Groups]:
        return {
            rule: per_class.per_class(labels, test.correct, stop, count, cost)
            for rule, stop in stops.items()
        }

    by_class = over(test.labels, len(names))
    seen_classes = set(range(len(names)) if seen is None else seen)
    unseen = ~np.isin(test.labels, list(seen_classes))
    sides = over(unseen.astype(np.int64), 2)
    rows = []
    for side, word in ((0, "?" if seen is None else "yes"), (1, "no")):
        of_side = [k for k in range(len(names)) if (k not in seen_classes) == side]
        rows += [_row(word, names[k], by_class, k) for k in of_side]
        if 0 < len(of_side) < len(names):
            rows.append(_row(word, "all", sides, side))
    return [*rows, _row("all", "all", over(everything, 1), 0)]


def _row(seen: str, name: str, by_rule: dict[str, Groups], group: int) -> dict[str, Any]:
    rejector = by_rule["rejector"]
    rates = {f"reject_rate_{r.key}": float(by_rule[r.key].reject_rate[group]) for r in RULES}
    shares = ("local_accuracy", "edge_accuracy", "accuracy", "risk")
    return (
        {"seen": seen, "class": name, "n": int(rejector.total[group])}
        | rates
        | {key: float(getattr(rejector, key)[group]) for key in shares}
    )


def _in_words(rows: list[dict], test: Predictions, seen: list[int] | None) -> list[str]:
    """Lines under the title: what the sides come to, and what is not drawn."""
    k, lines = len(test.settings["classes"]), []
    sides = [row for row in rows if row["class"] == "all" and row["seen"] != "all"]
    if seen is not None and sides:
        of_seen, of_unseen = (f"{100 * row['reject_rate_rejector']:.1f} %" for row in sides)
        lines = [
            f"local net trained on {len(seen)} of {k} classes: the rejector sends {of_seen} of "
            f"these, {of_unseen} of the others"
        ]
    if k > 2 * ENDS:
        lines.append(
            f"the {ENDS} classes most and the {ENDS} least often sent; the table has all {k}"
        )
    return lines


def _figure(test: Predictions, stops: dict[str, NDArray], seen: list[int] | None) -> Figure:
    """Rates alone, or rates and two confusions that share the rows, one a class."""
    names = [str(c) for c in test.settings["classes"]]
    k = len(names)
    by_rule = {
        key: per_class.per_class(test.labels, test.correct, stop, k) for key, stop in stops.items()
    }
    unseen = set() if seen is None else set(range(k)) - set(seen)
    if k > MAPS:
        fig, (ax,) = style.panels(1, 1, 0.15 * 2 * ENDS + 0.7)
        _rates(ax, by_rule, names, unseen, ends(by_rule["rejector"]))
        return fig
    height = (0.22 if k <= COUNTS else 0.16) * max(k, 6) + 2.0
    fig, (left, *maps) = plt.subplots(
        1,
        3,
        figsize=(style.WIDTH, height),
        width_ratios=(1.05, 1, 1),
        sharey=True,
        layout="constrained",
    )
    _rates(left, by_rule, names, unseen, list(range(k)))
    titles = ("kept: the local net answers", "sent: the edge net answers")
    for ax, counts, title in zip(
        maps, per_class.kept_and_sent(test, stops["rejector"]), titles, strict=True
    ):
        _confusion(ax, counts, names, unseen)
        ax.set_title(f"{title}\n{counts.sum()} samples", loc="left")
    return fig


def ends(groups: Groups) -> list[int]:
    """Classes that have samples, most often sent first: the first and last ENDS of them."""
    order = np.argsort(-groups.reject_rate, kind="stable").tolist()  # nan is last
    present = [k for k in order if groups.total[k]]
    return present if len(present) <= 2 * ENDS else present[:ENDS] + present[-ENDS:]


def _rates(
    ax: Axes, by_rule: dict[str, Groups], names: list[str], unseen: set[int], shown: list[int]
) -> None:
    """A row a class: a bar and a mark for the rejector, marks for the other rules."""
    place = np.arange(len(shown))
    place[ENDS:] += len(names) > MAPS  # a gap between the most and the least often sent
    rate = {rule.key: 100 * by_rule[rule.key].reject_rate[shown] for rule in RULES}
    ax.barh(place, rate["rejector"], 0.6, color=style.rule("rejector")["color"], alpha=0.35)
    for rule, aside in zip(RULES, _aside(len(RULES)), strict=True):  # no mark hides another
        look = style.rule(rule.name, linestyle="", clip_on=False, zorder=5)
        ax.plot(rate[rule.key], place + aside, **look)
    never = [k in unseen for k in shown]
    for i, row in enumerate(place[never]):
        label = "_" if i else "never seen by the local net"
        ax.axhspan(row - 0.5, row + 0.5, color=BAND, lw=0, zorder=0, label=label)
    ax.set(xlim=(0, 100), ylim=(place[-1] + 0.5, -0.5), xlabel="sent (%)", ylabel="true class")
    ax.grid(axis="y", visible=False)
    ax.set_yticks(place, [style.short(names[k]) for k in shown])
    ax.tick_params(axis="y", which="both", length=0)
    _mark(ax.get_yticklabels(), never)


def _aside(count: int) -> list[float]:
    """How far marks stand from the middle of a row: the first in it, the others by turns aside."""
    step = 0.44 / max(2, count - 1)
    return [(-1) ** (k + 1) * step * ((k + 1) // 2) for k in range(count)]


def _confusion(ax: Axes, counts: NDArray, names: list[str], unseen: set[int]) -> None:
    """One confusion [K, K]: colour by row, numbers where they can be read."""
    k, total = len(counts), counts.sum(1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    empty_is_white = np.ma.masked_equal(share, 0)
    ax.imshow(empty_is_white, cmap="Blues", vmin=0, vmax=1, aspect="auto", zorder=2)
    upright = all(len(name) <= 2 for name in names)  # a 9 on its side could be a 6
    ax.set_xticks(range(k), [style.short(name) for name in names], rotation=0 if upright else 90)
    ax.tick_params(axis="x", labelsize=7)
    ax.tick_params(axis="y", labelleft=False)
    _mark(ax.get_xticklabels(), [i in unseen for i in range(k)])
    ax.set_xlabel("answer")
    ax.grid(visible=False)
    ax.set_xticks(np.arange(k - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(k - 1) + 0.5, minor=True)
    ax.grid(which="minor", linewidth=0.4, zorder=3)
    ax.tick_params(axis="both", which="both", length=0)
    if k > COUNTS:
        return
    size = min(6.5, 205 / (k * len(str(counts.max()))))  # points: the longest fits its cell
    for i, j in np.argwhere(counts):
        ink = "white" if share[i, j] > 0.55 else style.INK
        ax.text(j, i, counts[i, j], ha="center", va="center", fontsize=size, color=ink, zorder=4)


def _mark(labels: list, unseen: list[bool]) -> None:
    """Names of unseen classes in bold and in another colour."""
    for label, is_unseen in zip(labels, unseen, strict=True):
        if is_unseen:
            label.set(color=LOUD, fontweight="bold")


main = command(__doc__, draw, choose=settings.one_setting)

if __name__ == "__main__":
    main()
