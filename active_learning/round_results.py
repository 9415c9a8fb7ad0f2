"""One round's results: the three files that test_multi_models writes, read and held to each other.

    .../{T}/{dataset}/{method}/{R}/performances.txt    a row a target: top-1 and top-5 in percent
                                   performances.json   every number, accuracies 0..1; comes last
                                   answers.npz         what every net says to every test sample

The accuracies and the cascade's risk must follow from the answers, so that whatever is computed
from these is about the numbers in the text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deferral.predictions import read_npz

# What a test sample gives, by measure; whether more of it is better.
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
    cost: np.ndarray  # [N]: what the cascade pays for each test sample
    labels: np.ndarray  # [N]
    index: np.ndarray  # [N]
    cascade: dict[str, float]  # local, edge and CASCADE
    train_seconds: float
    select_seconds: float  # nan in round 0: its labels are random
    commit: str | None
    hardware: str | None
    source: Path

    def sums(self, measure: str) -> np.ndarray:
        """A measure for every test sample, [N], not yet divided by `nets(measure)`.

        top1: how many targets are right; worst: whether the target is that has the lowest accuracy
        on the whole test set (the first of those); unseen: how many unseen nets are right; risk:
        the cascade's cost.
        """
        count = len(self.targets)
        if measure == "risk":
            return self.cost
        if measure == "worst":
            return self.right[np.argmin(self.top1[:count])].astype(int)
        return (self.right[:count] if measure == "top1" else self.right[count:]).sum(0)

    def nets(self, measure: str) -> int:
        """How many nets `sums` is over."""
        return {"top1": len(self.targets), "unseen": len(self.unseen)}.get(measure, 1)

    def value(self, measure: str) -> float:
        """The round's number: one of MEASURES, or "spread", the best target minus the worst."""
        if measure == "spread":
            return float(np.ptp(self.top1[: len(self.targets)]))
        return float(self.sums(measure).sum() / (self.nets(measure) * len(self.labels)))


def read_round(path: Path) -> Round:
    """A performances.json with the two files beside it; ValueError, naming the file."""
    try:
        result = json.loads(path.read_text())
        nets = [*result["targets"], *result["unseen"]]
        select = result["select_seconds"]
        one = {key: result[key] for key in ("dataset", "model_num", "method", "seed", "round")}
        one |= {
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
    _check_place(path, one)
    _check_text(path, one)
    return Round(**one, **_answers(path, one), source=path)


def _check_place(path: Path, one: dict[str, Any]) -> None:
    """The file lies where its own words say it does."""
    model_num, dataset, method, round_ = path.parts[-5:-1]
    here = {"model_num": model_num, "dataset": dataset, "method": method, "round": round_}
    if folder := re.fullmatch(r"seed-(\d+)", path.parts[-7] if len(path.parts) > 6 else ""):
        here["seed"] = folder[1]
    for key, value in here.items():
        if str(one[key]) != value:
            raise ValueError(f"{path}: is of {key} {one[key]}, but lies in the folder of {value}")
    if not all(type(one[key]) is int for key in ("model_num", "round", "seed")):
        raise ValueError(f"{path}: model_num, round and seed must be whole numbers")
    if len(one["targets"]) != one["model_num"]:
        raise ValueError(f"{path}: has {len(one['targets'])} targets, not {one['model_num']}")


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


def _check_text(path: Path, one: dict[str, Any]) -> None:
    """performances.txt says the same of the targets, to its four decimals."""
    text = path.with_name("performances.txt")
    count = len(one["targets"])
    try:
        values = read_text(text, count)
    except FileNotFoundError:
        raise ValueError(f"{text}: is not there, but performances.json is") from None
    if not (
        np.abs(values - 100 * np.stack([one["top1"][:count], one["top5"][:count]], 1)) < 1e-4
    ).all():
        raise ValueError(f"{text}: does not agree with performances.json beside it")


def _answers(path: Path, one: dict[str, Any]) -> dict[str, np.ndarray]:
    """right, cost, labels and index, [.., N]; ValueError where they do not give the numbers."""
    path = path.with_name("answers.npz")
    names = ("labels", "predicted", "cost", "index")
    try:
        arrays = read_npz(path, names)
    except FileNotFoundError:
        raise ValueError(f"{path}: is not there, but performances.json is") from None
    if missing := [name for name in names if name not in arrays]:
        raise ValueError(f"{path}: lacks {', '.join(missing)}")
    labels, predicted, cost, index = (arrays[name] for name in names)
    nets, n = len(one["top1"]), labels.size
    for name, shape in zip(names, [(n,), (nets, n), (n,), (n,)], strict=True):
        if arrays[name].shape != shape or not n:
            raise ValueError(f"{path}: {name} is {arrays[name].shape}, but must be {shape}")
    right = predicted == labels
    if not np.allclose(right.mean(1), one["top1"], atol=1e-6):
        raise ValueError(f"{path}: its answers do not have the accuracies of performances.json")
    if not np.allclose(cost.mean(), one["cascade"]["risk"], atol=1e-6):
        raise ValueError(f"{path}: its costs do not have the risk of performances.json as mean")
    return {"right": right, "cost": cost.astype(float), "labels": labels, "index": index}
