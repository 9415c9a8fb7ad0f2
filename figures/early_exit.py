"""Figures and tables of evaluated early-exit runs: anytime, budgeted and optimism.

    python -m figures.early_exit results/runs/cifar10

Runs that differ in their seeds alone are one line, their mean, with a band of ± one standard
deviation. Published points are drawn where the network can be the published one, as far as data
set, architecture, exits and costs (to 5 %) tell; --published draws them beside any network.

Anytime: accuracy of every exit against its multiply-adds. The table has the published accuracies
too.

Budgeted: accuracy against mean multiply-adds when easy samples leave early: the 39 points of
`deferral.budgets.budgeted`, thresholds fitted on val, everything else from test, between the two
ends of any budget: all samples leave at the first exit, or all go to the last. Published costs
count ReLU, pooling and biases too (models/cost.py); our lines beside them do the same, which the
axis says. The table has the accuracy at 30, 50 and 70 % of the full cost, and the area under the
line divided by its width: the mean accuracy over all budgets.

Optimism: a table of the runs evaluated with --optimism (`deferral.budgets.optimism`), a row for
every method and split that thresholds were fitted on. Promised: accuracy and cost of the images
they were fitted on. Delivered: of test. Means over the 39 budgets; costs in % of the last exit's.
`beyond promise` is the delivered cost over the promised one, less 1. `above val's curve` is the
delivered accuracy less that of thresholds from val at the same cost: the average gain from looking
at those images; beside it its largest distance from 0 at any budget. The rows of val are the clean
protocol.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import experiment
from deferral.budgets import FULL_SHARES
from figures import published_exits, style
from figures.command import NotDrawn
from figures.early_exit_runs import OPTIMISM, ExitRun, Network, draw_lines, label, read
from figures.published_exits import Published
from figures.tables import Column, fixed, print_table, spread, write_table

SHARES = tuple(f"{share:g}" for share in FULL_SHARES)
BUDGETED = [
    Column("method", "method"),
    Column("n", "n"),
    *(Column(f"at_{share}", f"at {float(share):.0%}") for share in SHARES),
    Column("area", "area"),
    Column("last_exit", "last exit"),
]
FITTED_ON = ("train", "val", "test")
PROMISES = [
    Column("method", "method"),
    Column("n", "n"),
    Column("fitted_on", "fitted on"),
    Column("promised_accuracy", "promised", group="accuracy %"),
    Column("accuracy", "delivered", group="accuracy %"),
    Column("promised_cost", "promised", group="cost %"),
    Column("cost", "delivered", group="cost %"),
    Column("beyond", "beyond promise", group="cost %"),
    Column("above", "mean", group="above val's curve, points"),
    Column("furthest", "largest, up or down", group="above val's curve, points"),
]


def draw_anytime(network: Network, out: Path, forced: bool = False) -> list[Path]:
    """NAME-anytime as .pdf and .png, and as a table .md, .tex and .csv, which is printed too."""
    about = network.dataset, network.arch, network.multiply_adds
    published = published_exits.fitting("anytime", *about, forced)
    fig, (ax,) = style.panels(1, 1, 3.6)
    cost = np.array(network.multiply_adds)
    lines = {
        method: (cost, np.array([run.accuracy for run in runs]))
        for method, runs in network.methods.items()
    }
    draw_lines(ax, network, lines, published)
    what = f"accuracy of every exit on test{network.spread}"
    style.finish(fig, f"{network.title}\n{what}", 3)

    rows, columns = anytime_table(network, published)
    caption = f"{network.title}: {what}, in %; multiply-adds in 1e6."
    print_table(rows, columns, caption)
    name = f"{network.name}-anytime"
    return style.save(fig, out, name) + write_table(rows, columns, out, name, caption)


def anytime_table(
    network: Network, published: list[Published]
) -> tuple[list[dict[str, Any]], list[Column]]:
    """A row an exit, a column a method, then one for each published curve of this network."""
    rows: list[dict[str, Any]] = [
        {"exit": k, "multiply_adds": cost} for k, cost in enumerate(network.multiply_adds, start=1)
    ]
    columns = [Column("exit", "exit"), Column("multiply_adds", "multiply-adds", fixed(2, 1e-6))]
    for method, runs in network.methods.items():
        columns.append(Column(method, label(method, len(runs)), group="accuracy %"))
        for row in rows:
            row[method] = spread([run.accuracy[row["exit"] - 1] for run in runs], 2, 100)
    for points in published:
        if points.is_of(network.multiply_adds):
            key, group = f"published_{points.method}", f"published ({points.paper})"
            columns.append(Column(key, label(points.method), group=group))
            accuracies = dict(zip(points.exits, points.accuracies, strict=True))
            for row in rows:
                row[key] = f"{accuracies[row['exit']]:g}" if row["exit"] in accuracies else "–"
    return rows, columns


def draw_budgeted(network: Network, out: Path, forced: bool = False) -> list[Path]:
    """NAME-budgeted as .pdf and .png, and as a table .md, .tex and .csv, which is printed too."""
    about = network.dataset, network.arch, network.multiply_adds
    published = published_exits.fitting("budgeted", *about, forced)
    curves = {m: [run.curve for run in runs] for m, runs in network.methods.items()}
    if published:
        as_released = {
            method: [run.release_curve for run in runs if run.release_curve is not None]
            for method, runs in network.methods.items()
        }
        if all(len(as_released[method]) == len(curves[method]) for method in curves):
            curves = as_released
        else:
            print(
                f"{network.name}: no published points: a result lacks release_multiply_adds; "
                "evaluate again"
            )
            published = []
    fig, (ax,) = style.panels(1, 1, 3.6)
    lines = {method: at_equal_cost(of_runs) for method, of_runs in curves.items()}
    draw_lines(ax, network, lines, published, marker="")
    more = "\nwith ReLU, pooling and biases, as published" if published else ""
    ax.set_xlabel(f"mean {ax.get_xlabel()}{more}")
    what = f"budgeted, thresholds from val, accuracy on test{network.spread}"
    style.finish(fig, f"{network.title}\n{what}", 3)

    caption = (
        f"{network.title}: {what}, in %. At a share of the full cost; area: the mean accuracy over "
        "all costs from the first exit to the last; a dash: less than the first exit costs."
    )
    rows = [
        {"method": label(method), "n": str(len(runs))}
        | {f"at_{s}": spread([run.at_share.get(s) for run in runs], 2, 100) for s in SHARES}
        | {"area": spread([run.area for run in runs], 2, 100)}
        | {"last_exit": spread([run.accuracy[-1] for run in runs], 2, 100)}
        for method, runs in network.methods.items()
    ]
    print_table(rows, BUDGETED, caption)
    name = f"{network.name}-budgeted"
    return style.save(fig, out, name) + write_table(rows, BUDGETED, out, name, caption)


def at_equal_cost(
    curves: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Every cost that is a point of some run, [M], and each run's accuracy there, [R, M].

    Between two points a run's curve is a straight line; with its ends it covers all costs.
    """
    cost = np.unique(np.concatenate([costs for costs, _ in curves]))
    return cost, np.array([np.interp(cost, *curve) for curve in curves])


def draw_optimism(network: Network, out: Path) -> list[Path]:
    """NAME-optimism as .md, .tex and .csv, printed too. NotDrawn where no run has the numbers."""
    rows = []
    for method, runs in network.methods.items():
        for split in FITTED_ON:
            measured = [m for run in runs if (m := promises(run, split, network.multiply_adds[-1]))]
            if measured:
                head = {"method": label(method), "n": str(len(measured)), "fitted_on": split}
                means = {k: spread([m[k] for m in measured], 2, 100) for k in measured[0]}
                rows.append(head | means)
    if not rows:
        raise NotDrawn("no run has thresholds from train and test; evaluate with --optimism")
    caption = (
        f"{network.title}: thresholds fitted on train, val and test, means over all budgets"
        f"{network.spread}. Promised: of the images they were fitted on; delivered: of test."
    )
    print_table(rows, PROMISES, caption)
    return write_table(rows, PROMISES, out, f"{network.name}-optimism", caption)


def promises(run: ExitRun, split: str, full: int) -> dict[str, float]:
    """What thresholds from one split promised and delivered, as shares; empty: not evaluated."""
    if split not in run.optimism:
        return {}
    promised_accuracy, accuracy, promised_cost, cost, above = (
        run.optimism[split][key] for key in OPTIMISM
    )
    return {
        "promised_accuracy": promised_accuracy.mean(),
        "accuracy": accuracy.mean(),
        "promised_cost": promised_cost.mean() / full,
        "cost": cost.mean() / full,
        "beyond": cost.sum() / promised_cost.sum() - 1,
        "above": above.mean(),
        "furthest": np.abs(above).max(),
    }


@experiment.script
def main(argv: Sequence[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument(
        "run_dirs", metavar="RUN_DIR", type=Path, nargs="+", help="*-eval.json in or below it"
    )
    parser.add_argument(
        "--out", type=Path, help="where files go (default: figures/ in the folder of all runs)"
    )
    parser.add_argument(
        "--published", action="store_true", help="draw published points beside any network"
    )
    args = parser.parse_args(argv)
    with experiment.one_line_errors():
        networks = read(args.run_dirs)
    together = os.path.commonpath([path.resolve() for path in args.run_dirs])
    # The folder as it was typed where there is one, so that printed paths are short.
    folder = args.run_dirs[0] if len(args.run_dirs) == 1 else Path(together)
    out = args.out or folder / "figures"
    for network in networks:
        paths = draw_anytime(network, out, args.published)
        paths += draw_budgeted(network, out, args.published)
        try:
            paths += draw_optimism(network, out)
        except NotDrawn as reason:
            print(f"{network.name}: not drawn: {reason}")
        print(*paths, sep="\n")


if __name__ == "__main__":
    main()
