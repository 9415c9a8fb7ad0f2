"""Folders of pictures: list and check one before any picture is read; read a picture.

torchvision is imported when the first folder is listed: it takes a second and a half.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiment import InputError

if TYPE_CHECKING:
    from torchvision.datasets import ImageFolder

LOOKED_AT = 200  # pictures whose size is looked up to estimate that of all


def list_folder(path: Path) -> tuple[ImageFolder, ImageFolder]:
    """The pictures under train/ and under test/, a folder for each class in both.

    Where there is no test/ with folders in it, val/ is taken, as in ImageNet, whose own test
    pictures have no labels. Listings are sorted, classes by name and pictures by path.

    Raises:
        ValueError: a part is not there or empty, its class folders are not those of the other
            part, there are fewer than two, or one has no train picture. One line.
    """
    tests = [split for split in ("test", "val") if (path / split).is_dir()]
    if not (path / "train").is_dir() or not tests:
        split = "test" if (path / "train").is_dir() else "train"
        raise ValueError(
            f"no folder {split} in {path}: give a folder with train and test (or train and val)"
        )
    has_classes = [split for split in tests if any(p.is_dir() for p in (path / split).iterdir())]
    test_split = (has_classes or tests)[0]
    train, test = _listing(path / "train"), _listing(path / test_split)

    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise ValueError(
            f"class folders of train and {test_split} differ in {path} "
            f"(in one only: {', '.join(odd)}): give both the same"
        )
    if len(train.classes) < 2:
        raise ValueError(f"only one class in {path / 'train'}: give folders for two or more")
    empty = sorted(set(train.classes) - {train.classes[k] for k in train.targets})
    if empty:
        raise ValueError(f"no images in {path / 'train' / empty[0]}: add some, or drop the class")
    if not test.targets:
        raise ValueError(f"no images in {path / test_split}: add some to its class folders")
    return train, test


def _listing(folder: Path) -> ImageFolder:
    from torchvision.datasets import ImageFolder

    try:
        return ImageFolder(str(folder), allow_empty=True)
    except FileNotFoundError as error:
        raise ValueError(
            f"no class folders in {folder}: give one folder of pictures a class"
        ) from error


def decoded_bytes(files: Sequence[str]) -> int:
    """Bytes of pictures as RGB, each of its own size: estimated from `LOOKED_AT` of them at most.

    Only the beginnings of files are read. Those that say no size count as the mean of the others;
    0 where none does.
    """
    sizes = []
    for file in files[:: -(-len(files) // LOOKED_AT) or 1]:
        # What is wrong with a picture is said when it is read.
        with contextlib.suppress(Exception), Image.open(file) as picture:
            sizes.append(picture.width * picture.height * 3)
    return round(len(files) * sum(sizes) / max(1, len(sizes)))


def read_picture(file: str) -> Tensor:
    """A picture as RGB, uint8 [3, H, W], a view of [H, W, 3].

    By PIL, because torchvision's decoder is announced to go; docs/speed.md compares the two. 16-bit
    grey keeps its upper 8 bits. A turn that a camera noted is not made, as in torchvision's data
    sets.

    Raises:
        InputError: it cannot be read. One line.
    """
    try:
        with Image.open(file) as picture:
            if picture.mode.startswith("I;16"):
                grey = (np.asarray(picture, np.uint16) >> 8).astype(np.uint8)
                return torch.from_numpy(grey).expand(3, -1, -1)
            rgb = picture if picture.mode == "RGB" else picture.convert("RGB")
            return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)
    # A broken picture may raise nearly anything, by format: OSError, SyntaxError, struct.error.
    except Exception as error:
        raise InputError(
            f"picture {file} cannot be read ({brief(error)}): replace or remove it"
        ) from error


def brief(error: BaseException) -> str:
    """An error as a few words on one line."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 120 else f"{words[:117]}..."
