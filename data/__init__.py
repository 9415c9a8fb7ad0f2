"""Data sets as arrays in memory, and arrays as batches on a device."""

from data.augment import AUGMENTATIONS
from data.batches import Batches
from data.datasets import NAMES, Dataset, Part, keep_classes, load, parse_classes, stem

__all__ = [
    "AUGMENTATIONS",
    "NAMES",
    "Batches",
    "Dataset",
    "Part",
    "keep_classes",
    "load",
    "parse_classes",
    "stem",
]
