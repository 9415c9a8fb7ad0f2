"""Learning curves: what a label is worth under each method, a figure a data set and T.

    python -m active_learning.plot results/runs/active

NAME-curves: test accuracy against the number of labels: mean over the targets, worst target, unseen
nets, spread over the targets, and the risk of the cascade. NAME-differences and, of the cascade's
risk, NAME-risk-differences: a panel a method, its curve minus random's of the same seeds, and those
of the others. A line is the mean over seeds, a band its 95 % Student interval; there is none around
one seed, and it is cut where it would dwarf the lines. Each line has the rounds that its method has
in all its seeds. Published points (Tang and Huang, 2022; KMNIST, T = 12) are hollow; they are drawn
where labels and targets are the paper's.

Of extracted_results with performances.txt alone, as the paper's release has them, it draws the
paper's figure, NAME-targets for each T: mean top-1 of the targets by round, with the standard
deviation over the targets as error bars.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from active_learning.over_seeds import t_interval
from active_learning.released_results import Tree
from active_learning.results import REFERENCE, Study, command, comparable
from figures import style
from figures.command import NotDrawn

PANELS = {
    "top1": "mean over the targets (%)",
    "worst": "worst target (%)",
    "unseen": "unseen nets, mean (%)",
    "spread": "best target − worst (points)",
    "risk": "cascade's risk",
}
MINUS = {"top1": ("mean top-1 of the targets", "points"), "risk": ("the cascade's risk", "risk")}
ROOM = 0.25  # for bands beyond the lines' range, as a share of it
STAND_OUT = (REFERENCE, "DIAM", "risk")


def draw_curves(study: Study, out: Path) -> list[Path]:
    """NAME-curves as .pdf and .png."""
    measures = [m for m in PANELS if m == "spread" or m in study.measures]
    fig, axes = style.panels(len(measures), 3 if len(measures) > 4 else 2, 2.5)
    points = published_points(study)
    for ax, measure in zip(axes, measures, strict=True):
        for method, found in study.methods.items():
            rounds = study.rounds([method])
            values = scale(measure) * study.values(method, measure, list(found), rounds)
            _line(ax, study, rounds, values, style.query(method), faint=method not in STAND_OUT)
        for method, (labels, accuracies) in points.items() if measure == "top1" else ():
            ax.plot(labels, accuracies, **_hollow(method))
        _axis(ax, PANELS[measure])
        _limit(ax, ROOM)
    style.finish(fig, f"{study.title}, {seeds(study)}\ntest accuracy{band(study)}", 5)
    return style.save(fig, out, f"{study.name}-curves")


def draw_differences(study: Study, out: Path, measure: str = "top1") -> list[Path]:
    """A panel a method: `measure` minus random's, paired by seed. NotDrawn without a pair."""
    pairs = {
        method: (shared, found)
        for method in study.methods
        if method != REFERENCE
        and (shared := study.seeds_with_reference(method))
        and (found := study.rounds([method, REFERENCE], shared))
    }
    if not pairs:
        raise NotDrawn("no method has a seed and a round in common with random")
    gaps = {}
    for method, (shared, rounds) in pairs.items():
        both = [study.values(m, measure, shared, rounds) for m in (method, REFERENCE)]
        gaps[method] = scale(measure) * (both[0] - both[1])
    fig, axes = style.panels(len(pairs), 4 if len(pairs) > 4 else len(pairs), 1.75)
    for ax, (method, (_, rounds)) in zip(axes, pairs.items(), strict=True):
        if ax is not axes[0]:
            ax.sharey(axes[0])
        ax.axhline(0, **style.query(REFERENCE, label=None, linewidth=2.2))
        for other, (_, theirs) in pairs.items():
            if other != method:
                labels = [study.labelled[r] for r in theirs]
                ax.plot(labels, gaps[other].mean(0), color="#C9C9C9", linewidth=0.7, zorder=2.5)
        look = style.query(method, linewidth=1.8, linestyle="-", label=None)
        _line(ax, study, rounds, gaps[method], look, faint=False)
        ax.set_title(f"{method} (n = {len(gaps[method])})")
        what, unit = MINUS[measure]
        _axis(ax, unit)
        ax.label_outer()
    _limit(axes[0], 1.0)  # all panels share it, and each has all lines
    style.head(
        fig,
        f"{study.title}: {what}, minus random's\n"
        f"paired by seed{band(study)}\nat 0: random; thin: the other methods",
    )
    name = f"{study.name}-differences" if measure == "top1" else f"{study.name}-risk-differences"
    return style.save(fig, out, name)


def draw_risk_differences(study: Study, out: Path) -> list[Path]:
    return draw_differences(study, out, "risk")


def draw_released(tree: Tree, out: Path) -> list[Path]:
    """The paper's figure of each T, as .pdf and .png: DATASET-T-targets."""
    paths = []
    for model_num, methods in tree.accuracies.items():
        fig, (ax,) = style.panels(1, 1, 3.6)
        for method in (m for m in tree.methods if m in methods):
            rounds = sorted(methods[method])
            mean, std = tree.curve(model_num, method, rounds)
            look = style.query(method)
            ax.plot(rounds, mean, **look)
            bars = {"color": look["color"], "alpha": 0.4, "elinewidth": 1, "capsize": 2}
            ax.errorbar(rounds, mean, std, linestyle="", zorder=look["zorder"] - 1, **bars)
        ax.set(xlabel="round", ylabel="mean over the targets (%)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        title = f"{tree.dataset}, {model_num} targets\ntop-1, mean and standard deviation over them"
        style.finish(fig, title, 5)
        paths += style.save(fig, out, f"{tree.dataset}-{model_num}-targets")
    return paths


def published_points(study: Study) -> dict[str, tuple[list[int], list[float]]]:
    """Labels and mean top-1 in percent of the methods whose rounds were published."""
    points: dict[str, tuple[list[int], list[float]]] = {}
    for row in comparable(study, study.labelled):
        if row["round"] is not None:
            labels, accuracies = points.setdefault(row["method"], ([], []))
            labels.append(row["labelled"])
            accuracies.append(row["top1"])
    return points


def scale(measure: str) -> int:
    """Accuracies are drawn in percent, risks as they are."""
    return 1 if measure == "risk" else 100


def seeds(study: Study) -> str:
    """ "seed 1", "seeds 1, 2, 3", or "1 to 3 seeds" where methods have unlike ones."""
    sets = {tuple(found) for found in study.methods.values()}
    if len(sets) > 1:
        counts = sorted({len(one) for one in sets})
        return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))) + " seeds a method"
    (only,) = sets
    return f"seed{'s' * (len(only) > 1)} {', '.join(map(str, only))}"


def band(study: Study) -> str:
    """What a band is, ", mean and ..."; that there is none where no method has two seeds."""
    counts = {len(found) for found in study.methods.values()}
    if counts == {1}:
        return ", one seed: no interval"
    return ", mean and 95 % interval over seeds" + (", none for one seed" if 1 in counts else "")


def _line(
    ax: Axes, study: Study, rounds: list[int], values: np.ndarray, look: dict, faint: bool
) -> None:
    """values [S, R] as mean and band."""
    labels = [study.labelled[r] for r in rounds]
    mean, half = t_interval(values)
    ax.plot(labels, mean, **look)
    if len(values) > 1:
        shade = {"color": look["color"], "linewidth": 0, "alpha": 0.06 if faint else 0.16}
        ax.fill_between(labels, mean - half, mean + half, zorder=look["zorder"] - 1, **shade)


def _hollow(method: str) -> dict:
    """A published point: the method's marker and colour, empty, without a line."""
    look = style.query(method, linestyle="", zorder=7, markersize=6)
    look |= {"markerfacecolor": "white", "markeredgecolor": look["color"], "markeredgewidth": 1.2}
    look["marker"] = look["marker"] or "o"
    return look | {"label": f"{method}, published"}


def _axis(ax: Axes, name: str) -> None:
    ax.set(xlabel="labels", ylabel=name)
    ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))


def _limit(ax: Axes, room: float) -> None:
    """Cut bands that reach beyond the lines by more than `room`, a share of the lines' range."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
    low, high = drawn.min(), drawn.max()
    more = room * (high - low) or abs(high) or 1
    bottom, top = ax.get_ylim()
    ax.set_ylim(max(bottom, low - more), min(top, high + more))


main = command(
    __doc__, draw_curves, draw_differences, draw_risk_differences, released=draw_released
)

if __name__ == "__main__":
    main()
