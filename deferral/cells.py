"""Columns of a file of answers as arrays, checked: numbers, qualities, groups, the split, pictures.

ValueErrors say which column and row is bad and do not name the file.
"""

import numpy as np

from deferral.catalogue import RULES
from deferral.classes import as_words
from deferral.columns import Roles
from deferral.table import Columns

SPLIT_WORDS = dict.fromkeys(("0", "val", "valid", "validation", "dev", "cal", "calibration"), 0)
SPLIT_WORDS |= dict.fromkeys(("1", "test", "eval"), 1)
COPIES = 0.02  # a share of repeated rows above this is no coincidence


def split_rows(
    columns: Columns, roles: Roles, group: np.ndarray | None, n: int, seed: int
) -> tuple[np.ndarray, str]:
    """[N] of 0 (val) and 1 (test), and where they come from, in words."""
    if "split" not in roles.single:
        members = np.arange(n) if group is None else np.unique(group)
        chosen = np.random.default_rng(seed).permutation(members)[: len(members) // 2]
        split = (~np.isin(np.arange(n) if group is None else group, chosen)).astype(np.int64)
        unit = "rows" if group is None else "groups"
        return split, f"not in the file: a random half of the {unit} is val (seed {seed})"
    words = as_words(columns[roles.single["split"]])
    if strange := [word for word in words.unique if word.lower() not in SPLIT_WORDS]:
        raise ValueError(f"split holds {strange[0]!r}; it must be 0 or val, 1 or test")
    numbers = np.array([SPLIT_WORDS[word.lower()] for word in words.unique], dtype=np.int64)
    return numbers[words.code], "as in the file"


def rejectors(columns: Columns, roles: Roles) -> dict[str, np.ndarray]:
    """Scores of the file's rules, [N] each. ValueError for one with the name of a built-in rule."""
    for rule, name in roles.rejectors.items():
        if rule in RULES and rule != "rejector":
            raise ValueError(f"{name}: {rule} is a rule of the report itself; rename the column")
    return {rule: numbers(columns, name) for rule, name in roles.rejectors.items()}


def groups(
    columns: Columns, roles: Roles, scores: list[np.ndarray], n: int
) -> tuple[np.ndarray | None, str]:
    """Which samples belong together, int64 [N]: the file's groups, or copies of one sample."""
    if name := roles.single.get("group"):
        words = as_words(columns[name])
        return words.code, f"{name}, {len(words.unique)} groups of {n} rows"
    if not scores or all(len(np.unique(rows[:1000])) <= 2 for rows in scores):
        return None, ""  # few values: equal rows are no sign of a copy
    values = np.concatenate([rows.astype(np.float32) for rows in scores], axis=1)
    key = _row_hash(values)
    different = len(np.unique(key))
    if n - different <= COPIES * n:
        return None, ""
    return np.unique(key, return_inverse=True)[1].astype(np.int64), (
        f"{n - different} of {n} rows repeat an earlier one: equal rows are taken as one group"
    )


def _row_hash(rows: np.ndarray) -> np.ndarray:
    """uint64 [N], equal for equal rows of float32 [N, F], different for others but by accident."""
    bits = np.ascontiguousarray(rows).view(np.uint32).astype(np.uint64)
    odd = np.random.default_rng(0).integers(2**63, size=bits.shape[1], dtype=np.uint64) * 2 + 1
    mixed = bits @ odd
    return (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)


def images(columns: Columns, roles: Roles, n: int) -> np.ndarray | None:
    """uint8 [N, C, H, W]; nothing where the column holds paths."""
    if "image" not in roles.single or columns[roles.single["image"]].ndim < 3:
        return None
    name = roles.single["image"]
    images = columns[name]
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim == 4 and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != np.uint8:
        raise ValueError(
            f"{name} are {columns[name].dtype} {columns[name].shape}, but must be uint8 "
            f"[{n}, C, H, W] or [{n}, H, W, C], C being 1 or 3"
        )
    return images


def quality(columns: Columns, name: str, low: float, high: float) -> np.ndarray:
    """A column as quality in 0..1, [N]; nan where it is missing."""
    values = numbers(columns, name, nan=True)
    bad = np.flatnonzero((values < low) | (values > high))
    if bad.size:
        raise ValueError(
            f"{name} is {values[bad[0]]:g} in row {bad[0]} (from 0), not {low:g} to {high:g}"
            f"{'; --quality_scale gives another range' * (low != 0 or high != 1 or 'qual' in name)}"
        )
    return (values - low) / (high - low)


def numbers(columns: Columns, name: str, low: float = -np.inf, nan: bool = False) -> np.ndarray:
    """A column as float64 [N]; ValueError that says where there is no number >= `low`."""
    column = columns[name]
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        raise ValueError(f"{name} is {column.shape}, but must be [N]")
    if column.dtype.kind not in "fiub":
        words = texts(column)
        row = next((i for i, word in enumerate(words) if not _is_number(word)), 0)
        raise ValueError(f"{name} is {words[row]!r} in row {row} (from 0): no number")
    values = column.astype(np.float64)
    bad = np.flatnonzero(np.isinf(values) | (values < low) | (np.isnan(values) & (not nan)))
    if bad.size:
        least = f" of at least {low:g}" if np.isfinite(low) else ""
        raise ValueError(
            f"{name} is {values[bad[0]]:g} in row {bad[0]} (from 0); it must be a number{least}"
        )
    return values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def texts(values: np.ndarray) -> list[str]:
    words = as_words(values)
    return [words.unique[code] for code in words.code]
