"""Data sets in memory or streamed from files, and their batches on a device."""

from data.augment import AUGMENTATIONS
from data.batches import Batches
from data.cuts import keep_classes, parse_classes
from data.datasets import Dataset, load
from data.features import FeatureBatches
from data.folders import FolderBatches, load_folder
from data.parts import Part
from data.sources import NAMES, TooLarge, stem
from data.streams import (
    STREAM_SIZE,
    ImageBatches,
    StreamBatches,
    StreamDataset,
    StreamPart,
    image_batches,
    image_size,
    load_stream,
    pixels_of,
)

__all__ = [
    "AUGMENTATIONS",
    "NAMES",
    "STREAM_SIZE",
    "Batches",
    "Dataset",
    "FeatureBatches",
    "FolderBatches",
    "ImageBatches",
    "Part",
    "StreamBatches",
    "StreamDataset",
    "StreamPart",
    "TooLarge",
    "image_batches",
    "image_size",
    "keep_classes",
    "load",
    "load_folder",
    "load_stream",
    "parse_classes",
    "pixels_of",
    "stem",
]
