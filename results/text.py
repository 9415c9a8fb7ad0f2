"""Numbers and Markdown tables as the pages show them, and the published files they come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from deferral import predictions
from deferral.summary import summarise

DASH = "–"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@cache
def summary(path: Path) -> pd.DataFrame:
    """`deferral.summary.summarise` of a predictions file, with the refreshes of each setting."""
    pred = predictions.load(path)
    sent = pd.DataFrame(pred.settings["rejectors"]).reindex(columns=["refreshes", "bytes_sent"])
    return pd.concat([pd.DataFrame(summarise(pred)), sent], axis=1)


def summaries(folder: Path) -> pd.DataFrame:
    """The summaries of all runs in or below a folder, one after another, with a column `run`."""
    paths = sorted(folder.rglob(predictions.PREDICTIONS))
    if not paths:
        raise ValueError(f"{folder}: holds no predictions")
    return pd.concat([summary(path).assign(run=path.parent.name) for path in paths])


def number(value: float | None, digits: int = 0, sign: bool = False, scale: float = 1) -> str:
    """1,234.5; "" for None."""
    if value is None:
        return ""
    # Adding zero turns the -0.0 that small negative numbers round to into 0.0.
    rounded = round(value * scale, digits) + 0.0
    return f"{rounded:{'+' if sign else ''},.{digits}f}".replace("-", "−")


def plus_minus(mean: float | None, std: float | None, digits: int, scale: float = 1) -> str:
    """0.123 ± 0.004; "" where there is no mean, and the mean alone where there is no deviation."""
    if mean is None:
        return ""
    if std is None:
        return number(mean, digits, scale=scale)
    return f"{number(mean, digits, scale=scale)} ± {number(std, digits, scale=scale)}"


def interval(low: float, high: float, digits: int, scale: float = 1) -> str:
    return f"{number(low, digits, True, scale)} to {number(high, digits, True, scale)}"


def ratio(middle: float, low: float, high: float, digits: int) -> str:
    """1.53 (1.43 to 1.61)"""
    return f"{number(middle, digits)} ({number(low, digits)} to {number(high, digits)})"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [list(heads), ["---"] * len(heads), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
