"""Draws time and memory against the number of cost settings, from a file of `benchmarks.scale`.

    python -m benchmarks.scale_figure settings.json [--out DIR]

All axes are logarithmic. A point is the median of the rounds, its bar their range. The thin lines
show memory by the formula in the docstring of the benchmark.
"""

import json
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

import experiment
from figures import style

KIND = "settings"
TITLE = "One pass over all cost settings, against a run for each"
STEP, MEMORY = "milliseconds", "bytes"
AXES = {STEP: "ms a step", MEMORY: "peak memory, MB"}
LOOKS = {
    "one pass": style.rule("rejector", label="one pass"),
    "a run each": style.rule("max_softmax", label="a run each: $K$ times one run", marker=""),
    "edge alone": style.rule("never", label="the edge net alone"),
}
FORMULA: dict[str, Any] = {
    "color": style.INK,
    "linewidth": 0.8,
    "label": "bytes by the formula",
    "zorder": 1,
}


def read(path: Path) -> dict[str, Any]:
    """Reads a file of `benchmarks.scale`; ValueError if it is not one."""
    try:
        result = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError):
        result = None
    rows = result.get("rows") if isinstance(result, dict) and result.get("kind") == KIND else None
    if not rows or not all(
        {"group", "way", "x", STEP} <= row.keys() and row["way"] in LOOKS for row in rows
    ):
        raise ValueError(f"{path}: give a file that benchmarks.scale wrote with --out")
    return result


def draw(result: dict[str, Any], out: Path) -> list[Path]:
    """Writes scale-settings.pdf and .png: a column per group of rows, a panel per measure.

    result: as `read` returns it.
    """
    rows = result["rows"]
    groups = list(dict.fromkeys(row["group"] for row in rows))
    shown = [key for key in AXES if any(key in row for row in rows)]
    columns = len(groups) if len(groups) > 1 else len(shown)
    fig, axes = style.panels(len(groups) * len(shown), columns, 2.3)
    for k, (key, group) in enumerate((key, group) for key in shown for group in groups):
        panel(axes[k], key, [row for row in rows if row["group"] == group])
        if len(groups) > 1 and k < columns:
            axes[k].set_title(group, loc="left")
    batch = f"batch {result['batch']}, {result['hardware']}"
    style.finish(fig, f"{TITLE}\n{batch}, torch {result['torch']}", 3)
    return style.save(fig, out, f"scale-{KIND}")


def panel(ax: Axes, key: str, rows: list[dict[str, Any]]) -> None:
    """All ways of one group: medians with their range, or bytes with the formula's line."""
    sizes = sorted({row["x"] for row in rows})
    for way in dict.fromkeys(row["way"] for row in rows):
        of_way = [row for row in rows if row["way"] == way and key in row]
        if not of_way:
            continue
        of_way.sort(key=lambda row: row["x"])
        x = [row["x"] for row in of_way]
        if key == MEMORY:
            ax.plot(x, [row["predicted_bytes"] / 1e6 for row in of_way], **FORMULA)
            points = LOOKS[way] | {"linestyle": "", "label": "_"}
            ax.plot(x, [row[MEMORY] / 1e6 for row in of_way], **points)
        elif way == "edge alone":
            ax.axhline(median(of_way[0][key]), **LOOKS[way] | {"marker": ""})
        elif way == "a run each":
            ax.plot(sizes, np.multiply(sizes, median(of_way[0][key])), **LOOKS[way])
        else:
            y = np.array([[median(row[key]), min(row[key]), max(row[key])] for row in of_way]).T
            bars = {"elinewidth": 0.9, "capsize": 1.5}
            ax.errorbar(x, y[0], [y[0] - y[1], y[2] - y[0]], **LOOKS[way] | bars)
    ax.set_xlabel("cost settings trained, $K$")
    ax.set_ylabel(AXES[key])
    ax.set_xscale("log")
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    if high < 10 * low:  # else there is at most one tick
        ax.set_ylim(low / 2, high * 2)
    ax.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument(
        "files", metavar="FILE", type=Path, nargs="+", help="files of benchmarks.scale"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for the figures (default: that of each file)"
    )
    args = parser.parse_args(argv)
    with experiment.one_line_errors():
        results = [(path, read(path)) for path in args.files]
    for path, result in results:
        for written in draw(result, args.out or path.parent):
            print(written)


if __name__ == "__main__":
    main()
