"""Names to arrays: every data set as uint8 images in memory, cut into train, val and test.

A data set is named by a built-in name (`NAMES`), the path of an npz file or the path of a folder of
pictures. All errors are a `ValueError` of one line: what is wrong, where, and what to do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from data.cuts import split_rows
from data.parts import Part, fingerprint_of
from data.sources import source_of, stem


class Dataset(NamedTuple):
    """A data set under its file prefix `name`; `classes[k]` is the name of label k.

    `rejector` is empty unless `load` was asked for it: images that neither net is trained on.
    """

    name: str
    train: Part
    val: Part
    test: Part
    classes: tuple[str, ...]
    rejector: Part

    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of images and labels: which data a checkpoint belongs to.

        It changes with the cut into parts too. Reads every byte, so call it once a run.
        """
        parts = (self.train, self.val, self.test, self.rejector)
        return fingerprint_of(parts if len(self.rejector.labels) else parts[:3])


def load(
    name: str,
    root: str | os.PathLike[str] = "data_root",
    val_size: float = 0.1,
    seed: int = 0,
    rejector_val_size: float = 0,
) -> Dataset:
    """Load a data set into memory and cut val, and images for the rejector, from its train set.

    Args:
        name: one of `NAMES`; the path of an npz file with x_train, y_train, x_test, y_test
            (images uint8, or floats in 0..1, [N, H, W, C] or [N, H, W] with C 1 or 3; labels of
            any integer type [N]; `classes`, strings [K], if the names are to be more than 0..K-1);
            or a folder with train/ and test/ (or, as in ImageNet, val/) of one folder a class.
        root: where torchvision's data sets are, or are downloaded to.
        val_size: images of val, as a fraction of train in (0, 1) or as a count of 1 or more.
        seed: of the cut, 0 or more. Which images are val depends on the number of train images,
            `val_size` and `seed` only; all parts stay in the source's order.
        rejector_val_size: images kept from train and val alike, on which a rejector sees the nets
            as they are on new images: a fraction or a count as for val, or 0 for none.

    Raises:
        ValueError: the name is unknown, the data cannot be had or are not as described, or
            the sizes leave train or val empty, or a folder does not fit into memory (before any
            picture is read). One line.
    """
    prefix = stem(name)
    source = source_of(name, Path(root))
    total = len(source.train.labels)
    train, val, rejector = map(
        source.train.where, split_rows(total, val_size, seed, rejector_val_size)
    )
    return Dataset(prefix, train, val, source.test, source.classes, rejector)
