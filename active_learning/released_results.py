"""Results as the paper's release publishes them: the accuracies of every target and no more.

    SAVE_DIR/extracted_results/{T}/{dataset}/{method}/{round}/performances.txt

A row a target, T of them: top-1 and top-5 in percent, six decimals. The files name neither the
number of labels of a round nor the targets nor the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from active_learning.round_results import read_text
from figures import style


def order_of_method(method: str) -> tuple[int, str]:
    """Sort key: the order of figures, then the name."""
    order = list(style.QUERIES)
    return order.index(method) if method in order else len(order), method


def common_rounds(rows: pd.DataFrame, run: str) -> list[int]:
    """The rounds that every run has; a run is a method and a value of the column `run`."""
    rows = rows.drop_duplicates(["method", run, "round"])
    count = rows.groupby("round").size()
    return count.index[count == rows.groupby(["method", run]).ngroups].tolist()


def missing_rounds(rows: pd.DataFrame, run: str, words: str) -> list[str]:
    """A line for each round that some run lacks; `words` names a run by its {method} and {run}."""
    runs = list(dict.fromkeys(zip(rows["method"], rows[run], strict=True)))
    present = set(zip(rows["method"], rows[run], rows["round"], strict=True))
    lines = []
    for round_ in sorted(set(rows["round"]) - set(common_rounds(rows, run))):
        lacking = [words.format(method=m, run=r) for m, r in runs if (m, r, round_) not in present]
        verb = "lacks" if len(lacking) == 1 else "lack"
        lines.append(f"round {round_} is left out: {', '.join(lacking)} {verb} it")
    return lines


@dataclass(frozen=True, eq=False)
class Tree:
    """All results of a data set. `table` has a row for each target: model_num, method, round, top1,
    top5 (%).
    """

    dataset: str
    table: pd.DataFrame

    @property
    def name(self) -> str:
        """Stem of its file names."""
        return f"{self.dataset}-targets"

    @property
    def methods(self) -> list[str]:
        """The methods of any T, in the order of figures."""
        return sorted(self.table.method.unique(), key=order_of_method)

    @property
    def rounds(self) -> list[int]:
        """The rounds that every method has with every T that it has results of."""
        return common_rounds(self.table, "model_num")

    def curves(self) -> pd.DataFrame:
        """`mean` and `std` (over T, not T - 1) of top-1 over the targets, by model_num, method and
        round.
        """
        top1 = self.table.groupby(["model_num", "method", "round"], sort=False).top1
        return pd.DataFrame({"mean": top1.mean(), "std": top1.std(ddof=0)}).reset_index()

    def left_out(self) -> list[str]:
        """A line for each round that some method lacks with some T."""
        lines = missing_rounds(self.table, "model_num", "{method} (T = {run})")
        return [f"{self.dataset}: {line}" for line in lines]

    def summary(self) -> dict[str, Any]:
        """By T and method: `mean` and `std`, averaged over `self.rounds`, and each round's."""
        curves, rounds = self.curves(), self.rounds
        numbers: dict[str, Any] = {}
        for (model_num, method), curve in curves.groupby(["model_num", "method"], sort=False):
            means = curve.loc[curve["round"].isin(rounds), ["mean", "std"]].mean()
            rows = self.table[(self.table.model_num == model_num) & (self.table.method == method)]
            by_round = {
                str(row["round"]): {
                    "mean": row["mean"],
                    "std": row["std"],
                    **rows.loc[rows["round"] == row["round"], ["top1", "top5"]].to_dict("list"),
                }
                for row in curve.sort_values("round").to_dict("records")
            }
            numbers.setdefault(str(model_num), {})[method] = {**means, "rounds": by_round}
        return numbers


def load(save_dir: Path) -> list[Tree]:
    """A tree a data set, of a folder with extracted_results or of that folder itself.

    Empty where a performances.json is beside the texts: those are results of this package
    (`active_learning.results`). ValueError, one line: a file does not have T rows of two
    accuracies, or its folder's name is not a number.
    """
    root = save_dir if save_dir.name == "extracted_results" else save_dir / "extracted_results"
    paths = sorted(root.glob("*/*/*/*/performances.txt"))
    native = "extracted_results/*/*/*/*/performances.json"
    if any(path.with_suffix(".json").exists() for path in paths) or any(
        save_dir.glob(f"seed-*/{native}")
    ):
        return []
    tables: dict[str, list[pd.DataFrame]] = {}
    places = set()
    for path in paths:
        folder, dataset, method, last = path.parts[-5:-1]
        if not (folder.isascii() and folder.isdigit() and int(folder)):
            raise ValueError(f"{path}: {folder!r} is no number of targets")
        if not (last.isascii() and last.isdigit()):
            raise ValueError(f"{path}: {last!r} is no round")
        model_num, round_ = int(folder), int(last)
        if (model_num, dataset, method, round_) in places:
            raise ValueError(f"{path}: another folder is of round {round_} too")
        places.add((model_num, dataset, method, round_))
        rows = pd.DataFrame(read_text(path, model_num), columns=["top1", "top5"])
        rows = rows.assign(model_num=model_num, method=method, round=round_)
        tables.setdefault(dataset, []).append(rows)
    return [
        Tree(name, pd.concat(rows).sort_values(["model_num", "method"], kind="stable"))
        for name, rows in sorted(tables.items())
    ]
