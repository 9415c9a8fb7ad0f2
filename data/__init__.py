"""Data sets as arrays in memory, and arrays as batches on a device."""

from data.augment import AUGMENTATIONS
from data.batches import Batches
from data.datasets import NAMES, Dataset, TooLarge, keep_classes, load, parse_classes, stem
from data.features import FeatureBatches
from data.folders import FolderBatches, load_folder
from data.parts import Part

__all__ = [
    "AUGMENTATIONS",
    "NAMES",
    "Batches",
    "Dataset",
    "FeatureBatches",
    "FolderBatches",
    "Part",
    "TooLarge",
    "keep_classes",
    "load",
    "load_folder",
    "parse_classes",
    "stem",
]
