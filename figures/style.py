"""The style of every figure: one colour, marker and label per S, method and query method.

Decision rules look as deferral/catalogue.py says, as on the report's page. Colours are Okabe and
Ito's (2008), distinct with any colour vision; markers and dashes differ too.
"""

import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import experiment
from deferral.catalogue import RULES, Look
from deferral.npz_checks import tolerance
from deferral.predictions import Predictions
from deferral.summary import setting_name

WIDTH = 7.0  # inches: the text width of a page; at half size the smallest letters are 4 pt
INK, GRID = "#222222", "#E4E4E4"
RIGHT, WRONG = "#007A5A", "#C04A00"

plt.rcParams.update(
    {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 8.5,
        "axes.titlesize": 9,
        "axes.labelsize": 8.5,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": "#888888",
        "axes.linewidth": 0.8,
        "xtick.color": "#888888",
        "ytick.color": "#888888",
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "lines.linewidth": 1.5,
        "lines.markersize": 4.2,
        "lines.solid_capstyle": "round",
        "pdf.fonttype": 42,
        "savefig.dpi": 200,
    }
)


def short(name: str) -> str:
    """A class name that fits beside a row or under a picture, cut to 12 letters."""
    return name if len(name) <= 12 else f"{name[:11]}…"


def _look(color: str, marker: str, dash: Any, label: str, **more: Any) -> dict[str, Any]:
    return {
        "color": color,
        "marker": marker,
        "linestyle": dash,
        "label": label,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
    } | more


REFRESH: dict[int | str, str] = {
    1: "#332288",
    10: "#66BBEE",
    100: "#44AA99",
    1000: "#CC9A1F",
    0: "#AA3377",
}
REFRESH |= {"joint": "#777777"}
MARKERS: dict[int | str, str] = {1: "o", 10: "v", 100: "s", 1000: "^", 0: "D", "joint": "P"}
DASHES: dict[int | str, Any] = {
    1: "-",
    100: (0, (6, 1.5)),
    1000: (0, (3, 1.5)),
    0: (0, (1, 1.1)),
    "joint": (0, (8, 2)),
}
# How exits are trained.
METHODS = {
    "base": _look("#666666", "s", (0, (5, 1.4)), "base", zorder=3),
    "l2w": _look("#0072B2", "o", "-", "L2W", markersize=5, zorder=5),
    "boosted": _look("#D55E00", "D", (0, (7, 1.2, 1.5, 1.2)), "boosted", zorder=4),
}
# Query methods. Many are drawn together: random is a wide grey line behind the others, DIAM and
# risk are bold, the others thin.
_THIN = {"linewidth": 1.0, "markersize": 3.4, "zorder": 3}
QUERIES = {
    "random": _look("#A8A8A8", "", "-", "random", linewidth=3.4, zorder=2),
    "entropy": _look("#E69F00", "^", (0, (4, 1.2)), "entropy", **_THIN),
    "margin": _look("#CC79A7", "v", (0, (4, 1.2, 1, 1.2)), "margin", **_THIN),
    "least_conf": _look("#7A5C1E", "<", (0, (1, 1.1)), "least_conf", **_THIN),
    "released": _look("#A8A8A8", "x", (0, (1, 1.1)), "released", **_THIN),
    "coreset": _look("#009E73", "s", (0, (6, 1.5)), "coreset", **_THIN),
    "CAL": _look("#6A4C9C", "P", (0, (3, 1, 1, 1, 1, 1)), "CAL", **_THIN | {"markersize": 4}),
    "DIAM": _look("#0072B2", "o", "-", "DIAM", linewidth=2.0, markersize=4.8, zorder=6),
    "DIAM_qp": _look("#56B4E9", "X", (0, (5, 1.2)), "DIAM_qp", linewidth=1.3, zorder=4),
    "risk": _look("#D55E00", "D", "-", "risk", linewidth=2.0, markersize=4.2, zorder=5),
}


def shades(count: int) -> list[str]:
    """Blues from light to dark, one for each of some exits."""
    blues = matplotlib.colormaps["Blues"](np.linspace(0.25, 0.85, count))
    return [matplotlib.colors.to_hex(blue) for blue in blues]


def line(look: Look, label: str) -> dict[str, Any]:
    """Keywords of `Axes.plot` for a rule's look; wider lines lie above others."""
    return look.line(label=label, zorder=2 + look.width)


def rule(name: str, **change: Any) -> dict[str, Any]:
    """Keywords of `Axes.plot` for a rule of deferral/catalogue.py; `change` replaces some."""
    return line(RULES[name].look, RULES[name].label) | change


def method(name: str, **change: Any) -> dict[str, Any]:
    """Keywords of `Axes.plot` for a training method of exits; an unknown one is green."""
    return METHODS.get(name, _look("#009E73", "v", (0, (3, 1)), name)) | change


def query(name: str, **change: Any) -> dict[str, Any]:
    """Keywords of `Axes.plot` for a query method; an unknown one is thin and dark."""
    return QUERIES.get(name, _look(INK, "*", (0, (3, 1)), name, **_THIN)) | change


def refresh(async_freq: int | str, **change: Any) -> dict[str, Any]:
    """Keywords of `Axes.plot` for an S; the release's four and joint have colours of their own.

    Adaptive ones are darker the lower their tolerance, from 0.3 to 0.003.
    """
    color, share = REFRESH.get(async_freq), tolerance(async_freq)
    if share is not None:
        strict = 0.5 * np.log10(0.3 / min(max(share, 0.003), 0.3))
        color = matplotlib.colors.to_hex(matplotlib.colormaps["YlOrRd"](0.4 + 0.6 * strict))
        return _look(color, "*", (0, (4, 1, 1, 1)), setting_name(async_freq)) | change
    if color is None:
        color = matplotlib.colormaps["viridis"](min(np.log10(float(async_freq)) / 5, 0.9))
    label = setting_name(async_freq) + (" (synchronous)" if async_freq == 1 else "")
    marker, dash = MARKERS.get(async_freq, "X"), DASHES.get(async_freq, (0, (5, 1, 1, 1)))
    return _look(matplotlib.colors.to_hex(color), marker, dash, label) | change


def panels(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, at most `columns` beside each other, `height` inches a row."""
    columns = min(columns, count)
    rows = -(-count // columns)
    fig, grid = plt.subplots(
        rows, columns, figsize=(WIDTH, rows * height + 0.65), layout="constrained", squeeze=False
    )
    for spare in grid.flat[count:]:
        spare.set_axis_off()
    return fig, list(grid.flat[:count])


def cost_axis(ax: Axes, cost_e: list[float]) -> None:
    """The x axis is c_e; a single value gets the only tick."""
    ax.set_xlabel("cost of asking, $c_e$")
    if len(set(cost_e)) == 1:
        ax.set_xticks(cost_e[:1], [f"{cost_e[0]:g}"])


def head(fig: Figure, title: str, **where: float) -> None:
    """The title, flush left."""
    fig.suptitle(title, x=0.01, ha="left", fontsize=9.2, linespacing=1.35, **where)


def finish(fig: Figure, title: str, columns: int) -> None:
    """Title above, one legend for all panels below, outside of the data."""
    head(fig, title)
    entries: dict[str, Any] = {}
    for ax in fig.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    fig.legend(
        entries.values(), entries, loc="outside lower center", ncols=columns, handlelength=2.6
    )


def nets(predictions: Predictions) -> str:
    """Data set, nets and seed: "cifar10: local lenet5, edge alexnet, seed 43"."""
    settings = predictions.settings
    known = [f"{k} {settings[k]}" for k in ("local", "edge", "seed") if k in settings]
    return f"{settings['dataset']}: " + ", ".join(known) if known else settings["dataset"]


def tested(predictions: Predictions) -> str:
    """The number of test samples: "10000 test samples"."""
    return f"{int((predictions.split == 1).sum())} test samples"


def made_by(predictions: Predictions) -> str:
    """Commit and hardware of the run: "commit 0123456789, NVIDIA H200"; empty if unknown."""
    settings = predictions.settings
    commit = [f"commit {str(settings['commit'])[:10]}"] if settings.get("commit") else []
    return ", ".join(commit + ([str(settings["hardware"])] if settings.get("hardware") else []))


def save(fig: Figure, out: Path, name: str) -> list[Path]:
    """name.pdf (vector) and name.png (200 dpi), each written whole; equal input, equal bytes."""
    paths = []
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        fig.savefig(buffer, format=kind, metadata=metadata)
        paths.append(out / f"{name}.{kind}")
        experiment.write_bytes(paths[-1], buffer.getvalue())
        # The layout of the first file holds for the second. None, not "none", which would draw
        # the second file twice.
        fig.set_layout_engine(None)
    plt.close(fig)
    return paths
