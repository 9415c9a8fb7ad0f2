"""The report's line charts: matplotlib figures as SVG inside an HTML page.

Every panel is an SVG of its own, so that a page can lay them out side by side or one below the
other; the page draws the legend. deferral/catalogue.py says how rules are drawn.
"""

import html
import io
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deferral.catalogue import RULES, Look
from deferral.simulated import SIMULATED

BOLD = 1.5  # points: lines at least this wide are the main ones of a figure
WIDTH, HEIGHT = 3.75, 2.75  # inches of a panel; letters of 8 pt are then legible on a phone
TITLE = 0.26  # inches for a panel's title
INK, MUTED, GRID = "#222222", "#888888", "#E4E4E4"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.solid_capstyle": "round",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "svg.fonttype": "none",  # text stays text: it can be searched, copied and read aloud
}


def risk_by_cost(grid: dict[str, Any], looks: dict[str, Look]) -> list[str]:
    """Risk against c_e, a panel a c_1; `grid` as `numbers.over_grid` has it."""
    # Always asking may be far above everything else; the panel does not extend to it.
    shown = [row for row in grid["rules"] if row["name"] != "always"]
    top = 1.15 * np.nanmax([_floats(row["risk_at"]) for row in shown])

    def draw(ax: Axes, columns: list[int], x: list[float]) -> None:
        for row in reversed(grid["rules"]):
            y = _floats(row["risk_at"])[columns]
            ax.plot(x, y, **_over_cost(looks[row["name"]], len(x)))
        ax.set(ylabel="risk on test", ylim=(0, top or 1))

    return _panels_by_cost_1(grid, "Risk", draw)


def difference_by_cost(grid: dict[str, Any], looks: dict[str, Look]) -> list[str]:
    """Risk minus that of the best confidence rule; intervals as bands for the main rules."""
    rows = [row for row in grid["rules"] if row["kind"] in ("confidence", "estimates", "rejector")]
    banded = [row for row in rows if looks[row["name"]].width >= BOLD]
    drawn = [_floats(row["difference_at"]) for row in rows]
    drawn += [_floats(row[f"difference_{end}_at"]) for row in banded for end in ("low", "high")]
    drawn = drawn or [np.zeros(1)]
    low, high = min(0.0, np.nanmin(drawn)), max(0.0, np.nanmax(drawn))
    # The panel leaves out the worst rules so that those near the best confidence rule are legible.
    high = min(high, max(-3 * low, np.nanquantile(drawn, 0.75), 0.01))
    room = 0.08 * (high - low) or 0.01

    def draw(ax: Axes, columns: list[int], x: list[float]) -> None:
        for row in reversed(grid["rules"]):
            look, y = looks[row["name"]], _floats(row["difference_at"])[columns]
            if row in banded:
                lower, upper = (_floats(row[f"difference_{end}_at"]) for end in ("low", "high"))
                ax.fill_between(
                    x, lower[columns], upper[columns], color=look.color, alpha=0.14, linewidth=0
                )
            if row["kind"] != "oracle":
                ax.plot(x, y, **_over_cost(look, len(x)))
        ax.set(ylabel="difference of risks", ylim=(low - room, high + room))

    return _panels_by_cost_1(grid, "Difference of risks", draw)


def _panels_by_cost_1(
    grid: dict[str, Any], what: str, draw: Callable[[Axes, list[int], list[float]], None]
) -> list[str]:
    """draw(ax, columns of the grid, their c_e) for every c_1."""
    panels = []
    for cost_1 in sorted({cost["cost_1"] for cost in grid["costs"]}):
        columns = [i for i, cost in enumerate(grid["costs"]) if cost["cost_1"] == cost_1]
        columns.sort(key=lambda i: grid["costs"][i]["cost_e"])
        x = [grid["costs"][i]["cost_e"] for i in columns]

        def fill(
            ax: Axes, columns: list[int] = columns, x: list[float] = x, cost_1: float = cost_1
        ) -> None:
            draw(ax, columns, x)
            ax.set_title(f"c₁ = {cost_1:g}", loc="left")
            ax.set_xlabel("cost of asking, cₑ")
            if len(x) == 1:
                ax.set_xticks(x, [f"{x[0]:g}"])

        alt = f"{what} of every rule against the cost of asking, c_1 = {cost_1:g}"
        panels.append(panel(f"{what}-{cost_1:g}", alt, fill, top=TITLE))
    return panels


def _over_cost(look: Look, count: int) -> dict[str, Any]:
    """Smaller markers where there are many; a dash where a line without marker has one point."""
    if count == 1 and not look.marker:
        return look.line(marker="_", markersize=9, markeredgewidth=1.4, markeredgecolor=look.color)
    return look.line(markersize=look.line()["markersize"] * (1 if count < 12 else 0.75))


def _floats(values: list[float | None]) -> np.ndarray:
    """None becomes nan."""
    return np.array(values, dtype=np.float64)


def curves(numbers: dict[str, Any], looks: dict[str, Look]) -> list[str]:
    """Accuracy and risk against reject rate; a large marker shows the rule's own threshold."""

    def draw(key: str, ax: Axes) -> None:
        x = 100 * np.array(numbers["rates"])
        scale = 100 if key == "accuracy" else 1
        for row in reversed(numbers["rules"]):
            look = looks[row["name"]]
            ax.plot(x, scale * np.array(row[key]), **look.line(marker=""))
            if row.get(f"own_{key}") is not None:
                point = (100 * row["own_rate"], scale * row[f"own_{key}"])
                ax.plot(*point, **look.line(marker=look.marker or "o", markersize=5.5))
        unit = "accuracy on test (%)" if key == "accuracy" else "risk on test"
        ax.set(xlabel="reject rate: share sent (%)", ylabel=unit, xlim=(-2, 102))

    return [
        panel(
            f"curve-{key}",
            f"{key} of every rule against reject rate",
            partial(draw, key),
        )
        for key in ("accuracy", "risk")
    ]


def promises(numbers: dict[str, Any]) -> list[str]:
    """Realised reject rate, and accuracy, against the rate that was promised."""
    x = [100 * row["max_rate"] for row in numbers["at"]]

    def draw(key: str, ax: Axes) -> None:
        for name in SIMULATED:
            outcomes = [row["simulated"]["rules"][name] for row in numbers["at"]]
            look = RULES[name].look
            ax.plot(x, [100 * outcome[key] for outcome in outcomes], **look.line())
            if key == "rate":
                low, high = np.quantile([x["rates"] for x in outcomes], [0.05, 0.95], axis=1)
                ax.fill_between(x, 100 * low, 100 * high, color=look.color, alpha=0.15, lw=0)
        if key == "rate":
            ax.plot(x, x, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        unit = "reject rate that came about" if key == "rate" else "accuracy"
        ax.set(xlabel="reject rate that was allowed (%)", ylabel=f"{unit} (%)")

    return [
        panel(
            f"promise-{key}",
            f"{key} against the reject rate allowed",
            partial(draw, key),
        )
        for key in ("rate", "accuracy")
    ]


def reliability(
    rows: list[dict[str, Any]], looks: dict[str, Look], titles: dict[str, str]
) -> list[str]:
    """Observed against estimated probability of a right answer; a panel per net."""

    def draw(net: str, ax: Axes) -> None:
        ax.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        for row in rows:
            if row["net"] == net:
                x, y = (100 * np.array(row[key]) for key in ("estimated", "observed"))
                ax.plot(x, y, **looks[row["name"]].line())
        ax.set_title(titles[net], loc="left")
        ax.set(xlabel="estimated to be right (%)", ylabel="was right (%)")

    return [
        panel(
            f"reliability-{net}",
            f"Estimated and observed: {titles[net].removeprefix('the ')}",
            partial(draw, net),
            top=TITLE,
        )
        for net in ("local", "remote")
    ]


def panel(
    name: str,
    alt: str,
    draw: Callable[[Axes], None],
    *,
    width: float = WIDTH,
    height: float = HEIGHT,
    top: float = 0.1,
) -> str:
    """One SVG for an HTML page. draw(ax) fills it; `name` keeps its ids apart from others'.

    Sizes are in inches; `top` is the space for a title. They are fixed because matplotlib's
    layout engines draw every figure twice.
    """
    with style.context([STYLE, {"svg.hashsalt": name}]):
        fig = Figure(figsize=(width, height))
        size = 1 - 0.72 / width, 1 - (top + 0.44) / height
        draw(fig.add_axes((0.64 / width, 0.44 / height, *size)))
        file = io.StringIO()
        fig.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    return _inline(file.getvalue(), alt)


def _inline(svg: str, alt: str) -> str:
    """matplotlib's SVG without metadata, style and unused ids, and with an aria-label."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.S
    )
    svg = svg.replace("xlink:href=", "href=")
    svg = re.sub(r" font-family: [^;\"]*(;|(?=\"))", "", svg)  # the page says which
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", svg)
    box = re.findall(r'viewBox="[^"]+"', svg)[0]
    head = f'<svg class="chart" role="img" aria-label="{html.escape(alt)}" {box}>'
    return re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1).strip()
