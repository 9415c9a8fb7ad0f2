"""Gain over the best threshold by regime, from the numbers of results.when_it_pays.

    python -m figures.when_it_pays when-it-pays.json

A point is the mean over 42 pairs of costs and the runs: risk of the best confidence threshold minus
risk of the rule, in local errors a sample. Bars are 95 % paired bootstrap intervals over pictures
and runs. The ceiling, which sees the server's scores, is a bound and no rule.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

import experiment
from figures import style

LOOKS = {
    "post_hoc": style.rule("post_hoc"),
    "amortized, features": style.rule("rejector", label="amortized rejector, features"),
    "stage_switching, features": style.rule(
        "rejector", label="paper's loss, a rejector a cost, features", color="#56B4E9", marker="s"
    ),
    "ceiling": style.rule("ceiling", marker="D", markersize=3.4),
}
NAME = "when-it-pays"


def read(path: Path) -> dict[str, Any]:
    """A file of results.when_it_pays; ValueError or OSError if it is none."""
    result = experiment.read_json(path)
    if "regimes" not in result:
        raise ValueError(f"{path}: not a file of results.when_it_pays")
    return result


def draw(result: dict[str, Any], out: Path) -> list[Path]:
    """Writes when-it-pays.pdf and .png: a row a regime."""
    regimes = result["regimes"]
    place = np.arange(len(regimes))[::-1]
    fig, ax = plt.subplots(figsize=(style.WIDTH, 0.42 * len(regimes) + 1.3), layout="constrained")
    ax.axvline(0, color=style.INK, linewidth=0.8)
    for k, (name, look) in enumerate(LOOKS.items()):
        rows = [{row["rule"]: row for row in found["rows"]}[name] for found in regimes.values()]
        gain, most, least = (
            -np.array([row[key] for row in rows]) for key in ("difference", "low", "high")
        )
        shift = 0.21 * (1.5 - k)
        bars = {"linestyle": "", "elinewidth": 0.9, "color": look["color"]}
        width = np.maximum([gain - least, most - gain], 0)
        ax.errorbar(gain, place + shift, xerr=width, **look | bars)
    ax.set_yticks(place, list(regimes))
    ax.set_ylim(-0.6, len(regimes) - 0.4)
    ax.grid(axis="y", visible=False)
    for row in place[::2]:
        ax.axhspan(row - 0.5, row + 0.5, color=style.GRID, alpha=0.4, linewidth=0, zorder=0)
    ax.set_xscale("symlog", linthresh=0.01, linscale=1.0)
    ax.set_xlim(-0.05, 0.1)
    ticks = [-0.03, -0.01, -0.005, 0, 0.005, 0.01, 0.03, 0.1]
    ax.set_xticks(ticks, [f"{tick:+g}".replace("-", "−") if tick else "0" for tick in ticks])
    ax.set_xlabel("gain over the best threshold, in risk (linear to ±0.01, then logarithmic)")
    samples = next(iter(regimes.values()))["samples"]
    about = f"{samples} pictures, {len(result['seeds'])} runs, mean over 42 pairs of costs"
    style.finish(fig, f"Gain over the best threshold by regime\nResNet-20 and -56, {about}", 2)
    return style.save(fig, out, NAME)


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("file", metavar="FILE", type=Path, help="by results.when_it_pays")
    parser.add_argument("--out", type=Path, help="folder of the figure (default: that of FILE)")
    args = parser.parse_args(argv)
    with experiment.one_line_errors():
        result = read(args.file)
        for path in draw(result, args.out or args.file.parent):
            print(path)


if __name__ == "__main__":
    main()
