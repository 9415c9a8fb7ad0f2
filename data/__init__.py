"""Data sets in memory or streamed from files, and their batches on a device."""

from data.augment import AUGMENTATIONS
from data.batches import Batches
from data.cuts import keep_classes, parse_classes
from data.datasets import Dataset, load
from data.features import FeatureBatches
from data.folders import FolderBatches, FolderDataset, FolderPart, load_folder
from data.parts import Part
from data.sources import NAMES, stem
from data.streams import (
    STREAM_SIZE,
    ImageBatches,
    StreamBatches,
    image_batches,
    image_size,
    pixels_of,
)
