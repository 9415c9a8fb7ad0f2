"""One network of the once-for-all MobileNetV3 space (Cai et al., ICLR 2020, arXiv 1908.09791).

The blocks are those of MobileNetV3 (Howard et al., ICCV 2019, arXiv 1905.02244). This file builds
one network of the space directly, without the supernet from which it was cut; parameter names are
those of the published files of such networks.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from models.dense_layers import initialise
from models.localnet import resize

ACTIVATIONS = {"relu": nn.ReLU, "h_swish": nn.Hardswish}
STAGES = 5
WIDTHS = (16, 16, 24, 40, 80, 112, 160, 960, 1280)  # first, block 0, the stages, the last two
STRIDES = (2, 2, 2, 1, 2)
SQUEEZED = (False, True, False, True, True)
STAGE_ACTIVATIONS = ("relu", "relu", "h_swish", "h_swish", "h_swish")
SMALLEST = 16  # px; here maps from the third stage on have one pixel
LARGEST = {"depths": 16, "kernels": 15, "expansions": 16, "widths": 8192, "size": 1024}


class Block(NamedTuple):
    """An inverted residual block: 1x1 to `middle`, depthwise, squeeze-excite, 1x1 to `channels`."""

    channels_in: int
    middle: int  # if equal to channels_in, there is no first 1x1 layer
    channels: int
    kernel: int
    stride: int
    activation: str
    squeeze: bool
    shortcut: bool  # whether the input is added to the output


class Norm(NamedTuple):
    """Settings shared by all batch norms of a network."""

    momentum: float
    eps: float


class Shape(NamedTuple):
    """The architecture, without image size, number of classes and dropout."""

    first: int  # channels of the first convolution
    blocks: tuple[Block, ...]
    expand: int  # channels of the last map
    features: int  # D
    momentum: float = 0.1  # of batch norm
    eps: float = 1e-5


class OFAMobileNet(nn.Module):
    """A 3x3 convolution of stride 2, the blocks, 1x1, global mean, 1x1, dropout, linear.

    size: px that images are resized to. dropout: applied to the features [B, D]. Weights are
    initialised as in the once-for-all release: convolutions normal with std sqrt(2 / (k * k *
    channels out)).
    """

    def __init__(self, shape: Shape, num_classes: int, size: int, dropout: float = 0.1):
        super().__init__()
        self.size, norm = size, Norm(shape.momentum, shape.eps)
        self.first_conv = _conv(3, shape.first, 3, 2, "h_swish", norm)
        self.blocks = nn.ModuleList(_InvertedResidual(block, norm) for block in shape.blocks)
        self.final_expand_layer = _conv(
            shape.blocks[-1].channels, shape.expand, 1, 1, "h_swish", norm
        )
        self.feature_mix_layer = _conv(shape.expand, shape.features, 1, 1, "h_swish", None)
        linear = nn.Linear(shape.features, num_classes)
        self.classifier = nn.Sequential(
            OrderedDict[str, nn.Module](dropout=nn.Dropout(dropout), linear=linear)
        )
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] to logits [B, K]."""
        x = self.first_conv(resize(images, self.size))
        for block in self.blocks:
            x = block(x)
        x = F.adaptive_avg_pool2d(self.final_expand_layer(x), 1)
        return self.classifier(self.feature_mix_layer(x).flatten(1))


class _InvertedResidual(nn.Module):
    def __init__(self, block: Block, norm: Norm):
        super().__init__()
        middle = block.middle
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if middle != block.channels_in:
            layers["inverted_bottleneck"] = _conv(
                block.channels_in, middle, 1, 1, block.activation, norm
            )
        layers["depth_conv"] = _conv(
            middle, middle, block.kernel, block.stride, block.activation, norm, groups=middle
        )
        if block.squeeze:
            layers["depth_conv"].add_module("se", _SqueezeExcite(middle))
        layers["point_linear"] = _conv(middle, block.channels, 1, 1, None, norm)
        self.mobile_inverted_conv = nn.Sequential(layers)
        self.shortcut = block.shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.mobile_inverted_conv(x)
        return x + y if self.shortcut else y


class _SqueezeExcite(nn.Module):
    """Multiplies each channel by a gate computed from the means of all channels."""

    def __init__(self, channels: int):
        super().__init__()
        squeezed = squeezed_channels(channels)
        self.fc = nn.Sequential(
            OrderedDict(
                reduce=nn.Conv2d(channels, squeezed, 1),
                relu=nn.ReLU(inplace=True),
                expand=nn.Conv2d(squeezed, channels, 1),
                h_sigmoid=nn.Hardsigmoid(),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(F.adaptive_avg_pool2d(x, 1))


def _conv(
    channels_in: int,
    channels: int,
    kernel: int,
    stride: int,
    activation: str | None,
    norm: Norm | None,
    groups: int = 1,
) -> nn.Sequential:
    """A padded convolution, then batch norm and activation if given, under the published names."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(
        channels_in, channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    if norm is not None:
        layers["bn"] = nn.BatchNorm2d(channels, norm.eps, norm.momentum)
    if activation is not None:
        layers["act"] = ACTIVATIONS[activation]()
    return nn.Sequential(layers)


def squeezed_channels(channels: int) -> int:
    """channels / 4 rounded to a multiple of 8, and never below 0.9 times channels / 4."""
    quarter = channels // 4
    nearest = max(8, (quarter + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * quarter else nearest + 8


def shape_of_spec(spec: dict[str, Any]) -> Shape:
    """The architecture that a spec describes.

    spec: `depths`, the number of blocks of each of the five stages; `kernels` and `expansions`, one
    number per block, in the order of the stages; optionally `widths`, nine numbers in place of
    `WIDTHS`. The published space has depths 2 to 4, kernels 3, 5 and 7, expansions 3, 4 and 6;
    other values work too. ValueError for lists of wrong length or numbers out of range.
    """
    depths = _whole_numbers(spec, "depths", STAGES, "one a stage")
    kernels = _whole_numbers(spec, "kernels", sum(depths), "one a block")
    expansions = _whole_numbers(spec, "expansions", sum(depths), "one a block")
    widths = _whole_numbers(
        {"widths": spec.get("widths", list(WIDTHS))}, "widths", len(WIDTHS), "as in 16 16 24 ..."
    )
    if any(k % 2 == 0 for k in kernels):
        raise ValueError(f"kernels: {next(k for k in kernels if k % 2 == 0)} is even; give 3, 5, 7")
    choices = iter(zip(kernels, expansions, strict=True))
    blocks = [_block(widths[0], widths[1], 3, 1, 1, "relu", False)]
    for stage, depth in enumerate(depths):
        for k in range(depth):
            kernel, expansion = next(choices)
            blocks.append(
                _block(
                    blocks[-1].channels,
                    widths[2 + stage],
                    kernel,
                    expansion,
                    1 if k else STRIDES[stage],
                    STAGE_ACTIVATIONS[stage],
                    SQUEEZED[stage],
                )
            )
    return Shape(widths[0], tuple(blocks), widths[-2], widths[-1])


def check_size(size: Any) -> int:
    """Returns `size` if a network of the space can run at this number of px, else ValueError."""
    if type(size) is not int or not SMALLEST <= size <= LARGEST["size"]:
        raise ValueError(f"size {size!r}: give whole px from {SMALLEST} to {LARGEST['size']}")
    return size


def _block(
    channels_in: int,
    channels: int,
    kernel: int,
    expansion: int,
    stride: int,
    activation: str,
    squeeze: bool,
) -> Block:
    shortcut = stride == 1 and channels_in == channels
    middle = channels_in * expansion
    return Block(channels_in, middle, channels, kernel, stride, activation, squeeze, shortcut)


def _whole_numbers(spec: dict[str, Any], key: str, count: int, what: str) -> list[int]:
    values = spec.get(key)
    if not isinstance(values, (list, tuple)):
        raise ValueError(f"{key}: give a list of {count} whole numbers, {what}")
    if len(values) != count:
        raise ValueError(f"{key}: has {len(values)} numbers, needs {count}, {what}")
    for value in values:
        if type(value) is not int or not 1 <= value <= LARGEST[key]:
            raise ValueError(f"{key}: {value!r}: give whole numbers from 1 to {LARGEST[key]}")
    return list(values)
