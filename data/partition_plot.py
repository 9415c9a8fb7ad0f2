"""Figure of the counts [clients, classes] of a partition."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

INK, FILL = "#222222", "#0072B2"
LABELS = 8.5  # points
# Up to so many clients and classes, cells show their counts and clients keep their order.
NUMBERED = 20
NAMED = 30  # up to so many classes, the axis shows their names

# One hue, light to dark; white is left for cells without images.
COLORS = LinearSegmentedColormap.from_list("counts", ["#D6E6F4", "#6BAED6", "#08519C", "#061F3F"])


def draw(counts: NDArray[np.integer], classes: Sequence[str], title: str) -> dict[str, bytes]:
    """A map of the counts [clients, K] below the clients' sizes, as {"png": ..., "pdf": ...}.

    Colours are logarithmic; cells without images are white. More clients than `NUMBERED` are sorted
    by the class they have most of, then by the number of its images.
    """
    clients, num_classes = counts.shape
    few = clients <= NUMBERED
    if not few:
        main = counts.argmax(1)
        counts = counts[np.lexsort((-counts.max(1), main))]
    height = 1.2 + min(6.5, max(1.6, 0.24 * num_classes)) + 0.9
    fig = Figure(figsize=(7, height), layout="constrained")
    FigureCanvasAgg(fig)
    top, below = fig.subplots(2, 1, sharex=True, height_ratios=[1, max(1.2, height - 2.1)])
    fig.suptitle(title, fontsize=9.5, color=INK)

    ends = np.arange(clients + 1) - 0.5
    top.stairs(counts.sum(1), ends, fill=True, color=FILL)
    if few:
        for end in ends:
            top.axvline(end, color="white", linewidth=2)
    top.set_ylabel("images", fontsize=LABELS)
    top.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    top.tick_params(axis="x", length=0)

    shown = np.ma.masked_equal(counts.T, 0)
    most = max(2, int(counts.max()))
    image = below.imshow(
        shown, cmap=COLORS, norm=LogNorm(1, most), aspect="auto", interpolation="nearest"
    )
    if few and num_classes <= NUMBERED:
        for (row, column), count in np.ndenumerate(counts.T):
            dark = count and np.log(count) > 0.5 * np.log(most)
            below.text(
                column, row, count, ha="center", va="center", fontsize=6.5,
                color="white" if dark else INK if count else "#AAAAAA",
            )  # fmt: skip
    if num_classes <= NAMED:
        below.set_yticks(range(num_classes), [_short(name) for name in classes])
        below.set_ylabel("class", fontsize=LABELS)
    else:
        below.set_ylabel("class, by number", fontsize=LABELS)
    below.xaxis.set_major_locator(MaxNLocator(10 if not few else clients, integer=True))
    below.set_xlim(-0.5, clients - 0.5)
    order = "client" if few else "clients, in order of the class they have most of"
    below.set_xlabel(order, fontsize=LABELS)
    bar = fig.colorbar(image, ax=below, pad=0.015, fraction=0.04)
    bar.set_label("images", fontsize=LABELS)
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    bar.ax.minorticks_off()
    for axes in (top, below, bar.ax):
        axes.tick_params(labelsize=7.5, color="#888888", labelcolor=INK)
        for side in axes.spines.values():
            side.set_visible(axes is below)
            side.set_color("#888888")
    return {suffix: _saved(fig, suffix) for suffix in ("png", "pdf")}


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"


def _saved(fig: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    dates = {"CreationDate": None} if suffix == "pdf" else {"Software": None}
    fig.savefig(buffer, format=suffix, dpi=200, metadata=dates)
    return buffer.getvalue()
