"""The report's first chart: quality against mean cost, of every rule of the first table."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from deferral.catalogue import RULES, Look
from deferral.report.charts import INK, panel
from deferral.report.rows import cost_scale

LETTER = 4.7, 9.0  # points that a letter of a label takes, wide and high
PLACES = [(1, -1), (-1, 1), (-1, -1), (1, 1), (0, -1), (0, 1)]  # of a label beside its dot
MARKS = 6  # markers on a line
BOLD = 1.9  # points


def quality_by_cost(choice: dict[str, Any], names: Sequence[str], looks: dict[str, Look]) -> str:
    """Quality on test against mean cost: the rules in `names`, each model, at random, the oracle.

    A line is a rule with its threshold moved; of the chosen rule the star is its own threshold.
    """
    rows = {row["name"]: row for row in choice["rules"]}
    alone = [row for row in choice["rules"] if not row["thresholds"]]
    chosen, (scale, unit) = rows[choice["chosen"]], cost_scale(choice)

    def point(row: dict[str, Any]) -> tuple[float, float]:
        return scale * row["cost"], 100 * row["quality"]

    def draw(ax: Axes) -> None:
        cheapest = min(alone, key=lambda row: row["cost"])
        ends = np.array([point(cheapest), point(rows["always"])])
        x, y = np.linspace(ends[0], ends[1], 10 * MARKS).T
        lines = [(look_of("random", looks), x, y)]
        # The chosen rule's line comes last, and is never a thin one.
        for curve in sorted(choice["curves"], key=lambda c: c["name"] == chosen["name"]):
            if curve["name"] in names or curve["kind"] == "oracle":
                x, y = scale * np.array(curve["cost"]), 100 * np.array(curve["quality"])
                look = look_of(curve["name"], looks)
                if curve["name"] == chosen["name"]:
                    look = replace(look, width=max(look.width, BOLD))
                lines.append((look, x, y))
        for k, (look, x, y) in enumerate(lines):
            every = max(1, len(x) // MARKS)
            ax.plot(x, y, **look.line(markevery=((k * every) // len(lines), every)))
        for row in rows.values():
            if row["name"] in names and row["thresholds"] and row is not chosen:
                look = look_of(row["name"], looks)
                ax.plot(*point(row), **look.line(marker=look.marker or "o", markersize=5.5))
        dots = np.array([point(row) for row in alone])
        ax.plot(*dots.T, "o", color=INK, markersize=4.5, zorder=4)
        ax.plot(*point(chosen), "*", color=INK, markersize=12, markeredgecolor="white", zorder=5)
        ax.set(xlabel=f"mean cost: {unit}", ylabel="quality on test (%)")
        ax.margins(0.09)
        models = [choice["models"][int(np.argmax(row["shares"]))] for row in alone]
        points = [np.column_stack([x, y]) for _, x, y in lines]
        label(ax, models, dots, np.concatenate([*points, dots, [point(chosen)]]))

    alt = "Quality of every rule against its mean cost"
    return panel("quality", alt, draw, width=4.4, height=3.1)


def look_of(name: str, looks: dict[str, Look]) -> Look:
    """The look of a rule of this page, or of the catalogue."""
    return looks.get(name) or RULES[name].look


def label(ax: Axes, texts: Sequence[str], dots: np.ndarray, drawn: np.ndarray) -> None:
    """Write a text beside each dot [n, 2], where it covers the least of `drawn` [M, 2].

    Both are in data units. A text never covers another one where some place is free.
    """
    ax.autoscale_view()  # limits are computed lazily, and transData does not ask for them
    per_point = ax.figure.dpi / 72
    lines = ax.transData.transform(drawn) / per_point
    low, high = (ax.transAxes.transform(corner) / per_point for corner in ((0, 0), (1, 1)))
    boxes: list[tuple[np.ndarray, np.ndarray]] = []
    for text, dot in zip(texts, ax.transData.transform(dots) / per_point, strict=True):
        size = np.array([LETTER[0] * len(text), LETTER[1]])
        best: tuple[float, np.ndarray, np.ndarray] | None = None
        for place in np.array(PLACES):
            centre = dot + place * (size / 2 + np.where(place[0] == 0, [0, 4], [3, 3]))
            start, end = centre - size / 2, centre + size / 2
            covered = ((lines > start - 1) & (lines < end + 1)).all(1).sum()
            covered += 100 * sum(((start < b) & (end > a)).all() for a, b in boxes)
            covered += 100 * bool((start < low).any() or (end > high + [8, 0]).any())
            if best is None or covered < best[0]:
                best = float(covered), start, end
        assert best is not None
        boxes.append(best[1:])
        centre = (best[1] + best[2]) / 2
        ax.annotate(
            text, tuple(ax.transData.inverted().transform(centre * per_point)),
            ha="center", va="center", fontsize=7.5, zorder=6,
        )  # fmt: skip
