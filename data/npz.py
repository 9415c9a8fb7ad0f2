"""Read a data set from an npz file; all errors are one line."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiment import read_npz

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


class Arrays(NamedTuple):
    """Images uint8 [N, H, W, C] or [N, H, W], C 1 or 3; labels integers [N] in 0..K-1; K names."""

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.integer]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.integer]
    classes: tuple[str, ...]


def read_images(path: Path) -> Arrays:
    """Read x_train, y_train, x_test, y_test and, where there is one, `classes`; nothing else.

    Floats in 0..1 are rounded to uint8. Without `classes` the names are 0..K-1, K the largest
    train label + 1, and each of these labels must occur in y_train. With it any may be absent.

    Raises:
        ValueError: the file cannot be read, or an array is missing, of a wrong type or shape, out
            of range, or does not fit the others. One line.
    """
    arrays = read_npz(path, (*_ARRAYS, "classes"))
    missing = [key for key in _ARRAYS if key not in arrays]
    if missing:
        raise ValueError(f"no array {', '.join(missing)} in {path}: it needs {', '.join(_ARRAYS)}")

    x_train, x_test = (_images(arrays[key], key, path) for key in ("x_train", "x_test"))
    y_train, y_test = (_labels(arrays[key], key, path) for key in ("y_train", "y_test"))
    for split, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if len(x) != len(y):
            raise ValueError(
                f"x_{split} has {len(x)} images and y_{split} {len(y)} labels in {path}: "
                "give one label an image"
            )
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"images of x_train are {_shape(x_train[0])}, of x_test {_shape(x_test[0])} in {path}: "
            "give both one shape"
        )
    classes = _classes(arrays.get("classes"), y_train, path)
    for key, y in (("y_train", y_train), ("y_test", y_test)):
        if y.max() >= len(classes):
            raise ValueError(
                f"{key} has label {y.max()} in {path}, and there are {len(classes)} classes: "
                f"give labels in 0..{len(classes) - 1}"
            )
    return Arrays(x_train, y_train, x_test, y_test, classes)


def _images(images: NDArray, key: str, path: Path) -> NDArray[np.uint8]:
    """Images checked and as uint8; floats are scaled in place."""
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise ValueError(
            f"{key} is {_shape(images)} in {path}: give [N, H, W, C] with C 1 or 3, or [N, H, W]"
        )
    if len(images) == 0:
        raise ValueError(f"{key} has no images in {path}: give one or more")
    if images.size == 0:
        raise ValueError(f"images of {key} have no pixels ({_shape(images)}) in {path}: give some")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"{key} is {images.dtype} in {path}: give uint8 in 0..255, or floats in 0..1"
        )
    # NaN spreads to both, so two numbers tell without a mask the size of the data.
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        raise ValueError(f"{key} has NaN or infinite values in {path}: give floats in 0..1")
    if low < 0 or high > 1:
        raise ValueError(
            f"{key} has floats in {low:g}..{high:g} in {path}: give floats in 0..1, or uint8"
        )
    images *= 255
    return np.rint(images, out=images).astype(np.uint8)


def _labels(labels: NDArray, key: str, path: Path) -> NDArray[np.integer]:
    """Labels checked, but for their number and their upper end."""
    if labels.ndim != 1:
        raise ValueError(f"{key} is {_shape(labels)} in {path}: give [N], a label an image")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{key} is {labels.dtype} in {path}: give integers from 0")
    if len(labels) and labels.min() < 0:
        raise ValueError(f"{key} has label {labels.min()} in {path}: give integers from 0")
    return labels


def _classes(names: NDArray | None, y_train: NDArray, path: Path) -> tuple[str, ...]:
    """The class names, from the file or from the train labels."""
    present = np.unique(y_train)
    # A client of a partition may have images of one class only; the names then say of how many.
    if len(present) < 2 and (names is None or names.size < 2):
        raise ValueError(f"only one class in y_train in {path}: give two or more")
    if names is None:
        # Without names, a label that does not occur is more likely a mistake than an empty class.
        gaps = np.flatnonzero(present != np.arange(len(present)))
        if len(gaps):
            raise ValueError(
                f"no label {gaps[0]} in y_train in {path}, yet there is {present[-1]}: "
                "number the classes 0..K-1, or add an array `classes` of their names"
            )
        return tuple(str(k) for k in range(len(present)))
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(
            f"classes is {names.dtype} {_shape(names)} in {path}: give strings [K], a name a class"
        )
    return tuple(names.tolist())


def _shape(array: NDArray) -> str:
    return str(list(array.shape))
