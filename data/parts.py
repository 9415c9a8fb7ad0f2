"""The part of a data set: what every kind has, and the kind that is images in memory.

Training and evaluation see a data set through `AnyDataset` and `AnyPart`. Three kinds satisfy them:
images in memory (`Part` here, `Dataset` in datasets.py), pictures in files (folders.py) and texts
as tokens (text/tokens.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

P = TypeVar("P", bound="Selectable")


class AnyPart(Protocol):
    """One split. labels: int64 [N]. index: int64 [N], positions in the source's train or test."""

    @property
    def labels(self) -> Tensor: ...

    @property
    def index(self) -> Tensor: ...


class Selectable(AnyPart, Protocol):
    """A part of which a bool mask [N] selects rows."""

    def where(self: P, mask: Tensor) -> P: ...


class AnyDataset(Protocol):
    """A data set under its file prefix `name`; `classes[k]` is the name of label k."""

    @property
    def name(self) -> str: ...

    @property
    def train(self) -> AnyPart: ...

    @property
    def val(self) -> AnyPart: ...

    @property
    def test(self) -> AnyPart: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def fingerprint(self) -> str: ...


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
