"""The labelled and unlabelled samples of each round, one file a round.

    SAVE_DIR/index_sets/{dataset}/0.npz                  round 0: the same for every method and T
    SAVE_DIR/index_sets/{T}/{dataset}/{method}/{R}.npz   round R of a method with T targets

    labelled    int64 [L]   rows of the pool (the training images without val), sorted
    unlabelled  int64 [M]   the others, sorted: the two are disjoint and cover the pool
    queried     int64 [B]   rows that this round added, in the order of choice; in round 0 all
    about       str         JSON: dataset, data (its fingerprint), seed, method, model_num, round,
                            parent (digest of the round before), select_seconds, commit, flags

A set's digest is 16 hex digits of the SHA-256 of `labelled`. Networks are stored by it, so that
methods with the same labels share them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import experiment
from deferral.npz_checks import read_npz

ARRAYS = ("labelled", "unlabelled", "queried", "about")


class IndexSet(NamedTuple):
    """The labelled and unlabelled rows of one round; see the module's docstring."""

    labelled: np.ndarray
    unlabelled: np.ndarray
    queried: np.ndarray
    about: dict[str, Any]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.labelled.astype("<i8").tobytes()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        arrays = {name: getattr(self, name) for name in ARRAYS[:3]}
        experiment.write_npz(path, **arrays, about=np.array(json.dumps(self.about)))


class Place(NamedTuple):
    """The folder of a method's rounds, and the data and seed that they must have."""

    root: Path
    dataset: str
    method: str
    model_num: int
    data: str  # the data set's fingerprint
    seed: int

    def path(self, round_: int) -> Path:
        folder = self.root / "index_sets"
        if round_ == 0:
            return folder / self.dataset / "0.npz"
        return folder / str(self.model_num) / self.dataset / self.method / f"{round_}.npz"

    def about(self, round_: int, **more: Any) -> dict[str, Any]:
        """The `about` of a round. Round 0 has no method."""
        whose = {"method": self.method, "model_num": self.model_num} if round_ else {}
        head = {"dataset": self.dataset, "data": self.data, "seed": self.seed, "round": round_}
        return head | whose | more


def initial(place: Place, size: int, count: int) -> IndexSet:
    """Round 0: `count` random rows of a pool of `size`; depends on the seed alone.

    ValueError where count is not in 1..size - 1.
    """
    if not 0 < count < size:
        raise ValueError(f"--initial_size {count}: the pool has {size} samples, leave one or more")
    queried = np.random.default_rng([place.seed, 0]).permutation(size)[:count]
    return _index_set(queried, np.arange(size), place.about(0, parent=None, select_seconds=None))


def grown(place: Place, before: IndexSet, picks: np.ndarray, **about: Any) -> IndexSet:
    """The next round: picks [B] are rows of `before.unlabelled`, in the order of choice."""
    round_ = before.about["round"] + 1
    queried = before.unlabelled[picks]
    pool = np.union1d(before.labelled, before.unlabelled)
    about = place.about(round_, parent=before.digest, **about)
    return _index_set(queried, pool, about, before.labelled)


def load(place: Place, round_: int, size: int) -> IndexSet:
    """Reads a round of a pool of `size` samples; checks it, and that it grew from the last round.

    ValueError, one line: missing, unreadable, of other data, another seed or method, not disjoint,
    not complete, or grown from another set than the last round's file.
    """
    path = place.path(round_)
    again = f"run python -m active_learning.al_select --al_iter {round_}"
    try:
        arrays = read_npz(path, ARRAYS)
    except FileNotFoundError:
        raise ValueError(f"{path}: no labels of round {round_} here; {again}") from None
    try:
        labelled, unlabelled, queried = (np.asarray(arrays[name]) for name in ARRAYS[:3])
        about = json.loads(str(arrays["about"]))
        rows = IndexSet(labelled, unlabelled, queried, about)
    except (KeyError, json.JSONDecodeError):
        raise ValueError(f"{path}: not an index set; {again}") from None
    _check(rows, place, round_, size, path)
    if round_ and rows.about["parent"] != load(place, round_ - 1, size).digest:
        raise ValueError(
            f"{path}: grew from other labels than {place.path(round_ - 1)} holds; "
            "--overwrite replaces it"
        )
    return rows


def _index_set(
    queried: np.ndarray, pool: np.ndarray, about: dict[str, Any], before: np.ndarray | None = None
) -> IndexSet:
    labelled = np.sort(queried if before is None else np.concatenate([before, queried]))
    return IndexSet(labelled, np.setdiff1d(pool, labelled), queried, about)


def _check(index_set: IndexSet, place: Place, round_: int, size: int, path: Path) -> None:
    about = index_set.about if isinstance(index_set.about, dict) else {}
    for key, value in place.about(round_).items():
        if about.get(key) == value:
            continue
        if key == "data":
            raise ValueError(
                f"{path}: made from other data or another val split; use its flags, or another "
                "--save_dir"
            )
        raise ValueError(
            f"{path}: its {key} is {about.get(key)!r}, not {value!r}; use another --save_dir"
        )
    rows = index_set[:3]
    if any(r.ndim != 1 or r.dtype.kind != "i" for r in rows) or "parent" not in about:
        raise ValueError(f"{path}: not an index set: rows must be int64 [N]")
    both = np.concatenate([index_set.labelled, index_set.unlabelled])
    if len(both) != size or not np.array_equal(np.sort(both), np.arange(size)):
        raise ValueError(f"{path}: labelled and unlabelled rows do not cover 0..{size - 1} once")
    if not np.isin(index_set.queried, index_set.labelled).all():
        raise ValueError(f"{path}: rows were queried that are not labelled")
