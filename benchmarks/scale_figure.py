"""Cost and memory against the number of cost settings, from a file of `benchmarks.scale`.

    python -m benchmarks.scale_figure settings.json [--out DIR]

All axes are logarithmic. A point is the median of the rounds, its bar their
range. The thin lines of memory are what the formula in the benchmark's docstring says.
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
    "edge alone": style.rule("never", label="the edge alone"),
}
FORMULA: dict[str, Any] = {
    "color": style.INK,
    "linewidth": 0.8,
    "label": "bytes by the formula",
    "zorder": 1,
}


def read(path: Path) -> dict[str, Any]:
    """A file of `benchmarks.scale`; ValueError if it is none."""
    try:
        found = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError):
        found = None
    rows = found.get("rows") if isinstance(found, dict) and found.get("kind") == KIND else None
    if not rows or not all(
        {"group", "way", "x", STEP} <= row.keys() and row["way"] in LOOKS for row in rows
    ):
        raise ValueError(f"{path}: give a file that benchmarks.scale wrote with --out")
    return found


def draw(found: dict[str, Any], out: Path) -> list[Path]:
    """scale-settings.pdf and .png: a column for each group of rows, a panel for each measure.

    `found` as `read` gives it.
    """
    rows = found["rows"]
    groups = list(dict.fromkeys(row["group"] for row in rows))
    shown = [key for key in AXES if any(key in row for row in rows)]
    columns = len(groups) if len(groups) > 1 else len(shown)
    fig, axes = style.panels(len(groups) * len(shown), columns, 2.3)
    for k, (key, group) in enumerate((key, group) for key in shown for group in groups):
        panel(axes[k], key, [row for row in rows if row["group"] == group])
        if len(groups) > 1 and k < columns:
            axes[k].set_title(group, loc="left")
    batch = f"batch {found['batch']}, {found['hardware']}"
    style.finish(fig, f"{TITLE}\n{batch}, torch {found['torch']}", 3)
    return style.save(fig, out, f"scale-{KIND}")


def panel(ax: Axes, key: str, rows: list[dict[str, Any]]) -> None:
    """All ways of one group: medians with their range, or bytes with the formula beside."""
    sizes = sorted({row["x"] for row in rows})
    for way in dict.fromkeys(row["way"] for row in rows):
        own = sorted((row for row in rows if row["way"] == way), key=lambda row: row["x"])
        own = [row for row in own if key in row]
        if not own:
            continue
        x = [row["x"] for row in own]
        if key == MEMORY:
            ax.plot(x, [row["predicted_bytes"] / 1e6 for row in own], **FORMULA)
            points = LOOKS[way] | {"linestyle": "", "label": "_"}
            ax.plot(x, [row[MEMORY] / 1e6 for row in own], **points)
        elif way == "edge alone":
            ax.axhline(median(own[0][key]), **LOOKS[way] | {"marker": ""})
        elif way == "a run each":
            ax.plot(sizes, np.multiply(sizes, median(own[0][key])), **LOOKS[way])
        else:
            y = np.array([[median(row[key]), min(row[key]), max(row[key])] for row in own]).T
            bars = {"elinewidth": 0.9, "capsize": 1.5}
            ax.errorbar(x, y[0], [y[0] - y[1], y[2] - y[0]], **LOOKS[way] | bars)
    ax.set_xlabel("cost settings trained, $K$")
    ax.set_ylabel(AXES[key])
    ax.set_xscale("log")
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    if high < 10 * low:  # or there would be one tick, or none
        ax.set_ylim(low / 2, high * 2)
    ax.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="of benchmarks.scale")
    parser.add_argument("--out", type=Path, help="where figures go (default: beside each file)")
    args = parser.parse_args(argv)
    with experiment.one_line_errors():
        read_all = [(path, read(path)) for path in args.files]
    for path, found in read_all:
        for written in draw(found, args.out or path.parent):
            print(written)


if __name__ == "__main__":
    main()
