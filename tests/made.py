"""Data made on the spot, and what the tests train on it."""

import contextlib
import io
from pathlib import Path

import numpy as np
import torch

SMALL_EDGE = ["--edge_net", "mobilenet_v3_small", "--batch_size", "16", "--lr", "0.05"]
COSTS = ["--cost_1", "1", "1.25", "--cost_e", "0", "0.25"]


def make_npz(path: Path, classes=4, train=120, test=60, size=32, channels=3, seed=0) -> Path:
    """Pictures whose class is a pattern under noise: easy, but not at once."""
    rng = np.random.default_rng(seed)
    patterns = rng.integers(0, 256, (classes, size, size, channels))

    def part(count):
        labels = np.arange(count) % classes
        noise = rng.integers(0, 256, (count, size, size, channels))
        return ((patterns[labels] + 2 * noise) // 3).astype(np.uint8), labels

    x_train, y_train = part(train)
    x_test, y_test = part(test)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def quiet(main, *argv):
    """Run a script's main without its report."""
    with contextlib.redirect_stdout(io.StringIO()):
        main([str(a) for a in argv])


def noise_batches(sizes, classes, size):
    """(images float32 [B, 3, size, size], labels [B]) for each B of `sizes`."""
    generator = torch.Generator().manual_seed(1)
    for count in sizes:
        images = torch.randn(count, 3, size, size, generator=generator)
        yield images, torch.randint(classes, (count,), generator=generator)
