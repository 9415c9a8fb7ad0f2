"""Shuffle, gather and normalise a data set of uint8 images, on the device where it fits.

A data set that does not fit stays in the host's memory, and gathered chunks are copied over.
Nothing here works sample by sample. Consecutive batches are gathered and converted together in
chunks of about a million values and returned as views of the chunk: at batch 16 this spreads the
fixed cost of a tensor operation over some twenty batches. Larger chunks exceed the CPU's cache and
are slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from data.memory import fits_device
from data.parts import Part

Batch = tuple[Tensor, Tensor, Tensor]  # rows of the part, inputs, labels
Augment = Callable[[Tensor, torch.Generator], Tensor]

CHUNK_VALUES = 2**20


class Steps:
    """What all kinds of batches share: those of images in memory, of files and of tokens.

    labels: int64 [N], of the whole part, on `device`. An epoch has `_used` samples in batches of
    `batch_size`; the last batch may be smaller.
    """

    labels: Tensor
    device: torch.device
    batch_size: int
    _used: int
    _generator: torch.Generator | None = None  # of the augmentation, this epoch
    _share: slice  # of a batch: this process's rows
    _least: int = 0  # samples a process

    @property
    def augment_state(self) -> Tensor | None:
        """The state of the augmentation's generator after the last batch that was given."""
        return None if self._generator is None else self._generator.get_state()

    def share(self, x: Tensor) -> Tensor:
        """This process's rows of x [B, ...], which belongs to the samples of a batch."""
        return x if len(x) < self._least else x[self._share]

    def __len__(self) -> int:
        """Number of batches an epoch."""
        return -(-self._used // self.batch_size)

    def global_sizes(self) -> list[int]:
        """Samples in each batch of an epoch, those of all processes together."""
        full, last = divmod(self._used, self.batch_size)
        return [self.batch_size] * full + [last] * (last > 0)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def epoch(
        self, epoch: int, start: int = 0, augment_state: Tensor | None = None
    ) -> Iterator[Batch]:
        """Yield `(index, inputs, labels)` for each batch of one epoch, from batch `start` on.

        augment_state: the attribute of this name after batch `start` - 1.
        """
        raise NotImplementedError


class Batches(Steps):
    """Batches of one `Part`, in the part's own order or shuffled anew each epoch.

    The order of an epoch is a function of (number of images, seed, epoch) alone: the same on every
    device and after a resume, with torch's global random state neither read nor changed.

    With `shuffle`, a last batch of one sample is dropped, since batch norm cannot be trained on it
    (but not if it is the only batch, nor with `batch_size` 1). Without, every sample is always
    given: evaluation must see them all.

    Args:
        part: images uint8 [N, C, H, W] with C 1 or 3, and labels int64 [N].
        batch_size: samples a batch, B below; the last batch may be smaller.
        device: where the batches appear, and the labels are kept; the images too where it has room
            for them (data.memory.fits_device), else they stay on the CPU, for the same batches.
        shuffle: a new order each epoch, else rows 0..N-1.
        seed: of the order and of `augment`, 0 or more.
        augment: `augment(images, generator)` is given each normalised batch, float32
            [B, 3, H, W], and a generator on `device` that starts from (seed, epoch); returns the
            batch to use. It may write into `images`.
        mean, std: one number, or one a channel, in units of the full range 0..1.
        rank, world: of several processes that share each batch, this one gets rows rank,
            rank + world, ... of it; all draw the same order and the same augmentation.
        least: a batch of fewer than `least * world` samples is not shared: all processes get it.

    Raises:
        ValueError: an empty part, images not uint8 [N, 1 or 3, H, W], `batch_size` < 1, a negative
            seed, or a `mean` or `std` that is neither one number nor three, or a `std` <= 0.
    """

    def __init__(
        self,
        part: Part,
        batch_size: int,
        device: torch.device | str,
        *,
        shuffle: bool = False,
        seed: int = 0,
        augment: Augment | None = None,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        rank: int = 0,
        world: int = 1,
        least: int = 0,
    ) -> None:
        shape = list(part.images.shape)
        if part.images.dtype != torch.uint8 or len(shape) != 4 or shape[1] not in (1, 3):
            raise ValueError(
                f"images are {part.images.dtype} {shape}: give torch.uint8 [N, C, H, W], C 1 or 3"
            )
        if part.images.numel() == 0:
            raise ValueError("the part has no images, so it has no batches")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: give 1 or more")
        if seed < 0:
            raise ValueError(f"seed is {seed}: give 0 or more")
        self.device = torch.device(device)
        there = part.images.device.type == self.device.type
        fits = there or fits_device(part.images.nbytes, self.device)
        self.images = part.images.to(self.device if fits else "cpu")
        self._shape = shape[2:]
        self.labels = part.labels.to(self.device)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.augment = augment
        self._share, self._least = slice(rank, None, world), least * world

        self._scale, self._shift = (x.to(self.device) for x in scale_and_shift(mean, std))

        self._used = rows_used(len(part.labels), batch_size, shuffle)

    def epoch(
        self, epoch: int, start: int = 0, augment_state: Tensor | None = None
    ) -> Iterator[Batch]:
        """Yield `(index, images, labels)` for each batch of one epoch, from batch `start` on.

        index: int64 [B], rows of the part. images: float32 [B, 3, H, W], (x / 255 - mean) / std, a
        grey image three times over. labels: int64 [B]. All on the device. The batches before
        `start` are not read. augment_state: the attribute of this name after batch `start` - 1;
        without it the augmentation draws the numbers of the epoch's first batches.
        """
        order = self.order(epoch)[start * self.batch_size :]
        if not len(order):
            return
        if self.augment is not None:
            generator = augment_generator(self.seed, epoch, self.device)
            if augment_state is not None:
                generator.set_state(augment_state)
            self._generator = generator

        size = self.batch_size
        chunk = size * max(1, CHUNK_VALUES // (size * 3 * math.prod(self._shape)))
        for rows in order.split(chunk):
            images = self.plain(rows)
            labels = self.labels.index_select(0, rows)
            for index, batch, target in zip(
                rows.split(size), images.split(size), labels.split(size), strict=True
            ):
                if self.augment is not None:
                    batch = self.augment(batch, generator)
                yield self.share(index), self.share(batch), self.share(target)

    def rows(self, epoch: int) -> Iterator[Tensor]:
        """The rows of each batch of one epoch, over all processes, for who needs no images."""
        yield from self.order(epoch).split(self.batch_size)

    def order(self, epoch: int) -> Tensor:
        """The rows of one epoch in their order, all batches and processes: int64 [rows used]."""
        order = rows_in_order(len(self.labels), self.seed, epoch, self.shuffle)
        return order[: self._used].to(self.device)

    def plain(self, index: Tensor) -> Tensor:
        """The images of some rows [M] as they are without `augment`: float32 [M, 3, H, W].

        index: on the device; where the images are on the CPU it is read back, which waits.
        """
        rows = index.to(self.images.device)
        pixels = self.images.index_select(0, rows).to(self.device)
        count, _, height, width = pixels.shape
        images = torch.empty((count, 3, height, width), dtype=torch.float32, device=pixels.device)
        # In place, as bytes times float32 would make a second copy: 0.33 ms a chunk on one core
        # against 0.56, and addcmul, 0.69, rounds otherwise.
        return images.copy_(pixels).mul_(self._scale).add_(self._shift)


def rows_used(total: int, batch_size: int, shuffle: bool) -> int:
    """How many of `total` rows an epoch gives: all, but for a lone last one where they shuffle."""
    lone_last = total > batch_size and total % batch_size == 1
    return total - 1 if shuffle and lone_last else total


def rows_in_order(total: int, seed: int, epoch: int, shuffle: bool) -> Tensor:
    """The rows 0..total-1, or with `shuffle` the order of (total, seed, epoch): int64 [total]."""
    if not shuffle:
        return torch.arange(total)
    # Drawn on the CPU whatever the device, so that all devices see one order.
    generator = torch.Generator().manual_seed(_seeds(seed, epoch)[0])
    return torch.randperm(total, generator=generator)


def augment_generator(seed: int, epoch: int, device: torch.device) -> torch.Generator:
    """The generator that the augmentation of one epoch draws from."""
    return torch.Generator(device).manual_seed(_seeds(seed, epoch)[1])


def scale_and_shift(
    mean: float | Sequence[float], std: float | Sequence[float]
) -> tuple[Tensor, Tensor]:
    """What makes x * scale + shift of bytes x equal (x / 255 - mean) / std: float32, broadcasts.

    One multiply and one add, the two factors rounded once. ValueError as `Batches`.
    """
    center, spread = _per_channel("mean", mean), _per_channel("std", std)
    if not (spread > 0).all():
        raise ValueError(f"std is {std}: give numbers above 0")
    return (1 / (255 * spread)).float(), (-center / spread).float()


def _per_channel(name: str, value: float | Sequence[float]) -> Tensor:
    """One number or three as float64 [1, 1 or 3, 1, 1], to broadcast over images."""
    numbers = torch.as_tensor(value, dtype=torch.float64).flatten()
    if len(numbers) not in (1, 3):
        raise ValueError(f"{name} has {len(numbers)} numbers: give one, or one for each channel")
    return numbers.view(1, -1, 1, 1)


def _seeds(seed: int, epoch: int) -> list[int]:
    """Two unrelated 64-bit seeds for one epoch; adding seed and epoch would make runs overlap."""
    return np.random.SeedSequence([seed, epoch]).generate_state(2, np.uint64).tolist()
