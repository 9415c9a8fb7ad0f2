"""Anyone's saved answers as `Predictions`: an npz or a CSV that this project did not write.

npz arrays (N samples, K classes; others are left alone)

  labels             [N]     true classes, whole numbers 0..K-1
  local_logits       [N, K]  the small net's logits, or local_scores: logits or probabilities
  remote_logits      [N, K]  the same of the big net, or remote_scores, or
  remote_prediction  [N]     the class it answers, where that is all that is known
  rejector           [N] or [R, N]  optional: scores of rules that decide; send iff > 0
  rejector_names     [R]     optional: what these rules are called
  split              [N]     optional: 0 or "val" (thresholds are fitted there), 1 or "test"
  images             [N, C, H, W], [N, H, W, C] or [N, H, W]  optional: uint8, C = 1 or 3
  classes            [K]     optional: names

CSV columns, with a header and a row a sample: label, local_0 to local_{K-1}; remote_0 to
remote_{K-1}, or remote_prediction; optional: rejector, or rejector_NAME for several; split.

Scores (all numbers of a CSV are scores) are probabilities where every row is >= 0 and sums to 1
within 1e-3, and logits otherwise; where they nearly do, that is an error. Without `split`, a random
half of the rows is val.
"""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np

from deferral.predictions import SPLITS, Predictions, read_npz

NAMES = (
    "labels",
    *(f"{net}_{kind}" for net in ("local", "remote") for kind in ("logits", "scores")),
    "remote_prediction",
    "rejector",
    "rejector_names",
    "split",
    "images",
    "classes",
)
EXAMPLES = 256  # test pictures that are kept, evenly over the rows
SUM_TOLERANCE = 1e-3 + 1e-9  # probabilities that were rounded still count as such
NEARLY = 0.05  # no logits are >= 0 and sum to nearly 1 in every row: not to be taken as such


def load(path: str | Path, costs: list[tuple[float, float]], split_seed: int = 0) -> Predictions:
    """Read and check one file; every rejector in it stands for each of `costs` (c_1, c_e).

    Probabilities become their logarithms, answers without scores become logits of 1 and 0.
    settings tell how scores were read (`local_scores`, `remote_scores`) and where `split` comes
    from. FileNotFoundError where there is no file; ValueError, one line that names the file, for
    what cannot be read, lacks an array, or holds arrays that contradict each other.
    """
    path = Path(path)
    arrays = _read_csv(path) if path.suffix.lower() == ".csv" else read_npz(path, NAMES)
    try:
        return _predictions(arrays, path, costs, split_seed)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from None


def is_native(path: str | Path) -> bool:
    """Whether a file is a predictions.npz of this project, to judge by its settings.

    FileNotFoundError, and ValueError where it is neither a CSV nor a readable npz.
    """
    return Path(path).suffix.lower() != ".csv" and bool(read_npz(Path(path), ("settings",)))


def _predictions(
    arrays: dict[str, np.ndarray], path: Path, costs: list[tuple[float, float]], split_seed: int
) -> Predictions:
    """The arrays as `Predictions`; ValueError, without the path, for the first that is wrong."""
    if "labels" not in arrays:
        raise ValueError("lacks labels")
    local, local_form = _stage(arrays, "local")
    n, k = local.shape
    if k < 2 or n < 2:
        raise ValueError(f"local scores {local.shape} must be [N, K], both at least 2")
    labels = _whole(arrays["labels"], "labels", n, k)
    if "remote_prediction" in arrays:
        if "remote_logits" in arrays or "remote_scores" in arrays:
            raise ValueError("holds remote_prediction and remote scores; one of them must go")
        answer = _whole(arrays["remote_prediction"], "remote_prediction", n, k)
        remote, remote_form = np.eye(k, dtype=local.dtype)[answer], "answers alone"
    else:
        remote, remote_form = _stage(arrays, "remote")
    if remote.shape != local.shape:
        raise ValueError(f"remote scores {remote.shape} must be as local ones, {local.shape}")
    split, split_form = _split(arrays, n, split_seed)
    names, scores = _rejectors(arrays, n)
    settings = {
        "dataset": path.stem.removesuffix("-predictions"),
        "classes": _classes(arrays, k),
        "local_scores": local_form,
        "remote_scores": remote_form,
        "split": split_form,
        "rejectors": [
            {"stem": name, "surrogate": name, "cost_1": c1, "cost_e": ce, "async_freq": 1}
            | {"any_cost": True, "about": "the file's rejector; sends iff its score is > 0"}
            for name in names
            for c1, ce in costs
        ],
    }
    return Predictions(
        labels=labels,
        stage_logits=np.stack([local, remote]),
        split=split,
        index=np.arange(n),
        scores=np.repeat(scores, len(costs), axis=0),
        settings=settings,
        source=str(path),
        **_examples(arrays, split),
    )


def _stage(arrays: dict[str, np.ndarray], net: str) -> tuple[np.ndarray, str]:
    """A net's logits [N, K] and what they were in the file: "logits" or "probabilities"."""
    names = [f"{net}_{kind}" for kind in ("logits", "scores") if f"{net}_{kind}" in arrays]
    if not names:
        more = " or remote_prediction" if net == "remote" else ""
        raise ValueError(f"lacks {net}_logits, {net}_scores{more}")
    if len(names) == 2:
        raise ValueError(f"holds {names[0]} and {names[1]}; one of them must go")
    values = _finite(arrays[names[0]], names[0], 2)
    if names[0].endswith("logits") or values.min(initial=0) < 0:
        return values, "logits"
    off = np.abs(values.sum(1, dtype=np.float64) - 1)
    if off.max(initial=0) > NEARLY:
        return values, "logits"
    if off.max(initial=0) > SUM_TOLERANCE:
        row = int(np.flatnonzero(off > SUM_TOLERANCE)[0])
        raise ValueError(
            f"{names[0]} look like probabilities, but row {row} (from 0) sums to "
            f"{values[row].sum():.4g}: write them with more digits"
        )
    # A probability of 0 has no logarithm; the smallest number there is stands for it.
    return np.log(np.maximum(values, np.finfo(values.dtype).tiny)), "probabilities"


def _finite(array: np.ndarray, name: str, dimensions: int) -> np.ndarray:
    """`array` as floats; ValueError for other dtypes, another rank, and values not finite."""
    if array.dtype.kind not in "fiu" or array.ndim != dimensions:
        shape = "[N, K]" if dimensions == 2 else "[N]"
        raise ValueError(f"{name} is {array.dtype} {array.shape}, but must be numbers {shape}")
    if array.dtype != np.float32:
        array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite")
    return array


def _whole(array: np.ndarray, name: str, n: int, k: int) -> np.ndarray:
    """Class numbers as int64; ValueError unless [n], whole and in 0..k-1."""
    values = _finite(array, name, 1)
    if len(values) != n:
        raise ValueError(f"{name} has {len(values)} rows, the local scores have {n}")
    bad = np.flatnonzero((values != np.floor(values)) | (values < 0) | (values >= k))
    if len(bad):
        raise ValueError(
            f"{name} must be whole numbers in 0..{k - 1}, but row {bad[0]} (from 0) is "
            f"{values[bad[0]]:g}"
        )
    return values.astype(np.int64)


def _split(arrays: dict[str, np.ndarray], n: int, seed: int) -> tuple[np.ndarray, str]:
    """[n] of 0 (val) and 1 (test), and where they come from, in words."""
    if "split" not in arrays:
        split = np.ones(n, dtype=np.int64)
        split[np.random.default_rng(seed).permutation(n)[: n // 2]] = SPLITS["val"]
        return split, f"not in the file: a random half of the rows is val (seed {seed})"
    given = arrays["split"]
    numbers = SPLITS | {str(number): number for number in SPLITS.values()}
    if given.shape != (n,) or given.dtype.kind not in "biufU":
        raise ValueError(f"split is {given.dtype} {given.shape}, but must be [{n}] of 0 and 1")
    words = given if given.dtype.kind == "U" else np.char.mod("%g", given)
    values, where = np.unique(np.char.lower(np.char.strip(words)), return_inverse=True)
    if strange := [str(value) for value in values if value not in numbers]:
        raise ValueError(f"split holds {strange[0]!r}; it must be 0 or val, 1 or test")
    split = np.array([numbers[value] for value in values])[where]
    for name, number in SPLITS.items():
        if number not in split:
            raise ValueError(f"has no {name} rows; thresholds are fitted on val, measured on test")
    return split, "as in the file"


def _rejectors(arrays: dict[str, np.ndarray], n: int) -> tuple[list[str], np.ndarray]:
    """Names [R] and scores [R, n], R = 0 where there is none."""
    if "rejector" not in arrays:
        return [], np.zeros((0, n))
    scores = np.atleast_2d(_finite(arrays["rejector"], "rejector", arrays["rejector"].ndim))
    if scores.ndim != 2 or scores.shape[1] != n or not len(scores):
        shape = arrays["rejector"].shape
        raise ValueError(f"rejector {shape} must be [{n}] or [R, {n}], as the local scores")
    count = len(scores)
    numbered = ["rejector"] if count == 1 else [f"rejector {i + 1}" for i in range(count)]
    names = [str(name) for name in np.atleast_1d(arrays.get("rejector_names", numbered))]
    if len(names) != count or len(set(names)) < count or not all(names):
        raise ValueError(f"rejector_names are {names}, but must be {count} different names")
    return names, scores


def _classes(arrays: dict[str, np.ndarray], k: int) -> list[str]:
    classes = [str(name) for name in np.atleast_1d(arrays.get("classes", np.arange(k)))]
    if len(classes) != k:
        raise ValueError(f"classes are {len(classes)}, but the scores have {k}")
    return classes


def _examples(arrays: dict[str, np.ndarray], split: np.ndarray) -> dict[str, np.ndarray]:
    """example_index and example_images of at most EXAMPLES test rows; nothing without images."""
    if "images" not in arrays:
        return {}
    images, n = arrays["images"], len(split)
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim == 4 and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    right = images.ndim == 4 and images.shape[1] in (1, 3) and images.dtype == np.uint8
    if not right or len(images) != n:
        raise ValueError(
            f"images are {arrays['images'].dtype} {arrays['images'].shape}, but must be uint8 "
            f"[{n}, C, H, W] or [{n}, H, W, C], C being 1 or 3"
        )
    rows = np.flatnonzero(split == SPLITS["test"])
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, EXAMPLES).astype(int))]
    return {"example_index": rows, "example_images": np.ascontiguousarray(images[rows])}


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    """The columns under the names that they have in an npz."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as f:
            lines = [line for line in csv.reader(f) if line]
    except (UnicodeDecodeError, csv.Error) as e:
        raise ValueError(f"{path}: cannot be read: not a CSV text file ({e})") from None
    if len(lines) < 2:
        raise ValueError(f"{path}: needs a header and a row a sample")
    header = [name.strip() for name in lines[0]]
    if len(set(header)) < len(header):
        raise ValueError(f"{path}: the header holds a column twice")
    for row, line in enumerate(lines[1:]):
        if len(line) != len(header):
            raise ValueError(
                f"{path}: row {row} (from 0) has {len(line)} values, the header {len(header)}"
            )
    columns = dict(zip(header, zip(*lines[1:], strict=True), strict=True))
    arrays: dict[str, Any] = {}
    if "label" in columns:
        arrays["labels"] = _numbers(path, columns, ["label"])[0]
    for net in ("local", "remote"):
        present = [name for name in header if re.fullmatch(rf"{net}_\d+", name)]
        wanted = [f"{net}_{i}" for i in range(len(present))]
        if set(present) != set(wanted):
            raise ValueError(
                f"{path}: columns {', '.join(present)} are not {net}_0 to {wanted[-1]}"
            )
        if present:
            arrays[f"{net}_scores"] = _numbers(path, columns, wanted).T
    if "remote_prediction" in columns:
        arrays["remote_prediction"] = _numbers(path, columns, ["remote_prediction"])[0]
    rejectors = [name for name in header if name == "rejector" or name.startswith("rejector_")]
    if rejectors:
        arrays["rejector"] = _numbers(path, columns, rejectors)
        names = [name.removeprefix("rejector_") for name in rejectors]
        arrays["rejector_names"] = np.array(names)
    if "split" in columns:
        arrays["split"] = np.array(columns["split"])
    return arrays


def _numbers(path: Path, columns: dict[str, tuple[str, ...]], names: list[str]) -> np.ndarray:
    """Columns as float64 [len(names), N]; ValueError that says where there is no number."""
    numbers = []
    for name in names:
        try:
            numbers.append(np.array(columns[name], dtype=np.float64))
        except ValueError:
            row = next(i for i, text in enumerate(columns[name]) if not _is_number(text))
            raise ValueError(
                f"{path}: row {row} (from 0), column {name}: {columns[name][row]!r} is no number"
            ) from None
    return np.array(numbers)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
