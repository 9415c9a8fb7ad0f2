"""The part of a data set whose images are in memory.

The other kinds are pictures in files (folders.py) and texts as tokens (text/tokens.py). All have
`labels` and `index`, and `where`, which selects rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """Images of one split, on the CPU. Iterating gives the three tensors in this order.

    images: uint8 [N, C, H, W], C 1 (grey) or 3 (RGB).
    labels: int64 [N].
    index: int64 [N], positions in the source's own train set (train and val) or test set (test).
    """

    images: Tensor
    labels: Tensor
    index: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.images, self.labels, self.index))

    def where(self, mask: Tensor) -> Part:
        """The rows that a bool mask [N] selects, in their order."""
        rows = mask.nonzero().flatten()
        return Part(*(values.index_select(0, rows) for values in self))


def fingerprint_of(parts: Iterable[Part]) -> str:
    """16 hex digits of the SHA-256 of the images and labels of some parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(str(tuple(part.images.shape)).encode())
        digest.update(part.images.contiguous().numpy().data)
        digest.update(part.labels.contiguous().numpy().data)
    return digest.hexdigest()[:16]
