"""predictions.npz: everything that rules, risks, tables and figures are computed from.

labels         int64    [N]            true class
stage_logits   float32  [E, N, K]      logits of every stage (learning to help: local, edge)
split          int8     [N]            0 val (thresholds are fitted here), 1 test
index          int64    [N]            row in the data set
scores         float32  [R, N]         per rejector: logit REMOTE - logit LOCAL; REMOTE iff > 0
settings       str      []             JSON: dataset, classes, edge, local, ..., rejectors (R),
                                       estimators (A)
example_index  int64    [M]            optional: rows of the arrays above, with a picture each
example_images uint8    [M, C, H, W]
estimates      float32  [A, 2, N]      optional: per estimator, P(m right | x) and P(e right | x)
student_logits float32  [B, N, K]      optional: what the students of some estimators, `students` in
                                       the settings, answer by themselves
loss_step      int64    [T]            optional: training steps at which a loss was written
loss_edge      float32  [T]            L1, the edge's cross-entropy
loss_rejector  float32  [T, L]         L2 of the first L rejectors, those trained beside the edge
progress_step      int64    [P]        optional: training steps done when val was looked at
progress_seconds   float64  [P]        of training until then, all settings in one pass
progress_risk      float32  [P, L]     val risk, the edge of that moment answering what is sent
progress_accuracy  float32  [P, L]     val accuracy, 0..1
progress_bytes     int64    [P, L]     sent until then to refresh the rejector's copy of the edge

A rejector's setting: stem, surrogate, cost_1, cost_e, and async_freq: the batches between refreshes
of its copy of the edge, 0 for once an epoch, "adaptive-TOL" for one when more than a share TOL of
the edge's answers have changed, or "joint" for no copy. Optional: parameters, multiply_adds;
refreshes, bytes_sent (by them), outages.

Settings may hold inputs: the SHA-256 of the data and of each file that the predictions were made
from, by its path from the folder of the predictions.

Stages of a network with exits are its exits in order; behind a device with exits, the server's is
the last. Then settings hold multiply_adds, a whole number for each exit, of all that is computed up
to it; and optionally cost_flops, what one of them costs in units of one local error. estimates and
scores are of the last exit and the server.
"""

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from experiment import PREDICTIONS, sha256

SPLITS = {"val": 0, "test": 1}
# Name of each array: its kinds of dtype and its axes; equal letters are equal lengths, a digit
# is a length.
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
    "estimates": ("f", "A2N"),
    "student_logits": ("f", "BNK"),
    "loss_step": ("iu", "T"),
    "loss_edge": ("f", "T"),
    "loss_rejector": ("f", "TL"),
    "progress_step": ("iu", "P"),
    "progress_seconds": ("f", "P"),
    "progress_risk": ("f", "PL"),
    "progress_accuracy": ("f", "PL"),
    "progress_bytes": ("iu", "PL"),
}
# Prefixes of groups of arrays of which a file has all or none.
GROUPS = ("example_", "loss_", "progress_")
Group = TypeVar("Group")


class Examples(NamedTuple):
    """The arrays example_*."""

    rows: np.ndarray
    images: np.ndarray


class Losses(NamedTuple):
    """The arrays loss_*."""

    step: np.ndarray
    edge: np.ndarray
    rejector: np.ndarray


class Progress(NamedTuple):
    """The arrays progress_*."""

    step: np.ndarray
    seconds: np.ndarray
    risk: np.ndarray
    accuracy: np.ndarray
    bytes: np.ndarray


@dataclass(frozen=True, eq=False)
class Own:
    """What a file of answers says that logits do not (deferral/external.py).

    quality [E, N], 0..1: in place of whether the logits are right. doubts: by confidence rule
    [E - 1, N], higher is less sure; in place of what the logits tell. signals: after each stage but
    the last, what fitted rules may look at, [N, F]; empty where there is nothing. paid [E, N]: what
    a sample costs if stage e answers it, in the file's unit; None: 0, and 1 for the last stage.
    group [N]: samples that belong together. text [N] of str: to show samples by. class_scores
    [2, N, K]: logits of two models, for the ceiling (deferral/ceiling.py). `stage_logits` then has
    K = 0 where no class is known.
    """

    quality: np.ndarray
    doubts: dict[str, np.ndarray]
    signals: list[np.ndarray]
    paid: np.ndarray | None = None
    group: np.ndarray | None = None
    text: np.ndarray | None = None
    class_scores: np.ndarray | None = None

    def part(self, rows: np.ndarray) -> "Own":
        """Some of the samples, rows bool [N]."""
        return Own(
            self.quality[:, rows],
            {name: doubt[:, rows] for name, doubt in self.doubts.items()},
            [signal[rows] for signal in self.signals],
            None if self.paid is None else self.paid[:, rows],
            None if self.group is None else self.group[rows],
            None if self.text is None else self.text[rows],
            None if self.class_scores is None else self.class_scores[:, rows],
        )


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
    estimates: np.ndarray | None = None
    student_logits: np.ndarray | None = None
    loss_step: np.ndarray | None = None
    loss_edge: np.ndarray | None = None
    loss_rejector: np.ndarray | None = None
    progress_step: np.ndarray | None = None
    progress_seconds: np.ndarray | None = None
    progress_risk: np.ndarray | None = None
    progress_accuracy: np.ndarray | None = None
    progress_bytes: np.ndarray | None = None
    source: str = "predictions"  # the file, as error messages name it
    own: "Own | None" = None  # of a file that this project did not write

    @cached_property
    def correct(self) -> np.ndarray:
        """Whether each stage is right, bool [E, N], or how good its answer is, float [E, N].

        Equal logits go to the lower class.
        """
        if self.own is not None:
            return self.own.quality
        return self.stage_logits.argmax(-1) == self.labels

    @property
    def examples(self) -> Examples | None:
        """The pictures; None where there are none. Likewise losses, and progress on val."""
        return self._group(Examples, "example_")

    @property
    def losses(self) -> Losses | None:
        return self._group(Losses, "loss_")

    @property
    def progress(self) -> Progress | None:
        return self._group(Progress, "progress_")

    def _group(self, kind: Callable[..., Group], prefix: str) -> Group | None:
        arrays = [getattr(self, name) for name in OPTIONAL if name.startswith(prefix)]
        present = [array for array in arrays if array is not None and len(array)]
        return kind(*present) if present else None

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
            estimates=None if self.estimates is None else self.estimates[..., rows],
            student_logits=None if self.student_logits is None else self.student_logits[:, rows],
            own=self.own and self.own.part(rows),
        )
        if self.examples is None:
            return part
        kept, new_row = rows[self.examples.rows], np.cumsum(rows) - 1
        return replace(
            part,
            example_index=new_row[self.examples.rows[kept]],
            example_images=self.examples.images[kept],
        )


def load(path: str | Path) -> Predictions:
    """Read and check one file.

    FileNotFoundError where there is none; ValueError, one line that names the file, for what
    cannot be read, lacks an array, holds arrays that contradict each other, or was made from files
    (`inputs` in the settings) that have changed since.
    """
    arrays = read_npz(Path(path), (*REQUIRED, *OPTIONAL))
    try:
        settings = _check(arrays)
        _check_inputs(Path(path), settings)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from None
    del arrays["settings"]
    for name, array in arrays.items():
        if array.dtype.kind in "iu" and name != "example_images":
            arrays[name] = array.astype(np.int64)
    return Predictions(**arrays, settings=settings, source=str(path), own=None)


def find(run_dir: str | Path) -> list[Path]:
    """Every *-predictions.npz in a folder or below it, sorted. ValueError if there is none."""
    paths = sorted(Path(run_dir).rglob(PREDICTIONS))
    if not paths:
        raise ValueError(f"no predictions in {run_dir}; run eval_all.py first")
    return paths


def tolerance(async_freq: Any) -> float | None:
    """TOL of "adaptive-TOL", 0..1; None for any other S."""
    kind, dash, text = str(async_freq).partition("-")
    try:
        value = float(text) if kind + dash == "adaptive-" else math.nan
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def read_npz(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Those arrays of the file that are among `names`, unchecked; others are left alone.

    FileNotFoundError where there is no file; ValueError where it cannot be read.
    """
    unreadable = f"{path}: cannot be read: truncated, or not an npz file of plain arrays"
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError(unreadable)
        with file:
            return {k: file[k] for k in names if k in file}
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError, KeyError, NotImplementedError, MemoryError) as e:
        raise ValueError(unreadable) from e
    except (zipfile.BadZipFile, zlib.error) as e:
        raise ValueError(unreadable) from e


def _check_inputs(path: Path, settings: dict[str, Any]) -> None:
    """ValueError where a file that the predictions were made from has changed since.

    Inputs are named relative to the folder of the predictions; a missing one is no error, because
    predictions may be moved and published without their networks.
    """
    for name, digest in settings.get("inputs", {}).items():
        file = path.parent / name
        if name != "data" and file.is_file() and sha256(file) != digest:
            raise ValueError(f"was made from another {name} than is there now; evaluate again")


def _check(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """ValueError for the first thing that is wrong with the arrays; returns the settings."""
    if missing := [k for k in REQUIRED if k not in arrays]:
        raise ValueError(f"lacks {', '.join(missing)}")
    for prefix in GROUPS:
        names = tuple(name for name in OPTIONAL if name.startswith(prefix))
        absent = [k for k in names if k not in arrays]
        if 0 < len(absent) < len(names):
            raise ValueError(f"lacks {', '.join(absent)}, which go with the other of {names}")
    size = _check_shapes(arrays)
    if size.get("L", 0) > size["R"]:
        raise ValueError(f"losses or progress of {size['L']} rejectors, but scores of {size['R']}")
    if not size["E"] or not size["N"] or not size["K"]:
        raise ValueError(f"stage_logits {arrays['stage_logits'].shape} holds no predictions")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")
    for name, low, high in (
        ("labels", 0, size["K"] - 1),
        ("split", 0, 1),
        ("example_index", 0, size["N"] - 1),
        ("estimates", 0, 1),
    ):
        array = arrays.get(name, np.array([]))
        if array.size and (array.min() < low or array.max() > high):
            raise ValueError(f"{name} holds values outside {low}..{high}")
    if (arrays["split"][arrays.get("example_index", [])] != SPLITS["test"]).any():
        raise ValueError("example_index holds rows that are not test rows")
    settings = _check_settings(str(arrays["settings"]), size["K"], size["R"], size.get("A", 0))
    students = settings.get("students")
    if "student_logits" in arrays and (
        not isinstance(students, list) or len({*map(str, students)}) != size["B"]
    ):
        raise ValueError(f"settings must name each of the {size['B']} students of student_logits")
    _check_exits(settings, size["E"])
    return settings


def _check_shapes(arrays: dict[str, np.ndarray]) -> dict[str, int]:
    """The length of every axis letter; ValueError where dtypes or lengths disagree."""
    size: dict[str, int] = {}
    first: dict[str, str] = {}
    for name, array in arrays.items():
        kinds, axes = (REQUIRED | OPTIONAL)[name]
        shape = f"[{', '.join(axes)}]" if axes else "a single string"
        fits = array.ndim == len(axes) and all(
            int(axis) == length
            for axis, length in zip(axes, array.shape, strict=True)
            if axis.isdigit()
        )
        if array.dtype.kind not in kinds or not fits:
            raise ValueError(f"{name} is {array.dtype} {array.shape}, but must be {shape}")
        for axis, length in zip(axes, array.shape, strict=True):
            if size.setdefault(axis, length) != length:
                raise ValueError(
                    f"{name} {array.shape} must be {shape}: {axis} is {length} here "
                    f"and {size[axis]} in {first[axis]}"
                )
            first.setdefault(axis, name)
    return size


def _check_settings(
    text: str, n_classes: int, n_rejectors: int, n_estimators: int
) -> dict[str, Any]:
    """The JSON as a dict; ValueError where it does not describe K classes, R and A rules."""
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as e:
        raise ValueError(f"settings are not JSON ({e.msg})") from None
    if not isinstance(settings, dict) or not isinstance(settings.get("dataset"), str):
        raise ValueError("settings do not name a dataset")
    wanted = {"classes": n_classes, "rejectors": n_rejectors}
    if n_estimators or settings.get("estimators") is not None:
        wanted["estimators"] = n_estimators
    for key, length in wanted.items():
        entries = settings.get(key)
        if not isinstance(entries, list) or len(entries) != length:
            count = len(entries) if isinstance(entries, list) else "no list of"
            raise ValueError(f"settings hold {count} {key}, but the arrays hold {length}")
    for number, setting in enumerate(settings["rejectors"]):
        if not isinstance(setting, dict) or not _is_setting(setting):
            raise ValueError(
                f"settings of rejector {number} need stem, surrogate, cost_1 and cost_e >= 0, "
                'and async_freq: a whole number >= 0, "joint" or "adaptive-TOL" with TOL in 0..1'
            )
    estimators = settings.get("estimators") or []
    for number, setting in enumerate(estimators):
        if not isinstance(setting, dict) or not all(
            isinstance(setting.get(k), str) and setting[k] for k in ("name", "about")
        ):
            raise ValueError(f"settings of estimator {number} need name and about, both text")
    names = [setting["name"] for setting in estimators]
    if len(set(names)) < len(names):
        raise ValueError(f"settings name an estimator twice: {', '.join(names)}")
    for setting in (*settings["rejectors"], *estimators):
        for key in ("parameters", "multiply_adds", "refreshes", "bytes_sent"):
            if not _is_count(setting.get(key, 0)):
                raise ValueError(f"settings hold {key} {setting[key]!r}: not a whole number >= 0")
    return settings


def _check_exits(settings: dict[str, Any], stages: int) -> None:
    """ValueError for costs of exits that are none, or that are not of these stages."""
    adds, flops = settings.get("multiply_adds"), settings.get("cost_flops", 0)
    if adds is not None:
        if not isinstance(adds, list) or not all(map(_is_count, adds)) or sorted(adds) != adds:
            raise ValueError(
                "settings hold multiply_adds that are not whole numbers that never fall"
            )
        if len(adds) not in (stages, stages - 1):
            raise ValueError(
                f"settings hold multiply_adds of {len(adds)} exits, but the arrays hold {stages} "
                "stages: exits, or exits and a server"
            )
    if not _is_cost(flops):
        raise ValueError(f"settings hold cost_flops {flops!r}: not a number >= 0")


def _is_setting(setting: dict[str, Any]) -> bool:
    async_freq = setting.get("async_freq")
    return (
        all(isinstance(setting.get(k), str) for k in ("stem", "surrogate"))
        and all(_is_cost(setting.get(k)) for k in ("cost_1", "cost_e"))
        and (async_freq == "joint" or tolerance(async_freq) is not None or _is_count(async_freq))
    )


def _is_cost(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
