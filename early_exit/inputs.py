"""What networks with exits are given: images in memory or streamed from a folder, or tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import data
from data.batches import Augment
from data.folders import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    FolderBatches,
    FolderDataset,
    FolderPart,
    load_folder,
)
from data.text.tokens import TokenBatches, TokenPart
from early_exit.parallel import Workers


def load_data(
    name: str, root: str, val_size: float, split_seed: int, stream: bool, *, fall_back: bool = False
) -> data.Dataset | FolderDataset:
    """The data set `name`, val cut from its train set; `stream`: a folder whose images stay there.

    fall_back: stream a folder that does not fit into memory, too. ValueError, one line, where the
    data cannot be had.
    """
    if not stream:
        try:
            return data.load(name, root, val_size, split_seed)
        except data.TooLarge:
            if not fall_back:
                raise
    return load_folder(name, val_size, split_seed)


def all_stream(dataset: Any, workers: Workers, device: torch.device) -> bool:
    """Whether images are streamed: in every process or in none, on `device` once they are joined.

    Each has looked at its machine's memory at its own time: ValueError, one line, where they
    differ.
    """
    stream = isinstance(dataset, FolderDataset)
    count = workers.add({"streams": torch.tensor(float(stream), device=device)})["streams"]
    if count.item() not in (0, workers.world):
        raise ValueError(
            f"--dataset {dataset.name}: fits into the memory of some processes only: give --stream"
        )
    return stream


def input_size(part: data.Part | FolderPart | TokenPart, asked: int | None = None) -> int:
    """Tokens of the longest text; px of images: those asked for, else their own (streamed: 224)."""
    if isinstance(part, TokenPart):
        return part.tokens.shape[-1]
    return asked or (part.images.shape[-1] if isinstance(part, data.Part) else 224)


def make_batches(
    part: data.Part | FolderPart | TokenPart,
    batch_size: int,
    device: torch.device | str,
    *,
    stream: bool,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    shuffle: bool = False,
    seed: int = 0,
    train: bool = False,
    augment: Augment | None = None,
    workers: int | None = None,
    rank: int = 0,
    world: int = 1,
    fixed_length: bool = False,
) -> data.Batches | FolderBatches | TokenBatches:
    """Batches of images [B, 3, size, size], normalised by `mean` and `std` in units of 0..1.

    Of texts their tokens [B, 2, L], L the longest of the batch, or of all with `fixed_length`; of
    the rest only `batch_size`, `device`, `shuffle`, `seed`, `rank` and `world` count.

    train: whether streamed images are randomly cropped and flipped; images in memory are changed
    by `augment`, and those of another size then resized (bilinear). workers: of streamed images.
    rank, world: which rows of each batch this process gets.
    """
    if isinstance(part, TokenPart):
        order = {"shuffle": shuffle, "seed": seed, "rank": rank, "world": world}
        return TokenBatches(part, batch_size, device, fixed_length=fixed_length, **order)
    if stream:
        extra = {} if workers is None else {"workers": workers}
        return FolderBatches(
            part, batch_size, device,
            shuffle=shuffle, seed=seed, size=size, train=train, mean=mean, std=std,
            rank=rank, world=world, **extra,
        )  # fmt: skip
    if tuple(part.images.shape[2:]) != (size, size):
        augment = _then_resize(augment, size)
    return data.Batches(
        part, batch_size, device, shuffle=shuffle, seed=seed, augment=augment, mean=mean, std=std,
        rank=rank, world=world,
    )  # fmt: skip


def pixel_stats(
    part: data.Part | FolderPart | TokenPart,
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, 3 numbers each, in units of 0..1; no text has.

    Those of all pixels in memory (a grey image counts three times over); for images that are
    streamed ImageNet's. A channel of one value has its std replaced by a step of 8 bits.
    """
    if isinstance(part, TokenPart):
        return [], []
    if not isinstance(part, data.Part):
        return list(IMAGENET_MEAN), list(IMAGENET_STD)
    level = torch.arange(256)
    means, stds = [], []
    for channel in range(part.images.shape[1]):
        # Whole numbers until the division: exact for any number of pixels.
        counts = torch.bincount(part.images[:, channel].flatten(), minlength=256)
        total = int(counts.sum())
        first, second = int((counts * level).sum()), int((counts * level**2).sum())
        means.append(first / total / 255)
        stds.append(max((total * second - first**2) ** 0.5 / total, 1) / 255)
    return (means, stds) if len(means) == 3 else (means * 3, stds * 3)


def _then_resize(augment: Augment | None, size: int) -> Augment:
    """`augment`, if there is one, and then images [B, 3, H, W] to [B, 3, size, size]."""

    def both(images: Tensor, generator: torch.Generator) -> Tensor:
        images = images if augment is None else augment(images, generator)
        return F.interpolate(images, (size, size), mode="bilinear", antialias=True)

    return both
