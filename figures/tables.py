"""One table, four ways: fixed width for a terminal, Markdown, LaTeX (booktabs), CSV."""

import math
import textwrap
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import experiment

Row = dict[str, Any]
TEX_SIGNS = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
TEX_SIGNS |= {"–": "--", "−": "$-$", "<": "$<$", ">": "$>$"} | {c: f"\\{c}" for c in "&%$#_{}"}


@dataclass(frozen=True)
class Column:
    """`key` of the rows (and CSV heading), `head` as printed, `tex` where LaTeX differs from it.

    `show` turns a value into text; columns with the same `group` get a common heading.
    """

    key: str
    head: str
    show: Callable[[Any], str] = str
    tex: str = ""
    group: str = ""


def fixed(digits: int, scale: float = 1) -> Callable[[float], str]:
    """Numbers with this many digits; a dash for nan."""

    def show(value: float) -> str:
        # Adding zero turns the -0.0 that small negative numbers round to into 0.0.
        text = "–" if math.isnan(value) else f"{round(value * scale, digits) + 0.0:.{digits}f}"
        return text.replace("-", "−")

    return show


def spread(values: Iterable[float | None], digits: int, scale: float = 1) -> str:
    """ "71.23 ± 0.31", mean and standard deviation (n - 1); one value: "71.23".

    A dash where a value is None, nan or infinite.
    """
    array, show = np.array(list(values), dtype=float), fixed(digits, scale)
    if not np.isfinite(array).all():
        return show(math.nan)
    mean = show(float(array.mean()))
    return f"{mean} ± {show(float(array.std(ddof=1)))}" if len(array) > 1 else mean


def plain(value: float) -> str:
    """A number in its shortest form: 1.25, 0.1, 2."""
    return f"{value:g}"


def print_table(rows: list[Row], columns: list[Column], caption: str) -> None:
    """Caption and table on stdout, every column as wide as its widest cell."""
    heads = pd.MultiIndex.from_tuples([(c.group, c.head) for c in columns])
    text = pd.DataFrame(_cells(rows, columns), columns=heads).to_string(index=False)
    if not any(c.group for c in columns):
        text = text.partition("\n")[2]  # without the empty line of common headings
    print(textwrap.fill(caption, 110), text, sep="\n\n", end="\n\n")


def write_table(
    rows: list[Row],
    columns: list[Column],
    out: Path,
    name: str,
    caption: str,
    bold: Callable[[Row], Collection[str]] = lambda row: (),
) -> list[Path]:
    """name.md, name.tex and name.csv, each written whole; returns their paths.

    `bold` names the keys of a row that Markdown and LaTeX print in bold. The caption, a sentence,
    says what was measured. CSV has the values unrounded, and nothing for nan.
    """
    frame = pd.DataFrame(rows, columns=[c.key for c in columns], dtype=object)
    texts = {
        "md": _markdown(rows, columns, caption, bold),
        "tex": _latex(rows, columns, caption, bold),
        "csv": frame.to_csv(index=False, lineterminator="\n"),
    }
    for kind, text in texts.items():
        experiment.write_bytes(out / f"{name}.{kind}", text.encode())
    return [out / f"{name}.{kind}" for kind in texts]


def _cells(rows: list[Row], columns: list[Column]) -> list[list[str]]:
    return [[c.show(row[c.key]) for c in columns] for row in rows]


def _groups(columns: list[Column]) -> list[tuple[str, int, int]]:
    """(group, first column, column after the last); columns of no group stand alone."""
    groups: list[tuple[str, int, int]] = []
    for i, column in enumerate(columns):
        if groups and column.group and groups[-1][0] == column.group:
            groups[-1] = (column.group, groups[-1][1], i + 1)
        else:
            groups.append((column.group, i, i + 1))
    return groups


def _markdown(rows: list[Row], columns: list[Column], caption: str, bold: Callable) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    lines = [caption, "", line([f"{c.group} {c.head}".strip() for c in columns])]
    lines.append("|" + "---:|" * len(columns))
    for row, cells in zip(rows, _cells(rows, columns), strict=True):
        strong = bold(row)
        lines.append(
            line(
                [f"**{x}**" if c.key in strong else x for c, x in zip(columns, cells, strict=True)]
            )
        )
    return "\n".join(lines) + "\n"


def _latex(rows: list[Row], columns: list[Column], caption: str, bold: Callable) -> str:
    lines = [f"% {caption}", r"\begin{tabular}{" + "r" * len(columns) + "}", r"\toprule"]
    groups = _groups(columns)
    if any(name for name, _, _ in groups):
        heads = [rf"\multicolumn{{{j - i}}}{{c}}{{{_tex(x)}}}" if x else "" for x, i, j in groups]
        rules = [rf"\cmidrule(lr){{{i + 1}-{j}}}" for x, i, j in groups if x]
        lines += [" & ".join(heads) + r" \\", " ".join(rules)]
    lines += [" & ".join(c.tex or _tex(c.head) for c in columns) + r" \\", r"\midrule"]
    before = None
    for row, cells in zip(rows, _cells(rows, columns), strict=True):
        strong, first = bold(row), row[columns[0].key]
        if before not in (None, first):
            lines.append(r"\addlinespace")
        before = first
        cells = [
            rf"\textbf{{{_tex(x)}}}" if c.key in strong else _tex(x)
            for c, x in zip(columns, cells, strict=True)
        ]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _tex(text: str) -> str:
    """Text with TeX's own signs escaped; |D| in math."""
    return "".join(TEX_SIGNS.get(sign, sign) for sign in text).replace("|D|", "$|D|$")
