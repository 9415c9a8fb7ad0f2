"""Anytime: accuracy of every exit against its multiply-adds, a line a method.

    python -m figures.anytime results/runs/cifar10

Runs that differ in their seeds alone are one line, their mean, with a band of ± one standard
deviation. Published points are drawn where the network is the published one, as far as data set,
architecture, exits and costs (to 5 %) tell; --published draws them beside any network. The table
has the accuracies, those published too.
"""

from pathlib import Path
from typing import Any

import numpy as np

from figures import early_exit_runs as exit_runs
from figures import published_exits, style
from figures.early_exit_runs import Network, command
from figures.published_exits import Published
from figures.tables import Column, fixed, print_table, write_table


def draw(network: Network, out: Path, forced: bool = False) -> list[Path]:
    """NAME-anytime as .pdf and .png, and as a table .md, .tex and .csv, which is printed too."""
    about = network.dataset, network.arch, network.multiply_adds
    published = published_exits.fitting("anytime", *about, forced)
    fig, (ax,) = style.panels(1, 1, 3.6)
    cost = np.array(network.multiply_adds)
    lines = {
        method: (cost, np.array([run.accuracy for run in runs]))
        for method, runs in network.methods.items()
    }
    exit_runs.draw_lines(ax, network, lines, published)
    what = f"accuracy of every exit on test{network.spread}"
    style.finish(fig, f"{network.title}\n{what}", 3)

    rows, columns = table(network, published)
    caption = f"{network.title}: {what}, in %; multiply-adds in 1e6."
    print_table(rows, columns, caption)
    name = f"{network.name}-anytime"
    return style.save(fig, out, name) + write_table(rows, columns, out, name, caption)


def table(
    network: Network, published: list[Published]
) -> tuple[list[dict[str, Any]], list[Column]]:
    """A row an exit, a column a method, then one for each published curve of this network."""
    rows = [
        {"exit": k, "multiply_adds": cost} for k, cost in enumerate(network.multiply_adds, start=1)
    ]
    columns = [Column("exit", "exit"), Column("multiply_adds", "multiply-adds", fixed(2, 1e-6))]
    for method, runs in network.methods.items():
        columns.append(Column(method, exit_runs.label(method, len(runs)), group="accuracy %"))
        for row in rows:
            row[method] = exit_runs.spread([run.accuracy[row["exit"] - 1] for run in runs])
    for points in published:
        if points.is_of(network.multiply_adds):
            key, group = f"published_{points.method}", f"published ({points.paper})"
            columns.append(Column(key, exit_runs.label(points.method), group=group))
            told = dict(zip(points.exits, points.accuracies, strict=True))
            for row in rows:
                row[key] = f"{told[row['exit']]:g}" if row["exit"] in told else "–"
    return rows, columns


main = command(__doc__, draw)

if __name__ == "__main__":
    main()
