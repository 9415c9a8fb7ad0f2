"""One round's results: reads the three files of test_multi_models and checks them for agreement.

    .../{T}/{dataset}/{method}/{R}/performances.txt    a row a target: top-1 and top-5 in percent
                                   performances.json   every number, accuracies 0..1; written last
                                   answers.npz         each net's class for each test sample

The accuracies and the cascade's risk must follow from the answers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deferral.npz_checks import read_npz

# Measures that every test sample contributes to; whether a higher value is better.
MEASURES = {"top1": True, "worst": True, "unseen": True, "risk": False}
CASCADE = ("cost_1", "cost_e", "risk", "never", "always", "oracle", "reject_rate")


@dataclass(frozen=True, eq=False)
class Round:
    """A round of one method and seed; T targets, U unseen nets, N test samples, accuracies 0..1."""

    dataset: str
    model_num: int
    method: str
    seed: int
    round: int
    labelled: int
    targets: tuple[str, ...]
    unseen: tuple[str, ...]
    top1: np.ndarray  # [T + U], the unseen nets last
    top5: np.ndarray  # [T + U]
    right: np.ndarray  # bool [T + U, N]
    cost: np.ndarray  # [N]: the cascade's cost of each test sample
    labels: np.ndarray  # [N]
    index: np.ndarray  # [N]
    cascade: dict[str, float]  # local, edge and CASCADE
    train_seconds: float
    select_seconds: float  # nan in round 0: its labels are random
    commit: str | None
    hardware: str | None
    source: Path

    @property
    def ends_and_costs(self) -> dict[str, float]:
        """The cascade without its results: local, edge, cost_1, cost_e."""
        return {key: self.cascade[key] for key in ("local", "edge", "cost_1", "cost_e")}

    def sums(self, measure: str) -> np.ndarray:
        """A measure for every test sample, [N], not yet divided by `nets(measure)`.

        top1: the number of targets that are right; worst: whether the target of lowest accuracy on
        the whole test set (the first of those) is right; unseen: the number of unseen nets that are
        right; risk: the cascade's cost.
        """
        count = len(self.targets)
        if measure == "risk":
            return self.cost
        if measure == "worst":
            return self.right[np.argmin(self.top1[:count])].astype(int)
        return (self.right[:count] if measure == "top1" else self.right[count:]).sum(0)

    def nets(self, measure: str) -> int:
        """The number of nets that `sums` adds up."""
        return {"top1": len(self.targets), "unseen": len(self.unseen)}.get(measure, 1)

    def record(self) -> dict[str, Any]:
        """The round's numbers, as NAME-methods.json lists them."""
        count = len(self.targets)
        return {
            "labelled": self.labelled,
            "top1": self.top1[:count].tolist(),
            "top5": self.top5[:count].tolist(),
            "unseen_top1": self.top1[count:].tolist(),
            **{key: self.cascade[key] for key in CASCADE},
            "train_seconds": self.train_seconds,
            "select_seconds": self.select_seconds,
        }


def read_round(path: Path) -> Round:
    """A performances.json with the two files beside it; ValueError, naming the file."""
    try:
        result = json.loads(path.read_text())
        nets = [*result["targets"], *result["unseen"]]
        select = result["select_seconds"]
        numbers: dict[str, Any] = {
            key: result[key] for key in ("dataset", "model_num", "method", "seed", "round")
        }
        numbers |= {
            "labelled": int(result["labelled"]),
            "targets": tuple(str(net["name"]) for net in result["targets"]),
            "unseen": tuple(str(net["name"]) for net in result["unseen"]),
            "top1": np.array([net["top1"] for net in nets], dtype=float),
            "top5": np.array([net["top5"] for net in nets], dtype=float),
            "cascade": {k: int(result["cascade"][k]) for k in ("local", "edge")}
            | {k: float(result["cascade"][k]) for k in CASCADE},
            "train_seconds": float(result["train_seconds"]),
            "select_seconds": float("nan") if select is None else float(select),
            "commit": result["commit"],
            "hardware": result["hardware"],
        }
    except KeyError as e:
        raise ValueError(f"{path}: lacks {e}; it is no result of test_multi_models") from None
    except (TypeError, ValueError, AttributeError):
        raise ValueError(f"{path}: is no result of test_multi_models") from None
    _check_place(path, numbers)
    _check_text(path, numbers)
    right, cost, labels, index = _answers(path, numbers)
    return Round(**numbers, right=right, cost=cost, labels=labels, index=index, source=path)


def _check_place(path: Path, numbers: dict[str, Any]) -> None:
    """ValueError where the file's contents contradict the names of its folders."""
    model_num, dataset, method, round_ = path.parts[-5:-1]
    here = {"model_num": model_num, "dataset": dataset, "method": method, "round": round_}
    if folder := re.fullmatch(r"seed-(\d+)", path.parts[-7] if len(path.parts) > 6 else ""):
        here["seed"] = folder[1]
    for key, value in here.items():
        if str(numbers[key]) != value:
            raise ValueError(
                f"{path}: is of {key} {numbers[key]}, but lies in the folder of {value}"
            )
    if not all(type(numbers[key]) is int for key in ("model_num", "round", "seed")):
        raise ValueError(f"{path}: model_num, round and seed must be whole numbers")
    if len(numbers["targets"]) != numbers["model_num"]:
        raise ValueError(
            f"{path}: has {len(numbers['targets'])} targets, not {numbers['model_num']}"
        )


def read_text(path: Path, model_num: int) -> np.ndarray:
    """A performances.txt: top-1 and top-5 of the targets in percent, [T, 2]; ValueError."""
    try:
        rows = [[float(word) for word in line.split()] for line in path.read_text().splitlines()]
    except ValueError:
        rows = []
    # The release's are means of float32: 1e-3 for rounding.
    if not rows or any(len(row) != 2 or not 0 <= row[0] <= row[1] + 1e-3 <= 100.01 for row in rows):
        raise ValueError(f"{path}: is not rows of top-1 and top-5 in percent")
    if len(rows) != model_num:
        raise ValueError(f"{path}: has {len(rows)} rows, not one for each of {model_num} targets")
    return np.array(rows)


def _check_text(path: Path, numbers: dict[str, Any]) -> None:
    """ValueError if performances.txt and .json differ in the text's four decimals."""
    text = path.with_name("performances.txt")
    count = len(numbers["targets"])
    try:
        values = read_text(text, count)
    except FileNotFoundError:
        raise ValueError(f"{text}: is not there, but performances.json is") from None
    if not (
        np.abs(values - 100 * np.stack([numbers["top1"][:count], numbers["top5"][:count]], 1))
        < 1e-4
    ).all():
        raise ValueError(f"{text}: does not agree with performances.json beside it")


def _answers(path: Path, numbers: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """right, cost, labels and index, [.., N]; ValueError where they contradict the numbers."""
    path = path.with_name("answers.npz")
    names = ("labels", "predicted", "cost", "index")
    try:
        arrays = read_npz(path, names)
    except FileNotFoundError:
        raise ValueError(f"{path}: is not there, but performances.json is") from None
    if missing := [name for name in names if name not in arrays]:
        raise ValueError(f"{path}: lacks {', '.join(missing)}")
    labels, predicted, cost, index = (arrays[name] for name in names)
    nets, n = len(numbers["top1"]), labels.size
    for name, shape in zip(names, [(n,), (nets, n), (n,), (n,)], strict=True):
        if arrays[name].shape != shape or not n:
            raise ValueError(f"{path}: {name} is {arrays[name].shape}, but must be {shape}")
    right = predicted == labels
    if not np.allclose(right.mean(1), numbers["top1"], atol=1e-6):
        raise ValueError(f"{path}: its answers do not have the accuracies of performances.json")
    if not np.allclose(cost.mean(), numbers["cascade"]["risk"], atol=1e-6):
        raise ValueError(f"{path}: its costs do not have the risk of performances.json as mean")
    return right, cost.astype(float), labels, index
