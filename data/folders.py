"""Folders of ImageNet's size: files by name, and batches that are decoded as they are needed.

Worker processes read, crop and resize; what crosses to the device is bytes, normalised there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.batches import Batch, Steps, rows_in_order, rows_used, scale_and_shift
from data.datasets import count_of, cut, stem
from data.pictures import list_folder, read_picture

# Of ImageNet's training pixels, as torchvision's weights and the papers use them.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

CHUNK = 64  # pictures a worker decodes at a time: of batches of thousands, 2 a worker fill memory
TINY = 256  # pictures for which workers take longer to start than they save
SHORT_SIDE = 256 / 224  # of a picture before its centre is cut out, by the size of what is cut


@dataclass(frozen=True, eq=False)
class FolderPart:
    """Pictures of one split, not yet read.

    files: N paths. labels: int64 [N]. index: int64 [N], positions in the listing of train/ (train
    and val) or of test/ (test).
    """

    files: list[str]
    labels: Tensor
    index: Tensor

    def where(self, mask: Tensor) -> FolderPart:
        """The rows that a bool mask [N] selects, in their order."""
        files = [self.files[row] for row in mask.nonzero().flatten().tolist()]
        return FolderPart(files, self.labels[mask], self.index[mask])


class FolderDataset(NamedTuple):
    """A folder under its file prefix `name`; `classes[k]` is the name of label k."""

    name: str
    train: FolderPart
    val: FolderPart
    test: FolderPart
    classes: tuple[str, ...]

    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of names, sizes and labels: which data a run belongs to.

        Of every file its path in the folder and its length in bytes, not its content: reading a
        million pictures takes as long as an epoch, so one replaced by another of the same length
        goes unseen. It changes with the cut into parts, and not with where the folder lies.
        """
        # train/ and test/ differ, so what two files of theirs have in common is the folder.
        root = os.path.commonpath([self.train.files[0], self.test.files[0]])
        digest = hashlib.sha256()
        for part in (self.train, self.val, self.test):
            digest.update(f"{len(part.files)}\n".encode())
            for file, label in zip(part.files, part.labels.tolist(), strict=True):
                name = os.fsencode(Path(os.path.relpath(file, root)).as_posix())
                digest.update(name + f"\0{os.stat(file).st_size} {label}\n".encode())
        return digest.hexdigest()[:16]


def load_folder(
    path: str | os.PathLike[str], val_size: float = 0.1, seed: int = 0
) -> FolderDataset:
    """List a folder of pictures, and cut val from its train part.

    Args:
        path: of a folder with train/ and test/, or as ImageNet val/, each with the same folders,
            one a class. Pictures may be of any sizes.
        val_size: pictures of val, as a fraction of train in (0, 1) or as a count of 1 or more.
        seed: of the cut, 0 or more. The cut is that of `data.load`: the same pictures are val.

    Raises:
        ValueError: no such folder, it is not as described, or val_size leaves train or val empty.
            One line. Whether a picture can be read shows when it is.
    """
    name, path = stem(os.fspath(path)), Path(path)
    if not path.is_dir():
        raise ValueError(f"no such folder: {str(path)!r}: give one with train and test (or val)")
    listings = list_folder(path)
    train, test = (_whole(listing.samples) for listing in listings)
    total = len(train.files)
    (val_rows,) = cut(total, [count_of("val_size", val_size, total)], seed)
    classes = tuple(listings[0].classes)
    return FolderDataset(name, train.where(~val_rows), train.where(val_rows), test, classes)


def _whole(samples: list[tuple[str, int]]) -> FolderPart:
    labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
    return FolderPart([file for file, _ in samples], labels, torch.arange(len(samples)))


class FolderBatches(Steps):
    """Batches of one `FolderPart`, decoded by worker processes: what `Batches` is to arrays.

    The order of an epoch is a function of (number of pictures, seed, epoch) alone, as in `Batches`
    and with its rule for a lone last picture; crop and flip of a picture are a function of
    (seed, epoch, row). Neither hangs on the number of workers or of processes, nor on the epochs
    before: a resumed run sees what it would have seen. torch's global random state is neither read
    nor changed.

    With `train` a picture is cropped at random to 8..100 % of its area and to an aspect of 3/4 to
    4/3, resized to `size` and mirrored half of the time (Szegedy et al., CVPR 2015; the numbers
    that ImageNet is trained with since). Without, its short side becomes size * 256 / 224, and the
    centre is cut out.

    Args:
        part: files and labels, N of each.
        batch_size: pictures a batch, those of all ranks together; the last may be smaller.
        device: where the batches appear.
        shuffle: a new order each epoch, else rows 0..N-1.
        seed: of order, crops and flips, 0 or more.
        size: px, height and width of the images.
        train: random crops and flips.
        workers: processes that decode; 0 for this one. By default a CPU each, at most 8, and 0
            where there are few pictures.
        mean, std: one number, or one a channel, in units of the full range 0..1.
        rank, world: of several processes that share each batch, this one gets, and decodes, rows
            rank, rank + world, ... of it: none, where the last batch is too small.

    Raises:
        ValueError: an empty part, or a number out of range. In an epoch: a picture that cannot be
            read; one line with its file, out of a worker too.
    """

    def __init__(
        self,
        part: FolderPart,
        batch_size: int,
        device: torch.device | str,
        *,
        shuffle: bool = False,
        seed: int = 0,
        size: int = 224,
        train: bool = False,
        workers: int | None = None,
        mean: float | Sequence[float] = IMAGENET_MEAN,
        std: float | Sequence[float] = IMAGENET_STD,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        total = len(part.files)
        if not total:
            raise ValueError("the part has no pictures: there is nothing to make batches of")
        least = {"batch_size": (batch_size, 1), "seed": (seed, 0), "size": (size, 1)}
        least |= {"workers": (0 if workers is None else workers, 0), "world": (world, 1)}
        for name, (value, low) in least.items():
            if value < low:
                raise ValueError(f"{name} is {value}: give {low} or more")
        if not 0 <= rank < world:
            raise ValueError(f"rank is {rank} of {world}: give one from 0 to {world - 1}")
        self.device = torch.device(device)
        self.labels = part.labels.to(self.device)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.size = size
        self._share = slice(rank, None, world)
        self._used = rows_used(total, batch_size, shuffle)
        self._scale, self._shift = (x.to(self.device) for x in scale_and_shift(mean, std))

        if workers is None:
            workers = 0 if total < TINY else min(8, _cpus())
        self._keys: list[tuple[int, list[int]]] = []  # of the epoch that is decoded next
        self._started = 0
        self._loader: DataLoader[Tensor | str] = DataLoader(
            _Decoder(part.files, seed, size, train),
            sampler=self._keys,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else each epoch would draw from the global one
        )

    def rows(self, epoch: int) -> Iterator[Tensor]:
        """The rows of each batch of one epoch, those of all ranks, int64 [B]; on the CPU."""
        order = rows_in_order(len(self.labels), self.seed, epoch, self.shuffle)
        yield from order[: self._used].split(self.batch_size)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield `(index, images, labels)` for each batch of one epoch, this rank's share b of it.

        index: int64 [b], rows of the part. images: float32 [b, 3, size, size],
        (x / 255 - mean) / std. labels: int64 [b]. All on the device. RuntimeError where another
        epoch has been started since: both are decoded by the same workers.
        """
        self._started += 1
        this = self._started
        batches = [rows[self._share] for rows in self.rows(epoch)]
        self._keys[:] = [
            (epoch, chunk.tolist()) for rows in batches if len(rows) for chunk in rows.split(CHUNK)
        ]
        chunks = iter(self._loader)
        for rows in batches:
            shape = (len(rows), 3, self.size, self.size)
            pixels = torch.empty(shape, dtype=torch.uint8, device=self.device)
            done = 0
            while done < len(rows):
                if this != self._started:
                    raise RuntimeError("a newer epoch of these batches has been started")
                chunk = next(chunks)
                if isinstance(chunk, str):
                    raise ValueError(chunk)
                pixels[done : done + len(chunk)].copy_(chunk, non_blocking=True)
                done += len(chunk)
            images = torch.empty(shape, dtype=torch.float32, device=self.device)
            images.copy_(pixels).mul_(self._scale).add_(self._shift)
            index = rows.to(self.device)
            yield index, images, self.labels[index]


class _Decoder(Dataset[Tensor | str]):
    """Rows of an epoch to bytes: what each worker has a copy of."""

    def __init__(self, files: list[str], seed: int, size: int, train: bool) -> None:
        from torchvision.transforms import v2  # here, as in pictures.py

        # One array, as the reference counts of a million strings would unshare every worker's
        # memory page by page.
        self.files = np.array([os.fsencode(file) for file in files])
        self.seed = seed
        self.train = train
        if train:
            self.change = v2.Compose(
                [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
            )
        else:
            short = round(size * SHORT_SIDE)
            self.change = v2.Compose([v2.Resize(short, antialias=True), v2.CenterCrop(size)])

    def __getitem__(self, key: tuple[int, list[int]]) -> Tensor | str:
        """An epoch and rows of it to uint8 [rows, 3, size, size], or to what is wrong in words.

        An exception would lose its one line on the way out of a worker.
        """
        epoch, rows = key
        try:
            return torch.stack([self._picture(epoch, row) for row in rows])
        except ValueError as error:
            return str(error)

    def _picture(self, epoch: int, row: int) -> Tensor:
        image = read_picture(os.fsdecode(self.files[row]))
        if not self.train:
            return self.change(image)
        own = np.random.SeedSequence([self.seed, epoch, row]).generate_state(1, np.uint64)
        # The transforms draw from the global state only, which others use in this process.
        before = torch.get_rng_state()
        try:
            torch.default_generator.manual_seed(int(own[0]))
            return self.change(image)
        finally:
            torch.set_rng_state(before)


def _cpus() -> int:
    """CPUs that this process may use, which in a container are fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
