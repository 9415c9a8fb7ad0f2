"""Batches of a folder as learning to help streams it: the counterpart of a data set in memory.

Every picture is decoded once a pass, at one size for all networks, which resize it by themselves.
Pictures of that size are those that a data set in memory has, to the last bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from data.batches import Augment, Batch, Batches, augment_generator
from data.folders import FolderBatches, FolderPart
from data.parts import Part

STREAM_SIZE = 224  # px, what most networks for ImageNet take


class StreamBatches(FolderBatches):
    """Batches of one `FolderPart` with the order, normalisation and augmentation of `Batches`.

    The short side is resized to the part's `size`, and the centre is cropped; so a picture of size
    x size px stays as it is.

    A batch is decoded once: `plain` gives it, and the batches after it, again without decoding.
    What `plain` has read ahead is kept as bytes until its batch has been given.

    Args: see `Batches`.
    """

    def __init__(
        self,
        part: FolderPart,
        batch_size: int,
        device: torch.device | str,
        *,
        shuffle: bool = False,
        seed: int = 0,
        augment: Augment | None = None,
        rank: int = 0,
        world: int = 1,
        least: int = 0,
    ) -> None:
        super().__init__(
            part, batch_size, device,
            shuffle=shuffle, seed=seed, size=part.size, short_side=1, workers=part.workers,
            mean=0.5, std=0.5, rank=rank, world=world, least=least,
        )  # fmt: skip
        self.augment = augment
        self._coming: Iterator[tuple[Tensor, Tensor]] = iter(())
        # Rows and pixels from the current batch on, and the rows of the current one as given.
        self._read: deque[tuple[Tensor, Tensor]] = deque()
        self._current: Tensor | None = None

    def rows(self, epoch: int) -> Iterator[Tensor]:
        """The rows of each batch of one epoch, over all ranks, int64 [B] on the device."""
        yield from (rows.to(self.device) for rows in super().rows(epoch))

    def epoch(
        self, epoch: int, start: int = 0, augment_state: Tensor | None = None
    ) -> Iterator[Batch]:
        """Yield `(index, images, labels)`, as `Batches`; errors as in `FolderBatches`."""
        coming = self._coming = self.pixels(epoch, start)
        self._read.clear()
        generator = augment_generator(self.seed, epoch, self.device) if self.augment else None
        if generator is not None and augment_state is not None:
            generator.set_state(augment_state)
        self._generator = generator
        for size in self.global_sizes()[start:]:
            if not self._read:
                self._read_on()
            rows, pixels = self._read[0]
            images = self.normalised(pixels)
            if self.augment is not None and generator is not None:
                # The whole batch's random numbers, as in `Batches`; this process has a share of it.
                whole = images.new_zeros((size, *images.shape[1:]))
                self.share(whole).copy_(images)
                images = self.share(self.augment(whole, generator))
            index = self._current = rows.to(self.device)
            yield index, images, self.labels[index]
            if coming is not self._coming:
                raise RuntimeError("a newer epoch of these batches has been started")
            self._read.popleft()
        self._current = None

    def plain(self, index: Tensor) -> Tensor:
        """The images of some rows [M] as they are without `augment`: float32 [M, 3, size, size].

        Rows of the current batch, and of batches that follow it, in their order, come from the
        stream; others are decoded in this process. index: int64 on the device.
        """
        if self._current is not None and index is self._current:
            return self.normalised(self._read[0][1])
        wanted = index.tolist()
        if self._read and wanted[: len(self._read[0][0])] == self._read[0][0].tolist():
            while sum(len(rows) for rows, _ in self._read) < len(wanted) and self._read_on():
                pass
            rows, pixels = (torch.cat(parts) for parts in zip(*self._read, strict=True))
            if rows[: len(wanted)].tolist() == wanted:
                return self.normalised(pixels[: len(wanted)])
        return self.normalised(torch.stack([self.decoder.picture(0, row) for row in wanted]))

    def _read_on(self) -> bool:
        """Read one more batch of the epoch; False at its end."""
        batch = next(self._coming, None)
        if batch is not None:
            self._read.append(batch)
        return batch is not None


ImageBatches = Batches | StreamBatches


def image_batches(
    part: Part | FolderPart, batch_size: int, device: torch.device | str, **flags: Any
) -> ImageBatches:
    """`Batches` of images in memory, `StreamBatches` of pictures in files; flags are theirs."""
    if isinstance(part, FolderPart):
        return StreamBatches(part, batch_size, device, **flags)
    return Batches(part, batch_size, device, **flags)


def image_size(part: Part | FolderPart) -> int:
    """Width of the images in px."""
    return part.size if isinstance(part, FolderPart) else part.images.shape[-1]


def pixels_of(part: Part | FolderPart, rows: Tensor) -> Tensor:
    """Images of some rows [M], uint8 [M, C, H, W] on the CPU; streamed ones are decoded."""
    if isinstance(part, Part):
        return part.images[rows]
    decoder = StreamBatches(part, 1, "cpu").decoder
    return torch.stack([decoder.picture(0, row) for row in rows.tolist()])
