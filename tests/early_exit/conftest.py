"""A folder of pictures, and a run of each kind that is trained but not evaluated."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.early_exit.toy import checkpoint_of


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """train/ and test/ with 2 classes of 8 and 4 pictures, 40 x 48 px."""
    root, rng = tmp_path_factory.mktemp("pictures") / "pets", np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for shade, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(100 * shade, 150 + 100 * shade, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture
def trained_run(npz, tmp_path):
    """Make a run directory with a checkpoint for `npz`: trained_run(method=..., t=...)."""

    def make(name="run", **changes):
        run = tmp_path / name
        run.mkdir()
        checkpoint = checkpoint_of(npz, **changes)
        torch.save(checkpoint, run / f"tiny-{checkpoint['arch']}.pth")
        return run

    return make
