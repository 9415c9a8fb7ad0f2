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

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from deferral.npz_checks import OPTIONAL, REQUIRED, SPLITS, check, check_inputs, read_npz
from experiment import PREDICTIONS

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
        settings = check(arrays)
        check_inputs(Path(path), settings)
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
        raise ValueError(
            f"no predictions in {run_dir}; eval_all.py writes them, and early_exit.eval those of "
            "networks with exits"
        )
    return paths
