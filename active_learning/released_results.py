"""Results in the form in which the paper's release publishes them: every target's accuracies alone.

    SAVE_DIR/extracted_results/{T}/{dataset}/{method}/{round}/performances.txt

A row a target, T of them: top-1 and top-5 in percent, six decimals. Nothing says how many labels a
round has, what the targets are or which seed it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from active_learning.round_results import read_text
from figures import style


@dataclass(frozen=True, eq=False)
class Tree:
    """All results of a data set: accuracies[T][method][round] is [T, 2], top-1 and top-5 in %."""

    dataset: str
    accuracies: dict[int, dict[str, dict[int, np.ndarray]]]

    @property
    def name(self) -> str:
        """That of its files."""
        return f"{self.dataset}-targets"

    @property
    def methods(self) -> list[str]:
        """Those of any T, in the order of figures."""
        there = {method for methods in self.accuracies.values() for method in methods}
        order = list(style.QUERIES)
        return sorted(there, key=lambda m: (order.index(m) if m in order else len(order), m))

    @property
    def rounds(self) -> list[int]:
        """Those that every method has with every T that it has results of."""
        have = [set(rounds) for ms in self.accuracies.values() for rounds in ms.values()]
        return sorted(set.intersection(*have))

    def curve(self, model_num: int, method: str, rounds: list[int]) -> tuple[np.ndarray, ...]:
        """Mean and standard deviation (over T, not T - 1) of top-1 over the targets, two of [R]."""
        top1 = np.stack([self.accuracies[model_num][method][r][:, 0] for r in rounds])
        return top1.mean(1), top1.std(1)

    def left_out(self) -> list[str]:
        """A line for every round that some method lacks with some T: which."""
        lines = []
        runs = {(t, m): rounds for t, ms in self.accuracies.items() for m, rounds in ms.items()}
        for round_ in sorted({r for rounds in runs.values() for r in rounds} - set(self.rounds)):
            lacking = [f"{m} (T = {t})" for (t, m), rounds in runs.items() if round_ not in rounds]
            lines.append(
                f"{self.dataset}: round {round_} is left out: {', '.join(lacking)} lack it"
            )
        return lines

    def summary(self) -> dict[str, Any]:
        """Every number by T and method: means over `rounds`, and each round's."""
        rounds = self.rounds
        return {
            str(t): {
                method: {
                    "mean": float(self.curve(t, method, rounds)[0].mean()),
                    "std": float(self.curve(t, method, rounds)[1].mean()),
                    "rounds": {
                        str(r): {
                            "mean": float(values[:, 0].mean()),
                            "std": float(values[:, 0].std()),
                            "top1": values[:, 0].tolist(),
                            "top5": values[:, 1].tolist(),
                        }
                        for r, values in sorted(found.items())
                    },
                }
                for method, found in methods.items()
            }
            for t, methods in self.accuracies.items()
        }


def load(save_dir: Path) -> list[Tree]:
    """A tree a data set, of a folder with extracted_results or of that folder itself.

    None where a performances.json lies there: those are our results (`active_learning.results`).
    ValueError, one line: a file that is not T rows of two accuracies, or lies in another place.
    """
    root = save_dir if save_dir.name == "extracted_results" else save_dir / "extracted_results"
    paths = sorted(root.glob("*/*/*/*/performances.txt"))
    ours = "extracted_results/*/*/*/*/performances.json"
    if any(path.with_suffix(".json").exists() for path in paths) or any(
        save_dir.glob(f"seed-*/{ours}")
    ):
        return []
    found: dict[str, dict[int, dict[str, dict[int, np.ndarray]]]] = {}
    for path in paths:
        model_num, dataset, method, round_ = path.parts[-5:-1]
        if not (model_num.isascii() and model_num.isdigit() and int(model_num)):
            raise ValueError(f"{path}: {model_num!r} is no number of targets")
        if not (round_.isascii() and round_.isdigit()):
            raise ValueError(f"{path}: {round_!r} is no round")
        methods = found.setdefault(dataset, {}).setdefault(int(model_num), {})
        rounds = methods.setdefault(method, {})
        if int(round_) in rounds:
            raise ValueError(f"{path}: another folder is of round {int(round_)} too")
        rounds[int(round_)] = read_text(path, int(model_num))
    return [Tree(name, dict(sorted(of_t.items()))) for name, of_t in sorted(found.items())]
