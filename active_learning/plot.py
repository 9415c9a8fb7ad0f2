"""Learning curves of a study of active learning, for each data set and number of targets.

    python -m active_learning.plot results/runs/active

NAME-curves: a column of panels for each method, with random in grey beside it: test accuracy
against the number of labels (mean over the targets, worst target, unseen nets, spread over the
targets) and the risk of the cascade. NAME-differences and, of the cascade's risk,
NAME-risk-differences: a panel for each method, its curve minus random's of the same seeds, with
those of the other methods in grey. A line is the mean over seeds, a band its 95 % Student interval;
one seed has no band, and axes cut bands that are much wider than the range of the lines. A line has
the rounds that its method has in all its seeds. Published points (Tang and Huang, 2022; KMNIST,
T = 12) are hollow markers; they are drawn if labels and targets are the paper's.

A folder that has no extracted_results but the NAME-methods.json of `active_learning.table` gives
the same figures. If extracted_results has performances.txt alone, as the paper's release does, it
draws the paper's figure, NAME-targets for each T: mean top-1 of the targets by round, with the
standard deviation over the targets as error bars.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from active_learning.over_seeds import t_interval
from active_learning.released_results import Tree
from active_learning.results import REFERENCE, Study, command, comparable
from figures import style
from figures.command import NotDrawn

PANELS = {
    "top1": "mean over the\ntargets (%)",
    "worst": "worst target\n(%)",
    "unseen": "unseen nets,\nmean (%)",
    "spread": "best − worst\ntarget (points)",
    "risk": "risk of the\ncascade",
}
DIFFERENCES = {
    "top1": ("differences", "mean top-1 of the targets", "points"),
    "risk": ("risk-differences", "the cascade's risk", "risk"),
}
MARGIN = 0.25  # of the lines' range, which bands may take on either side of it


def draw_curves(study: Study, out: Path) -> list[Path]:
    """NAME-curves as .pdf and .png: a row a measure, a column a method."""
    measures = [m for m in PANELS if m == "spread" or m in study.measures]
    methods = [m for m in study.records if m != REFERENCE] or [REFERENCE]
    fig, grid = style.plt.subplots(
        len(measures),
        len(methods),
        figsize=(style.WIDTH, 0.75 + 1.15 * len(measures)),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    points = comparable(study, study.labelled).dropna(subset="round")
    for row, measure in zip(grid, measures, strict=True):
        for ax, method in zip(row, methods, strict=True):
            for name in dict.fromkeys([REFERENCE, method]):
                if name not in study.records:
                    continue
                rounds = study.rounds([name])
                values = study.values(name, measure, list(study.records[name]), rounds)
                _line(ax, study, rounds, scale(measure) * values, _look(name))
                published = points[points.method == name]
                if measure == "top1" and len(published):
                    ax.plot(published.labelled, published.top1, **_hollow(name))
        _limit(row, MARGIN)
        row[0].set_ylabel(PANELS[measure])
        row[0].yaxis.set_major_locator(MaxNLocator(4))
    for ax, method in zip(grid[0], methods, strict=True):
        ax.set_title(f"{method}\n(n = {len(study.records[method])})", fontsize=8)
    for ax in grid[-1]:
        ax.xaxis.set_major_locator(MaxNLocator(2, integer=True))
        ax.tick_params(axis="x", labelsize=7)
    fig.supxlabel("labels", fontsize=8.5)
    legend = ""
    if REFERENCE in study.records and methods != [REFERENCE]:
        legend = f"\ngrey: {REFERENCE} (n = {len(study.records[REFERENCE])})"
        legend += "; hollow: published" if len(points) else ""
    style.head(fig, f"{study.title}: test accuracy and risk{band(study)}{legend}")
    return style.save(fig, out, f"{study.name}-curves")


def draw_differences(study: Study, out: Path, measure: str = "top1") -> list[Path]:
    """A panel a method: `measure` minus random's, paired by seed. NotDrawn without a pair."""
    gaps: dict[str, np.ndarray] = {}  # [S, R]
    rounds: dict[str, list[int]] = {}
    for method in study.records:
        seeds = study.seeds_with_reference(method)
        common = study.rounds([method, REFERENCE], seeds) if seeds else []
        if method != REFERENCE and common:
            ours, random = (study.values(m, measure, seeds, common) for m in (method, REFERENCE))
            gaps[method], rounds[method] = scale(measure) * (ours - random), common
    if not gaps:
        raise NotDrawn("no method has a seed and a round in common with random")
    suffix, what, unit = DIFFERENCES[measure]
    fig, axes = style.panels(len(gaps), 4 if len(gaps) > 4 else len(gaps), 1.75)
    for ax, method in zip(axes, gaps, strict=True):
        if ax is not axes[0]:
            ax.sharey(axes[0])
        ax.axhline(0, **style.query(REFERENCE, label=None, linewidth=2.2))
        for other in gaps:
            if other != method:
                labels = [study.labelled[r] for r in rounds[other]]
                ax.plot(labels, gaps[other].mean(0), color="#C9C9C9", linewidth=0.7, zorder=2.5)
        _line(ax, study, rounds[method], gaps[method], _look(method) | {"linewidth": 1.8})
        ax.set_title(f"{method} (n = {len(gaps[method])})")
        ax.set(xlabel="labels", ylabel=unit)
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.label_outer()
    _limit(axes, 1.0)
    style.head(
        fig,
        f"{study.title}: {what}, minus random's\n"
        f"paired by seed{band(study)}\nat 0: random; thin: the other methods",
    )
    return style.save(fig, out, f"{study.name}-{suffix}")


def draw_released(tree: Tree, out: Path) -> list[Path]:
    """The paper's figure of each T, as .pdf and .png: DATASET-T-targets."""
    paths = []
    for model_num, curves in tree.curves().groupby("model_num"):
        fig, (ax,) = style.panels(1, 1, 3.6)
        for method in (m for m in tree.methods if m in set(curves.method)):
            curve = curves[curves.method == method].sort_values("round")
            look = style.query(method)
            ax.plot(curve["round"], curve["mean"], **look)
            bars = {"color": look["color"], "alpha": 0.4, "elinewidth": 1, "capsize": 2}
            ax.errorbar(
                curve["round"], curve["mean"], curve["std"],
                linestyle="", zorder=look["zorder"] - 1, **bars,
            )  # fmt: skip
        ax.set(xlabel="round", ylabel="mean over the targets (%)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        title = f"{tree.dataset}, {model_num} targets\ntop-1, mean and standard deviation over them"
        style.finish(fig, title, 5)
        paths += style.save(fig, out, f"{tree.dataset}-{model_num}-targets")
    return paths


def scale(measure: str) -> int:
    """Accuracies are drawn in percent, risks as they are."""
    return 1 if measure == "risk" else 100


def band(study: Study) -> str:
    """What a band is, ", mean and ..."; that there is none if no method has two seeds."""
    counts = {len(seeds) for seeds in study.records.values()}
    if counts == {1}:
        return "\none seed: no interval"
    return "\nmean and 95 % interval over n seeds" + (", none for one seed" if 1 in counts else "")


def _line(ax: Axes, study: Study, rounds: list[int], values: np.ndarray, look: dict) -> None:
    """values [S, R] as mean and band."""
    labels = [study.labelled[r] for r in rounds]
    mean, half = t_interval(values)
    ax.plot(labels, mean, **look)
    if len(values) > 1:
        shade = {"color": look["color"], "linewidth": 0, "alpha": 0.2}
        ax.fill_between(labels, mean - half, mean + half, zorder=look["zorder"] - 1, **shade)


def _look(method: str) -> dict[str, Any]:
    """A solid line; random is grey and lies below the others."""
    if method == REFERENCE:
        return style.query(method, linewidth=1.8, color="#8A8A8A")
    return style.query(method, linewidth=1.4, linestyle="-", markersize=3.2, zorder=6)


def _hollow(method: str) -> dict[str, Any]:
    """A published point: the method's marker and colour, empty, without a line."""
    look = _look(method)
    return look | {
        "marker": look["marker"] or "o",
        "linestyle": "",
        "markersize": 5,
        "markerfacecolor": "white",
        "markeredgecolor": look["color"],
        "markeredgewidth": 1.0,
        "label": f"{method}, published",
        "zorder": 7,
    }


def _limit(axes: Iterable[Axes], margin: float) -> None:
    """Limit the y axis that these panels share to the lines, and `margin` of their range for bands.

    The margin is on either side and a share of the lines' range.
    """
    axes = list(axes)
    lines = [line for ax in axes for line in ax.lines]
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in lines])
    low, high = drawn.min(), drawn.max()
    more = margin * (high - low) or abs(high) or 1
    bottom, top = axes[0].get_ylim()
    axes[0].set_ylim(max(bottom, low - more), min(top, high + more))


draw_risk_differences = partial(draw_differences, measure="risk")
main = command(
    __doc__, draw_curves, draw_differences, draw_risk_differences, released=draw_released
)

if __name__ == "__main__":
    main()
