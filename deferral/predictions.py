"""predictions.npz: all that rules, risks, tables and figures are computed from.

labels         int64    [N]            true class
stage_logits   float32  [E, N, K]      logits of every stage (learning to help: local, edge)
split          int8     [N]            0 val (thresholds are fitted here), 1 test
index          int64    [N]            row in the data set
scores         float32  [R, N]         per rejector: logit REMOTE - logit LOCAL; REMOTE iff > 0
settings       str      []             JSON: dataset, classes, edge, local, ..., rejectors (R)
example_index  int64    [M]            optional: rows of the arrays above, with a picture each
example_images uint8    [M, C, H, W]
loss_step      int64    [T]            optional: training steps at which a loss was written
loss_edge      float32  [T]            L1, the edge's cross-entropy
loss_rejector  float32  [T, R]         L2 of each rejector
"""

import json
import math
import zipfile
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = {"val": 0, "test": 1}
# Name of each array: its kinds of dtype and its axes; equal letters are equal lengths.
REQUIRED = {
    "labels": ("iu", "N"),
    "stage_logits": ("f", "ENK"),
    "split": ("iu", "N"),
    "index": ("iu", "N"),
    "scores": ("f", "RN"),
    "settings": ("U", ""),
}
OPTIONAL = {
    "example_index": ("iu", "M"),
    "example_images": ("u", "MCHW"),
    "loss_step": ("iu", "T"),
    "loss_edge": ("f", "T"),
    "loss_rejector": ("f", "TR"),
}
TOGETHER = (("example_index", "example_images"), ("loss_step", "loss_edge", "loss_rejector"))


@dataclass(frozen=True, eq=False)
class Predictions:
    """The arrays of one predictions.npz, shapes as in the module's docstring."""

    labels: np.ndarray
    stage_logits: np.ndarray
    split: np.ndarray
    index: np.ndarray
    scores: np.ndarray
    settings: dict[str, Any]
    example_index: np.ndarray | None = None
    example_images: np.ndarray | None = None
    loss_step: np.ndarray | None = None
    loss_edge: np.ndarray | None = None
    loss_rejector: np.ndarray | None = None
    source: str = "predictions"  # the file, as error messages name it

    @cached_property
    def correct(self) -> np.ndarray:
        """Whether each stage is right: bool [E, N]. Equal logits go to the lower class."""
        return self.stage_logits.argmax(-1) == self.labels

    def part(self, split: str) -> "Predictions":
        """The rows of "val" or "test"; examples keep pointing at their rows. ValueError if none."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r}: there are {', '.join(SPLITS)}")
        rows = self.split == SPLITS[split]
        if not rows.any():
            raise ValueError(f"{self.source}: has no {split} rows")
        part = replace(
            self,
            labels=self.labels[rows],
            stage_logits=self.stage_logits[:, rows],
            split=self.split[rows],
            index=self.index[rows],
            scores=self.scores[:, rows],
        )
        if self.example_index is None or self.example_images is None:
            return part
        kept = rows[self.example_index]
        new_row = np.cumsum(rows) - 1
        return replace(
            part,
            example_index=new_row[self.example_index[kept]],
            example_images=self.example_images[kept],
        )


def load(path: str | Path) -> Predictions:
    """Read and check one file.

    FileNotFoundError where there is none; ValueError, one line that names the file, for what
    cannot be read, lacks an array, or holds arrays that contradict each other.
    """
    arrays = _read(Path(path))
    try:
        settings = _check(arrays)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from None
    whole = {k: v.astype(np.int64) for k, v in arrays.items() if v.dtype.kind in "iu"}
    if "example_images" in arrays:
        whole["example_images"] = arrays["example_images"]
    return Predictions(**(arrays | whole | {"settings": settings}), source=str(path))


def find(run_dir: str | Path) -> list[Path]:
    """Every *-predictions.npz in a folder and below it, sorted. ValueError if there is none."""
    paths = sorted(Path(run_dir).rglob("*-predictions.npz"))
    if not paths:
        raise ValueError(f"no predictions in {run_dir}; run eval_all.py first")
    return paths


def _read(path: Path) -> dict[str, np.ndarray]:
    """The known arrays of the file, unchecked; what else it holds is left alone."""
    unreadable = f"{path}: cannot be read: truncated, or not an npz file of plain arrays"
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError(unreadable)
        with file:
            return {k: file[k] for k in (*REQUIRED, *OPTIONAL) if k in file}
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError, KeyError, NotImplementedError, MemoryError) as e:
        raise ValueError(unreadable) from e
    except (zipfile.BadZipFile, zlib.error) as e:
        raise ValueError(unreadable) from e


def _check(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """ValueError for the first thing that is wrong with the arrays; returns the settings."""
    if missing := [k for k in REQUIRED if k not in arrays]:
        raise ValueError(f"lacks {', '.join(missing)}")
    for names in TOGETHER:
        absent = [k for k in names if k not in arrays]
        if 0 < len(absent) < len(names):
            raise ValueError(f"lacks {', '.join(absent)}, which go with the other of {names}")
    size = _check_shapes(arrays)
    if not size["E"] or not size["N"] or not size["K"]:
        raise ValueError(f"stage_logits {arrays['stage_logits'].shape} holds no predictions")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")
    for name, low, high in (
        ("labels", 0, size["K"] - 1),
        ("split", 0, 1),
        ("example_index", 0, size["N"] - 1),
    ):
        array = arrays.get(name)
        if array is not None and array.size and (array.min() < low or array.max() > high):
            raise ValueError(f"{name} holds values outside {low}..{high}")
    if (arrays["split"][arrays.get("example_index", [])] != SPLITS["test"]).any():
        raise ValueError("example_index holds rows that are not test rows")
    return _check_settings(str(arrays["settings"]), size["K"], size["R"])


def _check_shapes(arrays: dict[str, np.ndarray]) -> dict[str, int]:
    """The length of every axis letter; ValueError where dtypes or lengths disagree."""
    size: dict[str, int] = {}
    first: dict[str, str] = {}
    for name, array in arrays.items():
        kinds, axes = (REQUIRED | OPTIONAL)[name]
        shape = f"[{', '.join(axes)}]" if axes else "a single string"
        if array.dtype.kind not in kinds or array.ndim != len(axes):
            raise ValueError(f"{name} is {array.dtype} {array.shape}, but must be {shape}")
        for axis, length in zip(axes, array.shape, strict=True):
            if size.setdefault(axis, length) != length:
                raise ValueError(
                    f"{name} {array.shape} must be {shape}: {axis} is {length} here "
                    f"and {size[axis]} in {first[axis]}"
                )
            first.setdefault(axis, name)
    return size


def _check_settings(text: str, n_classes: int, n_rejectors: int) -> dict[str, Any]:
    """The JSON as a dict; ValueError where it does not describe K classes and R rejectors."""
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as e:
        raise ValueError(f"settings are not JSON ({e.msg})") from None
    if not isinstance(settings, dict) or not isinstance(settings.get("dataset"), str):
        raise ValueError("settings do not name a dataset")
    for key, want in (("classes", n_classes), ("rejectors", n_rejectors)):
        got = settings.get(key)
        if not isinstance(got, list) or len(got) != want:
            count = len(got) if isinstance(got, list) else "no list of"
            raise ValueError(f"settings hold {count} {key}, but the arrays hold {want}")
    for number, setting in enumerate(settings["rejectors"]):
        if not isinstance(setting, dict) or not _is_setting(setting):
            raise ValueError(
                f"settings of rejector {number} need stem, surrogate, cost_1 and cost_e >= 0, "
                'and async_freq: a whole number >= 0 or "joint"'
            )
    return settings


def _is_setting(setting: dict[str, Any]) -> bool:
    costs = [setting.get("cost_1"), setting.get("cost_e")]
    every = setting.get("async_freq")
    return (
        all(isinstance(setting.get(k), str) for k in ("stem", "surrogate"))
        and all(type(c) in (int, float) and math.isfinite(c) and c >= 0 for c in costs)
        and (every == "joint" or (type(every) is int and every >= 0))
    )
