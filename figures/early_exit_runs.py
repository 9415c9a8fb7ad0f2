"""Evaluated early-exit runs: find their results, and put those of one network together.

A network is a data set, an architecture and the costs of its exits; its runs differ in method and
seed. Curves, tables and published points are drawn a network at a time.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from deferral import budgets
from figures import style
from figures.published_exits import Published

NetworkKey = tuple[str, str, tuple[int, ...]]  # data set, architecture, costs of the exits
ARCHS = {"msdnet": "MSDNet", "ranet": "RANet", "resnet": "ResNet", "vit": "ViT", "bert": "BERT"}
BIG = 3e8  # multiply-adds from which the axis is in 1e8
OPTIMISM = (
    "promised_accuracy",
    "accuracy",
    "promised_multiply_adds",
    "multiply_adds",
    "above_clean_curve",
)


@dataclass(frozen=True, eq=False)
class ExitRun:
    """One {dataset}-eval.json; accuracies are of test, 0..1."""

    dataset: str
    arch: str
    method: str
    seed: int | None  # None: a network trained elsewhere
    epochs: int | None
    multiply_adds: tuple[int, ...]
    accuracy: np.ndarray  # of every exit, [E]
    curve: tuple[np.ndarray, np.ndarray]  # costs and accuracies of the budgeted curve, with ends
    release_curve: tuple[np.ndarray, np.ndarray] | None  # the same, costs as the releases count
    at_share: dict[str, float | None]
    area: float
    optimism: dict[str, dict[str, np.ndarray]]  # by what thresholds were fitted on; a row a budget
    source: Path


@dataclass(frozen=True, eq=False)
class Network:
    """Runs on one network: by method, then by seed. `name` is that of its files."""

    name: str
    dataset: str
    arch: str
    multiply_adds: tuple[int, ...]
    methods: dict[str, list[ExitRun]]

    @property
    def title(self) -> str:
        """ "cifar10: MSDNet, 5 exits, 47.4 million multiply-adds, 300 epochs"."""
        count = f"{len(self.multiply_adds)} exits" if len(self.multiply_adds) > 1 else "1 exit"
        full = f"{self.multiply_adds[-1] / 1e6:,.1f} million multiply-adds"
        epochs = {run.epochs for runs in self.methods.values() for run in runs}
        same_epochs = f", {epochs.pop()} epochs" if len(epochs) == 1 and None not in epochs else ""
        return f"{self.dataset}: {ARCHS.get(self.arch, self.arch)}, {count}, {full}{same_epochs}"

    @property
    def spread(self) -> str:
        """What a band and a ± are, ", mean ± ..."; nothing where every method has one run."""
        several = any(len(runs) > 1 for runs in self.methods.values())
        return ", mean ± standard deviation over n seeds" if several else ""


def read(run_dirs: list[Path]) -> list[Network]:
    """Every *-eval.json in these folders and below, a file once. ValueError, one line, else."""
    paths: dict[Path, Path] = {}
    for folder in run_dirs:
        here = {path.resolve(): path for path in folder.rglob("*-eval.json")}
        if not here:
            raise ValueError(f"no *-eval.json in {folder}; run python -m early_exit.eval first")
        paths = here | paths
    by_network = defaultdict(list)
    for _, path in sorted(paths.items()):
        run = read_run(path)
        by_network[run.dataset, run.arch, run.multiply_adds].append(run)
    names = _names(list(by_network))
    return [
        Network(name, dataset, arch, costs, _by_method(by_network[dataset, arch, costs]))
        for (dataset, arch, costs), name in names.items()
    ]


def read_run(path: Path) -> ExitRun:
    """One result. ValueError, naming the file, where it is none or does not fit together."""
    try:
        result = json.loads(path.read_text())
        run = ExitRun(
            **{key: result[key] for key in ("dataset", "arch", "method")},
            seed=result.get("seed"),
            epochs=result.get("epochs"),
            multiply_adds=tuple(result["multiply_adds"]),
            accuracy=np.array([row["accuracy"] for row in result["anytime"]], dtype=float),
            curve=budgets.sorted_curve(*budgets.whole_curve(result["anytime"], result["budgeted"])),
            release_curve=_release_curve(result),
            at_share={k: v if v is None else float(v) for k, v in result["at_share"].items()},
            area=float(result["area"]),
            optimism=_by_split(result.get("optimism") or []),
            source=path,
        )
    except KeyError as e:
        raise ValueError(f"{path}: lacks {e}; it is no result of early_exit.eval") from None
    except (TypeError, ValueError, IndexError, AttributeError):
        raise ValueError(f"{path}: is no result of early_exit.eval") from None
    if not all(type(cost) is int and cost > 0 for cost in run.multiply_adds):
        raise ValueError(f"{path}: multiply_adds are not whole numbers above 0")
    if len(run.accuracy) != len(run.multiply_adds):
        raise ValueError(
            f"{path}: {len(run.accuracy)} accuracies, but {len(run.multiply_adds)} multiply_adds"
        )
    if any(not ((x >= 0) & (x <= 1)).all() for x in (run.accuracy, run.curve[1])):
        raise ValueError(f"{path}: holds accuracies outside 0..1")
    return run


def label(method: str, count: int | None = None) -> str:
    """ "L2W"; with a count, "L2W (n = 3)"."""
    name = style.method(method)["label"]
    return name if count is None else f"{name} (n = {count})"


def draw_lines(
    ax: Axes,
    network: Network,
    lines: dict[str, tuple[np.ndarray, np.ndarray]],
    published: list[Published],
    **change: Any,
) -> None:
    """A line a method, from its costs [M] and the accuracies [R, M] of its runs; the axes' names.

    It is the mean, from two runs on with a band of ± std. Published points are hollow, on a dotted
    line of the method's colour. The order is that of the legend: published under ours.
    """
    power = 8 if network.multiply_adds[-1] >= BIG else 6
    unit = 10.0**power
    ax.set(xlabel=rf"multiply-adds ($10^{power}$)", ylabel="test accuracy (%)")
    has = {points.method for points in published}
    for method in sorted(lines, key=lambda method: method not in has):
        cost, accuracies = lines[method]
        look = style.method(method, label=label(method, len(accuracies))) | change
        mean = 100 * accuracies.mean(0)
        ax.plot(cost / unit, mean, **look)
        if len(accuracies) > 1:
            low, high = mean + 100 * accuracies.std(0, ddof=1) * np.array([[-1], [1]])
            ax.fill_between(cost / unit, low, high, color=look["color"], alpha=0.18, linewidth=0)
        for points in published:
            if points.method == method:
                _draw_published(ax, points, network, unit)
    for points in published:
        if points.method not in lines:
            _draw_published(ax, points, network, unit)


def _draw_published(ax: Axes, points: Published, network: Network, unit: float) -> None:
    name = f"{label(points.method)}, published ({points.paper})"
    if not points.is_of(network.multiply_adds):
        name += ",\nof another network"
    look = style.method(points.method, label=name)
    look |= {"markerfacecolor": "white", "markeredgecolor": look["color"], "zorder": 6}
    look |= {"linestyle": (0, (1, 1.6)), "linewidth": 1.0, "markeredgewidth": 1.2}
    ax.plot(np.array(points.costs) / unit, points.accuracies, **look)


def _release_curve(result: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """The budgeted curve at `release_multiply_adds` (models/cost.py), exact by its shares."""
    if (costs := result.get("release_multiply_adds")) is None:
        return None
    each_exit = np.eye(len(costs)).tolist()
    shares = [each_exit[0], *(row["shares"] for row in result["budgeted"]), each_exit[-1]]
    _, accuracies = budgets.whole_curve(result["anytime"], result["budgeted"])
    return budgets.sorted_curve(np.array(shares) @ np.array(costs), accuracies)


def _by_split(rows: list[dict[str, Any]]) -> dict[str, dict[str, np.ndarray]]:
    """Rows of `deferral.budgets.optimism` as columns, by what thresholds were fitted on."""
    splits = dict.fromkeys(row["fitted_on"] for row in rows)
    return {
        split: {
            key: np.array([row[key] for row in rows if row["fitted_on"] == split], dtype=float)
            for key in OPTIMISM
        }
        for split in splits
    }


def _by_method(runs: list[ExitRun]) -> dict[str, list[ExitRun]]:
    """Base, l2w, boosted, then others by name. ValueError for runs that are not of one setting."""
    by_method = defaultdict(list)
    for run in runs:
        by_method[run.method].append(run)
    order = list(style.METHODS)
    methods = sorted(by_method, key=lambda m: (order.index(m) if m in order else len(order), m))
    for method in methods:
        by_seed: dict[Any, ExitRun] = {}
        for run in by_method[method]:
            if (other := by_seed.setdefault(run.seed, run)) is not run:
                raise ValueError(
                    f"{other.source} and {run.source}: both {method} with seed {run.seed} on one "
                    "network; give one of them"
                )
        if len(epochs := {run.epochs for run in by_method[method]}) > 1:
            of = ", ".join(map(str, sorted(epochs, key=str)))
            raise ValueError(
                f"{by_method[method][0].source} and others: {method} runs of {of} epochs are not "
                "one setting; give those of one"
            )
        by_method[method].sort(key=lambda run: -1 if run.seed is None else run.seed)
    return {method: by_method[method] for method in methods}


def _names(networks: list[NetworkKey]) -> dict[NetworkKey, str]:
    """Data set and architecture; with exits, then costs, where that is not enough."""
    names = {}
    for network in networks:
        dataset, arch, costs = network
        same = [costs for *about, costs in networks if about == [dataset, arch]]
        name = f"{dataset}-{arch}"
        if len(same) > 1:
            name += f"-{len(costs)}exits"
        if [len(other) for other in same].count(len(costs)) > 1:
            name += f"-{costs[-1]}"
        names[network] = name
    return names
