"""Budgeted: accuracy against mean multiply-adds when easy samples leave early, a line a method.

    python -m figures.budgeted results/runs/cifar10

The 39 points of `deferral.exits.budgeted`, thresholds fitted on val, all else from test, between
the two ends of what a budget can be: all leave at the first exit, or all go to the last. Runs that
differ in their seeds alone are one line, the mean of their accuracies at equal cost, with a band
of ± one standard deviation. Published points are drawn where they can be of this network;
--published draws them beside any. They count ReLU, pooling and biases too (models/cost.py), and so
do our lines beside them, which the axis says. The table has the accuracy at 30, 50 and 70 % of the
full cost, and the area under the line, divided by its width: the mean accuracy over all budgets.
"""

from pathlib import Path

import numpy as np

from deferral.exits import FULL_SHARES
from figures import early_exit_runs as exit_runs
from figures import published_exits, style
from figures.early_exit_runs import Network, command
from figures.tables import Column, print_table, write_table

SHARES = tuple(f"{share:g}" for share in FULL_SHARES)
COLUMNS = [
    Column("method", "method"),
    Column("n", "n"),
    *(Column(f"at_{share}", f"at {float(share):.0%}") for share in SHARES),
    Column("area", "area"),
    Column("last_exit", "last exit"),
]


def draw(network: Network, out: Path, forced: bool = False) -> list[Path]:
    """NAME-budgeted as .pdf and .png, and as a table .md, .tex and .csv, which is printed too."""
    about = network.dataset, network.arch, network.multiply_adds
    published = published_exits.fitting("budgeted", *about, forced)
    runs = [run for runs in network.methods.values() for run in runs]
    if published and any(run.release_curve is None for run in runs):
        print(
            f"{network.name}: no published points: a result lacks release_multiply_adds; evaluate"
        )
        published = []
    fig, (ax,) = style.panels(1, 1, 3.6)
    name = "release_curve" if published else "curve"
    lines = {
        method: at_equal_cost([getattr(run, name) for run in runs])
        for method, runs in network.methods.items()
    }
    exit_runs.draw_lines(ax, network, lines, published, marker="")
    more = "\nwith ReLU, pooling and biases, as published" if published else ""
    ax.set_xlabel(f"mean {ax.get_xlabel()}{more}")
    what = f"budgeted, thresholds from val, accuracy on test{network.spread}"
    style.finish(fig, f"{network.title}\n{what}", 3)

    caption = (
        f"{network.title}: {what}, in %. At a share of the full cost; area: the mean accuracy over "
        "all costs from the first exit to the last; a dash: less than the first exit costs."
    )
    rows = table(network)
    print_table(rows, COLUMNS, caption)
    name = f"{network.name}-budgeted"
    return style.save(fig, out, name) + write_table(rows, COLUMNS, out, name, caption)


def at_equal_cost(
    curves: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Every cost that is a point of some run, [M], and each run's accuracy there, [R, M].

    Between two points a run's curve is a straight line; with its ends it covers all costs.
    """
    cost = np.unique(np.concatenate([costs for costs, _ in curves]))
    return cost, np.array([np.interp(cost, *curve) for curve in curves])


def table(network: Network) -> list[dict[str, str]]:
    """A row of COLUMNS a method."""
    return [
        {"method": exit_runs.label(method), "n": str(len(runs))}
        | {f"at_{s}": exit_runs.spread([run.at_share.get(s) for run in runs]) for s in SHARES}
        | {"area": exit_runs.spread([run.area for run in runs])}
        | {"last_exit": exit_runs.spread([run.accuracy[-1] for run in runs])}
        for method, runs in network.methods.items()
    ]


main = command(__doc__, draw)

if __name__ == "__main__":
    main()
