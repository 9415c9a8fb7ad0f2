"""Batches of features that were computed once for every image of a part."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import Tensor

from data.batches import Batch, Steps
from data.streams import ImageBatches


class FeatureBatches(Steps):
    """The batches of `source`, with features [B, D] in the place of its images.

    features: [N, D], a row for each row of the part, on any device. The order of an epoch is that
    of `source`; its augmentation is not applied.
    """

    augment = None

    def __init__(self, features: Tensor, source: ImageBatches) -> None:
        self.features, self.source = features, source
        self.labels, self.device = source.labels, source.device
        self.batch_size, self._used = source.batch_size, source._used
        self._share, self._least = source._share, source._least

    def epoch(
        self, epoch: int, start: int = 0, augment_state: Tensor | None = None
    ) -> Iterator[Batch]:
        """Yield `(index, features, labels)` for each batch of one epoch, from `start` on."""
        for rows in map(self.share, itertools.islice(self.rows(epoch), start, None)):
            yield rows, self.plain(rows), self.labels[rows]

    def rows(self, epoch: int) -> Iterator[Tensor]:
        """The `index` of each batch of one epoch."""
        return self.source.rows(epoch)

    def plain(self, index: Tensor) -> Tensor:
        """The features of some rows [M]: [M, D]."""
        return self.features[index.to(self.features.device)].to(self.device)
