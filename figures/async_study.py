"""The effect of fewer refreshes of the rejector's copy of the edge on risk and on bytes sent.

    python -m figures.async_study results/runs/digits --cost_1 1.25 --cost_e 0.25

One cost pair, a line or a mark for every S and adaptive tolerance: val risk while training, then
test risk and test accuracy against the bytes that all its refreshes sent. The table has every cost
pair that was trained at more than one S. Val is looked at with the edge of that moment answering
what is sent; seconds are those of the one pass that trains all settings together, so they compare
runs, not settings of a run.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from deferral.predictions import Predictions, Progress
from deferral.summary import setting_name, summarise
from figures import settings, style
from figures.command import NotDrawn, command
from figures.tables import Column, fixed, plain, print_table, write_table

MEGA = 1e6
AWAY = 30  # on the logarithmic axis 0 bytes stand at the smallest positive value / AWAY
MARKED = 20  # points of a progress line up to which each has a marker
COLUMNS = [
    Column("cost_1", "c_1", plain, "$c_1$"),
    Column("cost_e", "c_e", plain, "$c_e$"),
    Column("refresh", "S", tex="$S$"),
    Column("refreshes", "refreshes"),
    Column("bytes_sent", "MB sent", fixed(2, 1 / MEGA)),
    Column("reject_rate", "reject %", fixed(1, 100)),
    Column("accuracy", "accuracy %", fixed(1, 100)),
    Column("risk_rejector", "risk", fixed(3)),
    Column("val_risk", "risk", fixed(3), group="last look at val"),
    Column("seconds", "training s", fixed(1), group="last look at val"),
]


def draw(
    predictions: Predictions,
    out: Path,
    name: str,
    cost_1: float | None = None,
    cost_e: float | None = None,
    show: bool = True,
) -> list[Path]:
    """name-async_study as .pdf and .png, and as a table .md, .tex and .csv.

    NotDrawn without two S at one cost pair, or where the run does not say what was sent. Without
    the arrays progress_* there is no first panel. With `show` the table is printed too.
    """
    sweeps = settings.async_sweeps(predictions)
    if any("bytes_sent" not in s for sweep in sweeps for s in sweep):
        raise NotDrawn("the run does not say what its refreshes sent; train it again")
    sweep = settings.one_async_sweep(predictions, cost_1, cost_e)
    rows = table(predictions, sweeps)
    columns = COLUMNS.copy()
    if len({row["surrogate"] for row in rows}) > 1:
        columns.insert(2, Column("surrogate", "surrogate"))
    about = f"{style.nets(predictions)}, {style.tested(predictions)}"
    down = outages(sweep[0])
    caption = (
        "What refreshing the rejector's copy of the edge every S batches, or when its answers have "
        f"changed, sends and gains. {about}{down}."
    )
    caption += f" Run at {made_by}." if (made_by := style.made_by(predictions)) else ""
    if show:
        print_table(rows, columns, caption)

    progress = predictions.progress
    fig, axes = style.panels(2 if progress is None else 3, 3, 2.4)
    if progress is not None:
        _draw_progress(axes[0], progress, sweep)
    by_setting = {row["row"]: row for row in rows}
    sent = {s["row"]: s["bytes_sent"] / MEGA for s in sweep}
    positive = [*filter(None, sent.values())] or [1]
    least, most = min(positive), max(positive)
    for ax, key, scale, label in (
        (axes[-2], "risk_rejector", 1, "test risk"),
        (axes[-1], "accuracy", 100, "test accuracy (%)"),
    ):
        for s in sweep:
            mark = style.refresh(s["async_freq"], linestyle="", markersize=7, zorder=4)
            ax.plot(sent[s["row"]] or least / AWAY, scale * by_setting[s["row"]][key], **mark)
        ax.set_ylabel(label)
        _bytes_axis(ax, least, most, nothing=0 in sent.values())
    costs = f"$c_1$ = {sweep[0]['cost_1']:g}, $c_e$ = {sweep[0]['cost_e']:g}"
    title = f"{style.nets(predictions)}\n{style.tested(predictions)}, {costs}, "
    style.finish(fig, f"{title}{sweep[0]['surrogate']} surrogate{down}", 4)
    paths = style.save(fig, out, f"{name}-async_study")
    return paths + write_table(rows, columns, out, f"{name}-async_study", caption)


def table(predictions: Predictions, sweeps: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of COLUMNS with `surrogate` and the setting's `row`, sweep by sweep; nan: not known."""
    summary = summarise(predictions)
    progress = predictions.progress
    rows = []
    for s in (s for sweep in sweeps for s in sweep):
        row = summary[s["row"]] | {k: s[k] for k in ("refreshes", "bytes_sent")}
        row |= {"row": s["row"], "val_risk": np.nan, "seconds": np.nan}
        row["refresh"] = setting_name(s["async_freq"]).removeprefix("S = ")
        if progress is not None:
            row["val_risk"] = float(progress.risk[-1, s["row"]])
            row["seconds"] = float(progress.seconds[-1])
        rows.append(row)
    return rows


def outages(setting: dict[str, Any]) -> str:
    """When the link was down: ", no link in batches 100-399"; nothing where it never was."""
    spans = [f"{start}–{end - 1}" for start, end in setting.get("outages") or []]
    return f", no link in batches {', '.join(spans)}" if spans else ""


def _draw_progress(ax: Axes, progress: Progress, sweep: list[dict[str, Any]]) -> None:
    """Val risk against training time, with a marker at each of a few points, else at the last."""
    for s in sweep:
        look = style.refresh(s["async_freq"])
        if len(progress.seconds) > MARKED:
            look["markevery"] = [-1]
        ax.plot(progress.seconds, progress.risk[:, s["row"]], **look)
    ax.set_xlabel("training time (s)")
    ax.set_ylabel("val risk")


def _bytes_axis(ax: Axes, least: float, most: float, nothing: bool) -> None:
    """A logarithmic x axis in MB from `least` to `most`, and a place for nothing sent, left."""
    ax.set_xlabel("sent while training (MB)")
    ax.set_xscale("log")
    low, high = np.floor(np.log10(least)), np.ceil(np.log10(most))
    ticks = [*10 ** np.arange(low, high + 1, 1 + (high - low) // 5)]
    labels = [f"{tick:g}" for tick in ticks]
    if nothing:
        ticks, labels = [least / AWAY, *ticks], ["0", *labels]
    ax.set_xticks(ticks, labels)
    ax.minorticks_off()
    ax.set_xlim(least / (AWAY * 3 if nothing else 3), most * 3)


main = command(__doc__, draw, choose=settings.one_async_sweep)

if __name__ == "__main__":
    main()
