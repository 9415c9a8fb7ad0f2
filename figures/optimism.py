"""What thresholds fitted on training or on test images promise, and what they deliver on test.

    python -m figures.optimism results/runs/cifar10

A table of the runs evaluated with --optimism (`deferral.exits.optimism`), a row for every method
and split that thresholds were fitted on. Promised: accuracy and cost of the images they were fitted
on. Delivered: of test. Means over the 39 budgets; costs in % of the last exit's. `beyond promise`
is the delivered cost over the promised one, less 1. `above val's curve` is the delivered accuracy
less that of thresholds from val at the same cost: what looking at those images gained, on average;
beside it how far it is from 0, up or down, at the budget where that is most. The rows of val are
the clean protocol.
"""

from pathlib import Path

import numpy as np

from figures import early_exit_runs as exit_runs
from figures.command import NotDrawn
from figures.early_exit_runs import ExitRun, Network, command
from figures.tables import Column, print_table, write_table

FITTED_ON = ("train", "val", "test")
COLUMNS = [
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
MEASURED = [column.key for column in COLUMNS[3:]]


def draw(network: Network, out: Path) -> list[Path]:
    """NAME-optimism as .md, .tex and .csv, printed too. NotDrawn where no run has the numbers."""
    rows = table(network)
    if not rows:
        raise NotDrawn("no run has thresholds from train and test; evaluate with --optimism")
    caption = (
        f"{network.title}: thresholds fitted on train, val and test, means over all budgets"
        f"{network.spread}. Promised: of the images they were fitted on; delivered: of test."
    )
    print_table(rows, COLUMNS, caption)
    return write_table(rows, COLUMNS, out, f"{network.name}-optimism", caption)


def table(network: Network) -> list[dict[str, str]]:
    """Rows of COLUMNS, of the runs that have the numbers."""
    rows = []
    for method, runs in network.methods.items():
        full = network.multiply_adds[-1]
        for split in FITTED_ON:
            found = [measured for run in runs if (measured := measure(run, split, full))]
            if found:
                head = {"method": exit_runs.label(method), "n": str(len(found)), "fitted_on": split}
                cells = {key: exit_runs.spread([m[key] for m in found]) for key in MEASURED}
                rows.append(head | cells)
    return rows


def measure(run: ExitRun, split: str, full: int) -> dict[str, float] | None:
    """What thresholds from one split promised and delivered, as shares; None: not evaluated."""
    if split not in run.optimism:
        return None
    promised_accuracy, accuracy, promised_cost, cost, above = (
        run.optimism[split][key] for key in exit_runs.OPTIMISM
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


main = command(__doc__, draw, published=False)

if __name__ == "__main__":
    main()
