"""Large picture folders such as ImageNet: lists files and decodes batches on demand.

Worker processes read, crop and resize; uint8 pixels go to the device and are normalised there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.batches import Batch, Steps, rows_in_order, rows_used, scale_and_shift
from data.cuts import split_rows
from data.pictures import list_folder, read_picture
from data.sources import stem
from experiment import InputError
from experiment.command_line import worker_died

# Statistics of ImageNet's training pixels that torchvision's weights and the papers use.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

CHUNK = 64  # pictures per task of a worker; whole batches of thousands would fill the memory
TINY = 256  # with fewer pictures, starting workers takes longer than it saves
SHORT_SIDE = 256 / 224  # short side before the centre crop, relative to the size of the crop


@dataclass(frozen=True, eq=False)
class FolderPart:
    """The files of one split; pictures are not loaded.

    files: N paths. labels: int64 [N]. index: int64 [N], positions in the listing of train/ (train
    and val) or of test/ (test). size, workers: of `load_folder`.
    """

    files: list[str]
    labels: Tensor
    index: Tensor
    size: int = 0
    workers: int | None = None

    def where(self, mask: Tensor) -> FolderPart:
        """The rows that a bool mask [N] selects, in their order."""
        files = [self.files[row] for row in mask.nonzero().flatten().tolist()]
        return replace(self, files=files, labels=self.labels[mask], index=self.index[mask])


class FolderDataset(NamedTuple):
    """A data set in a folder; its fields are those of `Dataset`, and `size` in px or 0."""

    name: str
    train: FolderPart
    val: FolderPart
    test: FolderPart
    classes: tuple[str, ...]
    rejector: FolderPart
    size: int

    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 of file names, sizes in bytes, labels, cut and `size`.

        Hashes each file's path within the folder and its length in bytes, not its content, because
        reading a million pictures takes as long as an epoch. A picture replaced by one of the same
        length is therefore not noticed. Depends on the cut into parts, not on the folder's path,
        and is never that of the same pictures in memory.
        """
        parts = (self.train, self.val, self.rejector, self.test)
        return _fingerprint(parts if self.rejector.files else (*parts[:2], self.test), self.size)


@functools.lru_cache(maxsize=4)
def _fingerprint(parts: tuple[FolderPart, ...], size: int) -> str:
    """Of parts of one folder, the test part last."""
    # The common path of a file in train/ and a file in test/ is the folder.
    root = os.path.commonpath([parts[0].files[0], parts[-1].files[0]])
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part.files)}\n".encode())
        for file, label in zip(part.files, part.labels.tolist(), strict=True):
            name = os.fsencode(Path(os.path.relpath(file, root)).as_posix())
            digest.update(name + f"\0{os.stat(file).st_size} {label}\n".encode())
    if size:
        digest.update(f"{size} px\n".encode())
    return digest.hexdigest()[:16]


def load_folder(
    path: str | os.PathLike[str],
    val_size: float = 0.1,
    seed: int = 0,
    rejector_val_size: float = 0,
    *,
    size: int = 0,
    workers: int | None = None,
) -> FolderDataset:
    """Lists a folder of pictures and cuts it into the parts that `data.load` cuts it into.

    Args:
        path: a folder with train/ and test/ (or val/, as in ImageNet), each with the same
            subfolders, one per class. Pictures may have any sizes.
        val_size, seed, rejector_val_size: of the cut, as in `data.load`.
        size: px, height and width of the images that all networks get from `StreamBatches`; 0
            where `FolderBatches` are given the size of one network.
        workers: decoding processes of `StreamBatches`, as in `FolderBatches`.

    Raises:
        ValueError: the folder does not exist or has another layout, or the sizes leave train or
            val empty (one line). Damaged pictures are noticed when they are read.
    """
    if not Path(path).is_dir():
        raise ValueError(
            f"no such folder: {os.fspath(path)!r}: give one with train and test (or val)"
        )
    listings = list_folder(Path(path))
    whole, test = (_whole(listing.samples, size, workers) for listing in listings)
    rows = split_rows(len(whole.files), val_size, seed, rejector_val_size)
    train, val, rejector = map(whole.where, rows)
    classes = tuple(listings[0].classes)
    return FolderDataset(stem(os.fspath(path)), train, val, test, classes, rejector, size)


def _whole(samples: list[tuple[str, int]], size: int, workers: int | None) -> FolderPart:
    labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
    files = [file for file, _ in samples]
    return FolderPart(files, labels, torch.arange(len(samples)), size, workers)


class FolderBatches(Steps):
    """Batches of one `FolderPart`, decoded by worker processes; the counterpart of `Batches`.

    As in `Batches`, the order of an epoch depends on (number of pictures, seed, epoch) only, and a
    single last picture is dropped with `shuffle`. Crop and flip of a picture depend on (seed,
    epoch, row) only. So the number of workers, of processes and of earlier epochs changes nothing,
    and a resumed run sees the same batches. torch's global random state is neither read nor
    changed.

    With `train`, a random crop of 8 to 100 % of the area and aspect 3/4 to 4/3 is resized to `size`
    and flipped with probability 1/2 (Szegedy et al., CVPR 2015; the usual settings for ImageNet).
    Without, the short side is resized to size * short_side, and the centre is cropped.

    Args:
        part: files and labels, N of each.
        batch_size: pictures per batch, over all ranks; the last batch may be smaller.
        device: the device of the batches.
        shuffle: a new order each epoch, else rows 0..N-1.
        seed: of order, crops and flips, 0 or more.
        size: px, height and width of the images.
        train: random crops and flips.
        short_side: short side before the centre crop, relative to `size`; 256 / 224 by default.
        workers: decoding processes; 0 decodes in this process. The default is the number of CPUs,
            at most 8, and 0 for few pictures.
        mean, std: one number, or one per channel, in units of the full range 0..1.
        rank, world: if `world` processes share each batch, this one decodes rows rank,
            rank + world, ... of it, or none if the last batch is too small.
        least: a batch of fewer than `least * world` samples is not shared: all processes get it.

    Raises:
        ValueError: an empty part, or a number out of range.
        InputError: during an epoch, a picture that cannot be read (one line with its path, also
            from a worker), or a worker that died.
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
        short_side: float = SHORT_SIDE,
        workers: int | None = None,
        mean: float | Sequence[float] = IMAGENET_MEAN,
        std: float | Sequence[float] = IMAGENET_STD,
        rank: int = 0,
        world: int = 1,
        least: int = 0,
    ) -> None:
        total = len(part.files)
        if not total:
            raise ValueError("the part has no pictures, so it has no batches")
        limits = {"batch_size": (batch_size, 1), "seed": (seed, 0), "size": (size, 1)}
        limits |= {"workers": (0 if workers is None else workers, 0), "world": (world, 1)}
        for name, (value, low) in limits.items():
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
        self._share, self._least = slice(rank, None, world), least * world
        self._used = rows_used(total, batch_size, shuffle)
        self._scale, self._shift = (x.to(self.device) for x in scale_and_shift(mean, std))

        if workers is None:
            workers = 0 if total < TINY else min(8, _cpus())
        self.decoder = Decoder(part.files, seed, size, train, short_side)
        self._keys: list[tuple[int, list[int]]] = []  # (epoch, rows) of the chunks to decode
        self._newest = 0  # number of the last call of `epoch`
        self._loader: DataLoader[Tensor | str] = DataLoader(
            self.decoder,
            sampler=self._keys,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else each epoch draws from the global generator
        )
        weakref.finalize(self, _end_workers, self._loader)

    def rows(self, epoch: int) -> Iterator[Tensor]:
        """Yield the rows of each batch of one epoch, over all ranks, int64 [B] on the CPU."""
        order = rows_in_order(len(self.labels), self.seed, epoch, self.shuffle)
        yield from order[: self._used].split(self.batch_size)

    def epoch(
        self, epoch: int, start: int = 0, augment_state: Tensor | None = None
    ) -> Iterator[Batch]:
        """Yield `(index, images, labels)` for this rank's share of the batches from `start` on.

        index: int64 [b], rows of the part. images: float32 [b, 3, size, size],
        (x / 255 - mean) / std. labels: int64 [b]. All on the device. RuntimeError if another epoch
        has been started in the meantime, since both use the same workers.
        """
        for rows, pixels in self.pixels(epoch, start):
            index = rows.to(self.device)
            yield index, self.normalised(pixels), self.labels[index]

    def pixels(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's rows, int64 [b] on the CPU, and pixels, uint8 [b, 3, size, size], by batch.

        The pixels are on the device. The batches before `start` are not read.
        """
        self._newest += 1
        this = self._newest
        batches = [self.share(rows) for rows in FolderBatches.rows(self, epoch)][start:]
        self._keys[:] = [
            (epoch, chunk.tolist()) for rows in batches if len(rows) for chunk in rows.split(CHUNK)
        ]
        chunks = iter(self._loader)
        for rows in batches:
            shape = (len(rows), 3, self.size, self.size)
            pixels = torch.empty(shape, dtype=torch.uint8, device=self.device)
            done = 0
            while done < len(rows):
                if this != self._newest:
                    raise RuntimeError("a newer epoch of these batches has been started")
                chunk = self._next(chunks)
                pixels[done : done + len(chunk)].copy_(chunk, non_blocking=True)
                done += len(chunk)
            yield rows, pixels

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 [b, 3, size, size] to float32 (x / 255 - mean) / std."""
        images = torch.empty(pixels.shape, dtype=torch.float32, device=self.device)
        return images.copy_(pixels).mul_(self._scale).add_(self._shift)

    def _next(self, chunks: Iterator[Tensor | str]) -> Tensor:
        """The next decoded chunk; InputError for a broken picture and for a worker that died."""
        try:
            chunk = next(chunks)
        except (RuntimeError, OSError, EOFError) as error:
            # Its end may show as a broken pipe first. Without workers there is no such error.
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            chunk = worker_died(error)
        if isinstance(chunk, str):
            # At once: until then torch raises wherever this process is when it hears of a death.
            _end_workers(self._loader)
            raise InputError(chunk)
        return chunk


class Decoder(Dataset[Tensor | str]):
    """Decodes rows of an epoch to uint8; each worker has a copy."""

    def __init__(
        self, files: list[str], seed: int, size: int, train: bool, short_side: float
    ) -> None:
        from torchvision.transforms import v2  # here, as in pictures.py

        # An array, because updating the reference counts of a million strings would copy the
        # memory pages that forked workers share.
        self.files = np.array([os.fsencode(file) for file in files])
        self.seed = seed
        self.train = train
        if train:
            self.change = v2.Compose(
                [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
            )
        else:
            short = round(size * short_side)
            self.change = v2.Compose([v2.Resize(short, antialias=True), v2.CenterCrop(size)])

    def __getitem__(self, key: tuple[int, list[int]]) -> Tensor | str:
        """(epoch, rows) to uint8 [rows, 3, size, size], or to an error message.

        A DataLoader worker would add its traceback to the message of an exception.
        """
        epoch, rows = key
        try:
            return torch.stack([self.picture(epoch, row) for row in rows])
        except InputError as error:
            return str(error)

    def picture(self, epoch: int, row: int) -> Tensor:
        """One picture of an epoch, uint8 [3, size, size]."""
        image = read_picture(os.fsdecode(self.files[row]))
        if not self.train:
            return self.change(image)
        seed = np.random.SeedSequence([self.seed, epoch, row]).generate_state(1, np.uint64)
        # The transforms draw from the global generator, whose state belongs to the caller.
        before = torch.get_rng_state()
        try:
            torch.default_generator.manual_seed(int(seed[0]))
            return self.change(image)
        finally:
            torch.set_rng_state(before)


def _end_workers(loader: DataLoader[Tensor | str]) -> None:
    """End a loader's processes: each one left to the garbage collector takes 5 s."""
    if loader._iterator is not None:
        with contextlib.suppress(RuntimeError):  # torch's, of a worker that ends meanwhile
            loader._iterator._shutdown_workers()  # type: ignore[attr-defined]


def _cpus() -> int:
    """CPUs that this process may use; in a container possibly fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
