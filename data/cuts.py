"""Which images of a data set are val, which the rejector's, and which classes are kept.

All errors are a `ValueError` of one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from data.folders import FolderPart
    from data.parts import Part

P = TypeVar("P", "Part", "FolderPart")


def split_rows(
    total: int, val_size: float, seed: int, rejector_val_size: float = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Masks of `total` train images, bool [total]: train, val, and those for the rejector.

    Sizes, seed and ValueError as in `load`.
    """
    val = count_of("val_size", val_size, total)
    kept = count_of("rejector_val_size", rejector_val_size, total) if rejector_val_size else 0
    if val + kept >= total:
        raise ValueError(
            f"val_size {val_size:g} and rejector_val_size {rejector_val_size:g} take {val + kept} "
            f"of {total} train images: leave 1 or more to train on"
        )
    val_rows, rejector_rows = cut(total, (val, kept), seed)
    return ~(val_rows | rejector_rows), val_rows, rejector_rows


def parse_classes(text: str, num_classes: int) -> list[int]:
    """Class numbers from text such as `0-8` or `0,2,5-7` (ends included), sorted, each once.

    Raises:
        ValueError: an item that is neither a number nor a range, a range that runs backwards, or
            a class not in 0..num_classes-1.
    """
    classes: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", item.strip())
        if match is None:
            raise ValueError(f"classes {text!r}: {item!r} is no class: write as in 0-8 or 0,2,5-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise ValueError(f"classes {text!r}: {item.strip()} is empty: write {last}-{first}")
        if last >= num_classes:
            raise ValueError(
                f"classes {text!r}: there is no class {last}: use 0 to {num_classes - 1}"
            )
        classes.update(range(first, last + 1))
    return sorted(classes)


def keep_classes(part: P, classes: Iterable[int]) -> P:
    """The images of some classes only, in their order; labels stay as they are.

    Raises:
        ValueError: fewer than two classes are left.
    """
    wanted = sorted(set(classes))
    kept = part.where(torch.isin(part.labels, torch.tensor(wanted, dtype=torch.int64)))
    present = kept.labels.unique().tolist()
    if len(present) < 2:
        raise ValueError(
            f"keeping classes {wanted} leaves images of {len(present)} of them: "
            f"keep two or more of {part.labels.unique().tolist()}"
        )
    return kept


def count_of(flag: str, size: float, total: int, what: str = "images") -> int:
    """How many of `total` samples a size means: a fraction in (0, 1), or a count of 1 or more."""
    if 0 < size < 1:
        count = round(total * size)
    elif size >= 1 and size % 1 == 0:
        count = int(size)
    else:
        raise ValueError(f"{flag} is {size}: give a fraction in (0, 1) or a count from 1")
    if not 1 <= count < total:
        raise ValueError(
            f"{flag} {size} puts {count} of {total} train {what} aside: "
            f"give what leaves 1 or more in each, such as a count from 1 to {total - 1}"
        )
    return count


def cut(total: int, counts: Iterable[int], seed: int) -> list[Tensor]:
    """Disjoint masks, bool [total] each, of so many images; none depends on the later ones."""
    if seed < 0:
        raise ValueError(f"seed is {seed}: give 0 or more")
    order = np.random.default_rng(seed).permutation(total)
    masks, first = [], 0
    for count in counts:
        mask = torch.zeros(total, dtype=torch.bool)
        mask[torch.from_numpy(order[first : first + count])] = True
        masks.append(mask)
        first += count
    return masks
