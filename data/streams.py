"""Folders of pictures as learning to help streams them: the counterpart of a data set in memory.

Every picture is decoded once a pass, at one size for all networks, which resize it by themselves.
Pictures of that size are those that a data set in memory has, to the last bit.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from data.batches import Augment, Batch, Batches, augment_generator
from data.cuts import split_rows
from data.folders import FolderBatches, FolderPart, fingerprint_of_files, list_parts
from data.parts import Part
from data.sources import stem

STREAM_SIZE = 224  # px, what most networks for ImageNet take


@dataclass(frozen=True, eq=False)
class StreamPart(FolderPart):
    """The files of one split, read at `size` px by `workers` processes (see FolderBatches).

    The short side is resized to `size`, and the centre is cropped; so a picture of size x size px
    stays as it is.
    """

    size: int = STREAM_SIZE
    workers: int | None = None

    def where(self, mask: Tensor) -> StreamPart:
        """The rows that a bool mask [N] selects, in their order."""
        part = super().where(mask)
        return replace(self, files=part.files, labels=part.labels, index=part.index)


class StreamDataset(NamedTuple):
    """A data set in a folder; its fields are those of `Dataset`, and `size` in px."""

    name: str
    train: StreamPart
    val: StreamPart
    test: StreamPart
    classes: tuple[str, ...]
    rejector: StreamPart
    size: int

    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 of file names, sizes in bytes, labels, cut and `size`.

        It is never that of the same pictures in memory, which would take decoding all of them.
        """
        parts = (self.train, self.val, self.rejector, self.test)
        return _fingerprint(parts if self.rejector.files else (*parts[:2], self.test), self.size)


@functools.lru_cache(maxsize=4)
def _fingerprint(parts: tuple[StreamPart, ...], size: int) -> str:
    digest = fingerprint_of_files(parts)
    digest.update(f"{size} px\n".encode())
    return digest.hexdigest()[:16]


def load_stream(
    path: str | os.PathLike[str],
    size: int = STREAM_SIZE,
    workers: int | None = None,
    val_size: float = 0.1,
    seed: int = 0,
    rejector_val_size: float = 0,
) -> StreamDataset:
    """Lists a folder of pictures and cuts it into the parts that `data.load` cuts it into.

    size: px, height and width of the images. workers: decoding processes, see FolderBatches. The
    rest, and ValueError, as in `data.load`.
    """
    name = stem(os.fspath(path))
    *listed, classes = list_parts(path)
    whole, test = (StreamPart(p.files, p.labels, p.index, size, workers) for p in listed)
    rows = split_rows(len(whole.files), val_size, seed, rejector_val_size)
    train, val, rejector = map(whole.where, rows)
    return StreamDataset(name, train, val, test, classes, rejector, size)


class StreamBatches(FolderBatches):
    """Batches of one `StreamPart` with the order, normalisation and augmentation of `Batches`.

    A batch is decoded once: `plain` gives it, and the batches after it, again without decoding.
    What `plain` has read ahead is kept as bytes until its batch has been given.

    Args: see `Batches`.
    """

    def __init__(
        self,
        part: StreamPart,
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
    part: Part | StreamPart, batch_size: int, device: torch.device | str, **flags: Any
) -> ImageBatches:
    """`Batches` of images in memory, `StreamBatches` of pictures in files; flags are theirs."""
    if isinstance(part, StreamPart):
        return StreamBatches(part, batch_size, device, **flags)
    return Batches(part, batch_size, device, **flags)


def image_size(part: Part | StreamPart) -> int:
    """Width of the images in px."""
    return part.size if isinstance(part, StreamPart) else part.images.shape[-1]


def pixels_of(part: Part | StreamPart, rows: Tensor) -> Tensor:
    """Images of some rows [M], uint8 [M, C, H, W] on the CPU; streamed ones are decoded."""
    if isinstance(part, Part):
        return part.images[rows]
    decoder = StreamBatches(part, 1, "cpu").decoder
    return torch.stack([decoder.picture(0, row) for row in rows.tolist()])
