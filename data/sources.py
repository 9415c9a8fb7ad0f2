"""Where data sets come from: a built-in name, an npz file or a folder of pictures.

All errors are a `ValueError` of one line: what is wrong, where, and what to do.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
from collections import Counter
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from data.cuts import keep_classes
from data.memory import fits_host, free_on_host
from data.npz import read_images
from data.parts import Part
from data.pictures import brief, decoded_bytes, list_folder, read_picture

if TYPE_CHECKING:
    from torchvision.datasets import ImageFolder

# name: (class in torchvision.datasets, the files it looks for under the root)
_TORCHVISION = {
    "mnist": ("MNIST", "MNIST/raw/*-ubyte.gz"),
    "kmnist": ("KMNIST", "KMNIST/raw/*-ubyte.gz"),
    "fmnist": ("FashionMNIST", "FashionMNIST/raw/*-ubyte.gz"),
    "cifar10": ("CIFAR10", "cifar-10-python.tar.gz"),
    "cifar100": ("CIFAR100", "cifar-100-python.tar.gz"),
    "SVHN": ("SVHN", "train_32x32.mat and test_32x32.mat"),
}
_PARTIAL = {"cifar10_partial": "cifar10", "SVHN_partial": "SVHN"}
_PARTIAL_CLASSES = range(9)

NAMES = ("digits", *_TORCHVISION, *_PARTIAL)


class Source(NamedTuple):
    """A data set as it comes: train not yet cut, `index` counting from 0 unless filtered."""

    train: Part
    test: Part
    classes: tuple[str, ...]


def stem(name: str) -> str:
    """The file prefix of a data set: `digits`, `/a/cifar10.npz` -> `cifar10`, `b/pets/` -> `pets`.

    Raises:
        ValueError: nothing is left, as of an empty name or of `/`.
    """
    prefix = Path(os.path.abspath(name)).name.removesuffix(".npz") if name.strip() else ""
    if not prefix:
        raise ValueError(f"data set {name!r} has no name: give {_accepted()}")
    return prefix


def source_of(name: str, root: Path) -> Source:
    """Find out what a name means, and read it."""
    if name == "digits":
        return _digits()
    if name in _TORCHVISION:
        return _from_torchvision(name, root)
    if name in _PARTIAL:
        parent = _from_torchvision(_PARTIAL[name], root)
        return parent._replace(
            train=keep_classes(parent.train, _PARTIAL_CLASSES),
            test=keep_classes(parent.test, _PARTIAL_CLASSES),
        )
    path = Path(name)
    if path.is_dir():
        return _from_folder(path)
    if path.is_file() and path.suffix == ".npz":
        x_train, y_train, x_test, y_test, classes = read_images(path)
        return Source(_part(x_train, y_train), _part(x_test, y_test), classes)
    if path.is_file():
        raise ValueError(f"{name} is no data set: give an npz file (its name ends in .npz)")
    if os.sep in name or path.suffix == ".npz":
        raise ValueError(f"no such file or folder: {name!r}: give {_accepted()}")
    folded = {known.casefold(): known for known in NAMES}
    near = difflib.get_close_matches(name.casefold(), folded, n=3)
    hint = f" (near: {', '.join(folded[match] for match in near)})" if near else ""
    raise ValueError(f"unknown data set {name!r}{hint}: give {_accepted()}")


def _accepted() -> str:
    return f"one of {', '.join(NAMES)}, or the path of an .npz file or of a folder"


def _part(images: NDArray[np.uint8], labels: NDArray[np.integer]) -> Part:
    """A part from images [N, H, W] or [N, H, W, C] and labels [N]."""
    if images.ndim == 3:
        images = images[..., None]
    return Part(
        # By numpy, in half the time that torch's `contiguous` takes for bytes.
        torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        torch.from_numpy(labels.astype(np.int64)),
        torch.arange(len(labels)),
    )


def _digits() -> Source:
    """scikit-learn's 1797 digits: grey levels 0..16 at 8x8, here 0..255 at 32x32 in 3 channels.

    They come without a test set. Ours is 600 images, stratified, and never changes; `index`
    counts within our train and test sets. Pixels are repeated rather than interpolated, so that
    the bytes, and with them the fingerprint, do not hang on a library's version.
    """
    # Here, because scikit-learn takes a second to import and no other data set needs it.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    small = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    large = small.repeat(4, axis=1).repeat(4, axis=2)
    images = np.stack([large] * 3, axis=-1)
    x_train, x_test, y_train, y_test = train_test_split(
        images, bunch.target, test_size=600, random_state=0, stratify=bunch.target
    )
    classes = tuple(str(k) for k in bunch.target_names)
    return Source(_part(x_train, y_train), _part(x_test, y_test), classes)


def _one_at_a_time(root: Path) -> contextlib.AbstractContextManager:
    """Held while torchrun's processes look for a data set in `root`: the first one downloads it."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return contextlib.nullcontext()
    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / ".lock") if os.access(root, os.W_OK) else contextlib.nullcontext()


def _from_torchvision(name: str, root: Path) -> Source:
    """One of torchvision's data sets, downloaded to `root` if it is not there."""
    # Here, because torchvision takes a second and a half to import and brings torch's compiler.
    import torchvision

    class_name, files = _TORCHVISION[name]
    read = getattr(torchvision.datasets, class_name)
    try:
        # Older versions print to stdout, which belongs to the script's own report.
        with contextlib.redirect_stdout(io.StringIO()), _one_at_a_time(root):
            if name == "SVHN":
                splits = [read(root, split=split, download=True) for split in ("train", "test")]
            else:
                splits = [read(root, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError, ValueError, AssertionError, EOFError, HTTPException) as error:
        raise ValueError(
            f"{name} is not in {root} and could not be downloaded ({brief(error)}): "
            f"put {files} into {root}, or use digits or an npz file"
        ) from error
    if name == "SVHN":
        classes = tuple(str(k) for k in range(10))
        train, test = (_part(s.data.transpose(0, 2, 3, 1), np.asarray(s.labels)) for s in splits)
    else:
        numbered = map(str, range(max(map(int, splits[0].targets)) + 1))  # USPS names no classes
        classes = tuple(getattr(splits[0], "classes", numbered))
        train, test = (_part(np.asarray(s.data), np.asarray(s.targets)) for s in splits)
    return Source(train, test, classes)


def _from_folder(path: Path) -> Source:
    """A folder with train/ and test/ (or val/), a folder of pictures for each class in both.

    All pictures become RGB of one size, the most common among the train pictures.
    """
    train, test = list_folder(path)
    # Twice: as read and as one array, then as that and as the parts that are cut from it.
    needed = 2 * sum(decoded_bytes([file for file, _ in x.samples]) for x in (train, test))
    if not fits_host(needed):
        raise ValueError(
            f"{path} takes about {needed / 1e9:.1f} GB to read and cut, and "
            f"{(free_on_host() or 0) / 1e9:.1f} GB of memory are free: give --stream (learning "
            "to help, early exits), or give fewer or smaller pictures"
        )
    train_images, test_images = _decode(train), _decode(test)
    size = Counter(image.shape[:2] for image in train_images).most_common(1)[0][0]
    return Source(
        _part(_stack(train_images, size), np.array(train.targets)),
        _part(_stack(test_images, size), np.array(test.targets)),
        tuple(train.classes),
    )


def _decode(listing: ImageFolder) -> list[NDArray[np.uint8]]:
    """Every picture of a listing, uint8 [H, W, 3], each of its own size."""
    return [read_picture(file).permute(1, 2, 0).numpy() for file, _ in listing.samples]


def _stack(images: list[NDArray[np.uint8]], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Images of size (H, W), the others resized to it, as one array [N, H, W, 3]; empties the list.

    Each is dropped once it is copied, so that few are in memory twice.
    """
    from torchvision.transforms.v2.functional import resize

    stacked = np.empty((len(images), *size, 3), dtype=np.uint8)
    images.reverse()
    for row in stacked:
        image = images.pop()
        if image.shape[:2] == size:
            row[:] = image
        else:
            pixels = torch.from_numpy(image).permute(2, 0, 1)
            row[:] = resize(pixels, list(size), antialias=True).permute(1, 2, 0).numpy()
    return stacked
