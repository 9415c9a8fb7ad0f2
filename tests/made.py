"""Small data sets and networks for the tests."""

import argparse
import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.edgenet import EDGE_NETS, EdgeNet
from models.exit_nets import EXIT_NETS


class TinyEdge(nn.Sequential):
    """An edge net of 2,000 weights with batch norm and dropout, for images of any size."""

    def __init__(self, num_classes: int, size: int):
        super().__init__(
            nn.Conv2d(3, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, num_classes),
        )  # fmt: skip


EDGE_NETS["tiny"] = EdgeNet(TinyEdge)
SMALL_EDGE = ["--edge_net", "tiny", "--batch_size", "16", "--lr", "0.05"]
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


def of_one_value(make):
    """A state dict as large as that of the network that make() builds, in a small file.

    Each tensor repeats one value, of which torch.save writes one.
    """
    with torch.device("meta"):
        named = make().state_dict()
    return {name: (torch.rand(1) / 100).expand(value.shape) for name, value in named.items()}


def quiet(main, *argv):
    """Run a script's main without its report."""
    with contextlib.redirect_stdout(io.StringIO()):
        main([str(a) for a in argv])


@contextlib.contextmanager
def one_line_error(*telling, start=""):
    """Expect a ValueError of one line that starts with `start` and contains each of `telling`."""
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is checked below
        yield
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(start))
    for words in telling:
        assert words in message


def settings_of(arch: str, **changes) -> dict:
    """The default flags of a network with exits, with some changed."""
    parser = argparse.ArgumentParser()
    EXIT_NETS[arch].add_flags(parser.add_argument_group())
    values = vars(parser.parse_args([]))
    assert changes.keys() <= values.keys()
    return values | changes


def fill_by_formula(net: nn.Module) -> nn.Module:
    """Weights and statistics in float64 from a cosine, the same with every version of torch."""
    with torch.no_grad():
        for k, (name, tensor) in enumerate(net.double().eval().state_dict().items()):
            if tensor.is_floating_point():
                wave = torch.cos(torch.arange(tensor.numel(), dtype=torch.float64) * 1.7 + k)
                scale = max(1, tensor[0].numel()) ** -0.5 if tensor.ndim > 1 else 0.3
                offset = float(tensor.ndim == 1 and name.endswith(("weight", "var")))
                tensor.copy_(offset + scale * wave.view(tensor.shape))
    return net


def noise_batches(sizes, classes, size):
    """(images float32 [B, 3, size, size], labels [B]) for each B of `sizes`."""
    generator = torch.Generator().manual_seed(1)
    for count in sizes:
        images = torch.randn(count, 3, size, size, generator=generator)
        yield images, torch.randint(classes, (count,), generator=generator)
