"""A report's numbers as one self-contained HTML page, without links or scripts.

page.html.j2 has the text and the tables; it escapes everything except the charts.
"""

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from scipy.special import bdtr

from deferral import catalogue
from deferral.catalogue import RULES, Look
from deferral.predictions import Predictions
from deferral.report import charts, headline, words
from deferral.report.guarantee import SPLITS
from deferral.report.quality_chart import look_of, quality_by_cost
from deferral.report.rows import cost_scale, decides, in_words, threshold_ends
from deferral.report.words import Row, nets
from deferral.simulated import SIMULATED

FOLDER = Path(__file__).parent
ALL_CLASSES = 40  # with more, the page lists only the classes sent most and least
ENDS = 15
SHAPES = {  # of matplotlib's markers, around 0, 0
    "o": '<circle r="3.4"/>',
    "s": '<rect x="-3" y="-3" width="6" height="6"/>',
    "D": '<path d="M0-4 4 0 0 4-4 0z"/>',
    "^": '<path d="M0-3.8 3.8 3-3.8 3z"/>',
    "v": '<path d="M0 3.8 3.8-3-3.8-3z"/>',
    "P": '<path d="M-1.4-4h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z"/>',
    "X": '<path d="M-1.4-4h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z" '
    'transform="rotate(45)"/>',
}


def page(report: dict[str, Any], pictures_of: Predictions) -> str:
    """The whole document. `report` is what the JSON holds; pictures come from the first run."""
    report = in_words(report)
    rules = [*report["settings"][0]["rules"], *report["grid"]["rules"], *report["curves"]["rules"]]
    looks = catalogue.looks({row["name"]: row["kind"] for row in rules})
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["g"] = "{:g}".format
    environment.filters["labelled"] = labelled
    for name in ("number", "percent", "signed", "spread", "between", "thousands", "lowest"):
        environment.globals[name] = getattr(words, name)
    labels = labels_of(rules)
    scale, unit = cost_scale(report["choice"])
    estimators = list(dict.fromkeys(row["name"] for row in report["reliability"]))
    images = np.array([]) if pictures_of.examples is None else pictures_of.examples.images
    return environment.get_template("page.html.j2").render(
        report=report,
        looks=looks,
        who=nets(report),
        about=words.about_run(report),
        shapes={marker: Markup(shape) for marker, shape in SHAPES.items()},
        labels=labels,
        charts=_charts(report, looks),
        labels_of=labels_of,
        ranked=ranked,
        has_sizes=has_sizes,
        dashes=dashes,
        entries=lambda rows: [(looks[row["name"]], row["label"]) for row in rows],
        estimators=[(looks[name], labels[name]) for name in estimators],
        bounds=[(RULES[name].look, RULES[name].label) for name in SIMULATED],
        by_chance=by_chance(SPLITS, report["options"]["delta"]),
        threshold_ends=threshold_ends(report["choice"]),
        decides=decides,
        cost_scale=scale,
        cost_unit=unit,
        val_rows=" or ".join(f"{n:,}" for n in sorted(set(report["data"]["val_rows"]))),
        first_table=headline.table(report["choice"]),
        lines=_lines(report, looks),
        policy=report["policy"],
        facts=[(fact["what"], fact["value"]) for fact in report["facts"]],
        terms=words.terms(report),
        png=lambda example: png(images[example]),
        **_grid(report["grid"], looks),
        **_classes(report),
    )


def by_chance(count: int, share: float) -> tuple[int, int]:
    """The 2.5 % and 97.5 % quantiles of how many of `count` happen, each with chance `share`."""
    below = bdtr(np.arange(count + 1), count, share)
    low, high = np.searchsorted(below, [0.025, 0.975])
    return int(low), int(high)


def labels_of(rows: Sequence[Row]) -> dict[str, str]:
    return {row["name"]: row["label"] for row in rows}


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Lowest risk first, the oracle last."""
    return sorted(rows, key=lambda row: (row["kind"] == "oracle", row["risk"]))


def labelled(table: str) -> str:
    """A table's HTML in which every cell of the body names its column, for narrow screens.

    The names are the first lines of the cells of the head. Tables without a head stay as they are.
    """
    head, end, body = str(table).partition("</thead>")  # not Markup, which escapes what is added
    if not end:
        return table
    names = [
        re.sub(r"<small>.*?</small>|<[^>]+>", "", cell)
        for cell in re.findall(r"<th[ >].*?</th>", head, flags=re.S)
    ]

    def row(found: re.Match[str]) -> str:
        first, *cells = re.split(r"(?=<td)", found[0])
        number = r'<th scope="row">(?=\d)'  # a rule's name needs no label
        first = re.sub(number, f'<th scope="row" data-label="{names[0]}">', first)
        columns = names[1:] if "<th" in first else names
        marked = [
            cell.replace("<td", f'<td data-label="{name}"', 1)
            for cell, name in zip(cells, columns, strict=True)
        ]
        return "".join([first, *marked])

    return head + end + re.sub(r"<tr.*?</tr>", row, body, flags=re.S)


def has_sizes(rows: Sequence[Row]) -> bool:
    return any(row.get(key) is not None for row in rows for key in ("parameters", "multiply_adds"))


def dashes(look: Look) -> str:
    """matplotlib's dashes are in units of the line's width, SVG's are not."""
    return " ".join(f"{length * look.width:.1f}" for length in look.dash)


def png(image: np.ndarray) -> str:
    """An image uint8 [C, H, W], C = 1 or 3 (of others the first), as a PNG in base64."""
    pixels = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _charts(report: dict[str, Any], looks: dict[str, Look]) -> dict[str, Any]:
    """The SVGs of every section."""
    grid, who = report["grid"], nets(report)
    titles = {"local": who.the_local}
    if report.get("exits"):
        titles["local"] = report["exits"]["stages"][-2]["name"]
    titles["remote"] = who.the_remote
    names = [row["name"] for row in headline.table(report["choice"])]
    svgs = {
        "quality": quality_by_cost(report["choice"], names, looks),
        "curves": charts.curves(report["curves"], looks),
    }
    if report["rate_promises"]:
        svgs["promises"] = charts.promises(report["rate_promises"])
    if report["reliability"]:
        svgs["reliability"] = charts.reliability(report["reliability"], looks, titles)
    if len(grid["costs"]) > 1:
        whole = grid | {"rules": _drawn(grid, looks)}
        svgs["grid"] = charts.risk_by_cost(whole, looks) + charts.difference_by_cost(whole, looks)
    return svgs


def _lines(report: dict[str, Any], looks: dict[str, Look]) -> list[tuple[Look, str]]:
    """The legend of the first chart: its lines, and the rules that are no more than a point."""
    rows = [row for row in headline.table(report["choice"]) if row["thresholds"]]
    names = {row["name"]: row["label"] for row in rows} | {"oracle": "oracle"}
    return [
        (look_of(name, looks), text) for name, text in (names | {"random": "at random"}).items()
    ]


def _drawn(grid: dict[str, Any], looks: dict[str, Look]) -> list[Row]:
    """The rules that exist at all costs and have a look, the oracle last."""
    rows = [row for row in grid["rules"] if row["risk"] is not None and row["name"] in looks]
    return sorted(rows, key=lambda row: row["kind"] == "oracle")


def _grid(grid: dict[str, Any], looks: dict[str, Look]) -> dict[str, Any]:
    """Rows of the section on other costs; cells are (row, text, whether it is the lowest)."""
    drawn, cells = _drawn(grid, looks), []
    for i in range(len(grid["costs"])):
        texts = [words.number(row["risk_at"][i]) for row in drawn]
        usable = [row["kind"] != "oracle" for row in drawn]
        least = min(text for text, can in zip(texts, usable, strict=True) if can)
        cells.append(
            [
                (row, text, can and text == least)
                for row, text, can in zip(drawn, texts, usable, strict=True)
            ]
        )
    return {
        "grid_rules": drawn,
        "grid_everywhere": [row for row in grid["rules"] if row["risk"] is not None],
        "grid_partly": [row["label"] for row in grid["rules"] if row["risk"] is None],
        "grid_cells": cells,
    }


def _classes(report: dict[str, Any]) -> dict[str, Any]:
    """Which classes are listed, sent most first, and the confusions of kept and of sent."""
    numbers, who = report["classes"], nets(report)
    if not numbers:
        return {}
    order = sorted(
        (row for row in numbers["classes"] if row["total"]), key=lambda row: -row["reject_rate"]
    )
    many = len(order) > ALL_CLASSES
    names = [row["class"] for row in numbers["classes"]]
    sent = sum(row["sent"] for row in numbers["classes"])
    kept = sum(row["total"] for row in numbers["classes"]) - sent
    confusions = []
    for side, net, total in (("kept", who.the_local, kept), ("sent", who.the_remote, sent)):
        confusion = {"side": side, "model": net, "total": total}
        if numbers[f"confusion_{side}"] is None:
            confusion["pairs"] = numbers[f"errors_{side}"]
        else:
            confusion["shades"] = _shades(np.array(numbers[f"confusion_{side}"]))
        confusions.append(confusion)
    return {
        "listed": [*order[:ENDS], *order[-ENDS:]] if many else order,
        "many": many,
        "ends": ENDS,
        "class_names": names,
        "confusions": confusions,
    }


def _shades(counts: np.ndarray) -> list[list[tuple[int, str, str]]]:
    """(count, hue, shade) of each cell; the shade goes with the root of the count."""
    most = max(1, counts.max())
    return [
        [
            (int(count), "heat" if i == j else "wrong", f"{0.75 * (count / most) ** 0.5:.2f}")
            for j, count in enumerate(row)
        ]
        for i, row in enumerate(counts)
    ]
