"""Mean ± standard deviation over runs that differ in their seeds alone, a row a setting.

    python -m figures.seeds_table RUN_DIR RUN_DIR RUN_DIR --out DIR

Printed, and written as .md, .tex and .csv. The last row is over the settings too: the mean risk of
the whole grid in each run, then mean and deviation over the runs.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

import experiment
from deferral.catalogue import SUMMARY
from deferral.predictions import Predictions
from deferral.summary import setting_name, summarise
from figures import style
from figures.command import read
from figures.tables import Column, print_table, write_table

# What is averaged: (key, heading, factor, digits, common heading).
MEASURED = [
    ("reject_rate", "reject %", 100, 1, ""),
    ("accuracy", "accuracy %", 100, 1, ""),
    *((f"risk_{rule.key}", rule.label, 1, 3, "risk") for rule in SUMMARY),
]
COLUMNS = [
    Column("cost_1", "c_1", tex="$c_1$"),
    Column("cost_e", "c_e", tex="$c_e$"),
    Column("refresh", "S", tex="$S$"),
    *(Column(key, head, group=group) for key, head, _, _, group in MEASURED),
]


def over_runs(runs: list[Predictions]) -> list[dict[str, str]]:
    """Rows of text for COLUMNS; standard deviations with n - 1.

    ValueError where two runs have one seed, or their settings or surrogates differ.
    """
    seeds = [run.settings["seed"] for run in runs]
    if len(runs) < 2 or len(set(seeds)) < len(seeds):
        raise ValueError(f"{runs[0].source}: give runs of two or more seeds, not of {seeds}")
    by_setting = defaultdict(list)
    for run in runs:
        for row in summarise(run):
            by_setting[row["cost_1"], row["cost_e"], row["async_freq"], row["surrogate"]].append(
                row
            )
    for key, rows in by_setting.items():
        if len(rows) != len(runs):
            raise ValueError(f"{runs[0].source}: not all {len(runs)} runs have the setting {key}")
    table = []
    for (cost_1, cost_e, freq, _), rows in sorted(
        by_setting.items(), key=lambda x: str(x[0][3:] + x[0])
    ):
        head = {"cost_1": f"{cost_1:g}", "cost_e": f"{cost_e:g}"}
        table.append(head | {"refresh": setting_name(freq).removeprefix("S = ")} | _spread(rows))
    grid = [
        {key: np.mean([rows[i][key] for rows in by_setting.values()]) for key, *_ in MEASURED}
        for i in range(len(runs))
    ]
    return [*table, {"cost_1": "all", "cost_e": "all", "refresh": "all"} | _spread(grid)]


def _spread(rows: list[dict]) -> dict[str, str]:
    """Mean ± std of every measured key over rows of the same setting."""
    cells = {}
    for key, _, factor, digits, _ in MEASURED:
        values = factor * np.array([row[key] for row in rows])
        cells[key] = f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"
    return cells


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("run_dirs", metavar="RUN_DIR", type=Path, nargs="+", help="one a seed")
    parser.add_argument("--out", type=Path, required=True, help="where the tables go")
    args = parser.parse_args(argv)
    with experiment.one_line_errors():
        by_data = defaultdict(list)
        for run_dir in args.run_dirs:
            for name, predictions in read(run_dir).items():
                by_data[name].append(predictions)
        tables = {name: over_runs(runs) for name, runs in by_data.items()}
    for name, rows in tables.items():
        runs = by_data[name]
        seeds = ", ".join(str(run.settings["seed"]) for run in runs)
        nets = " and ".join(runs[0].settings[k] for k in ("local", "edge"))
        caption = (
            f"{name}: {nets}, {style.tested(runs[0])}, mean ± standard deviation over "
            f"{len(runs)} runs (seeds {seeds}). Evaluated at {style.made_by(runs[0])}."
        )
        print_table(rows, COLUMNS, caption)
        for path in write_table(rows, COLUMNS, args.out, f"{name}-seeds_table", caption):
            print(path)


if __name__ == "__main__":
    main()
