"""The layers that MSDNet and RANet are made of, named as in their published checkpoints."""

import math

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation


class Conv(nn.Module):
    """One convolution with batch norm and ReLU."""

    def __init__(self, channels_in: int, channels: int, kernel: int = 3, stride: int = 1):
        super().__init__()
        self.net = Conv2dNormActivation(channels_in, channels, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Bottleneck(nn.Module):
    """A 1x1 convolution to at most `factor * channels`, then a 3x3 one to `channels`."""

    def __init__(self, channels_in: int, channels: int, factor: int, stride: int = 1):
        super().__init__()
        middle = min(channels_in, factor * channels)
        self.net = nn.Sequential(
            *Conv2dNormActivation(channels_in, middle, 1),
            *Conv2dNormActivation(middle, channels, stride=stride),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Head(nn.Module):
    """A classifier: two 3x3 convolutions of stride 2, a 2x2 average pool, a linear layer.

    Takes maps [B, C, H, W] that are 1 x 1 after that (8 px for 32 px images). `linear` sees
    `width` channels.
    """

    def __init__(self, channels: int, width: int, num_classes: int):
        super().__init__()
        self.m = nn.Sequential(
            Conv(channels, width, stride=2), Conv(width, width, stride=2), nn.AvgPool2d(2)
        )
        self.linear = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, K]."""
        return self.linear(self.m(x).flatten(1))


def initialise(net: nn.Module) -> None:
    """Convolutions normal with std sqrt(2 / (k * k * channels out)); batch norm 1, biases 0."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            fan = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
            nn.init.normal_(layer.weight, 0, math.sqrt(2 / fan))
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
        if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def numbers(text: str, flag: str) -> list[int]:
    """`1-2-4` as a list of whole numbers from 1, the format of the papers' flags.

    ValueError where it is not that.
    """
    parts = text.split("-")
    if not all(p.isdecimal() and int(p) >= 1 for p in parts):
        raise ValueError(f"--{flag} {text}: give whole numbers from 1, as 1-2-4")
    return [int(p) for p in parts]


def check_size(size: int, shrinks: dict[str, int], what: str) -> None:
    """ValueError, with the sizes that do, unless images of `size` px give the heads 5 to 12 px.

    shrinks: for each way to build the network how many times larger images are than the coarsest
    maps, which `Head` takes to 1 x 1; the first is the one that is built.
    """
    takes = [f"{4 * times + 1} to {12 * times} px{way}" for way, times in shrinks.items()]
    shrink = next(iter(shrinks.values()))
    if not 4 * shrink < size <= 12 * shrink:
        raise ValueError(
            f"{what} takes images of {', or '.join(takes)}, and these have {size}: give such a "
            "--size; one scale more doubles that, one fewer halves it"
        )
