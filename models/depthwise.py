"""Small depthwise separable networks: students of the amortized rejector on an image.

Depthwise separable convolutions are those of MobileNet (Howard et al., 2017): a 3 x 3 convolution
of each channel by itself, then a 1 x 1 convolution over channels. As in MobileNetV3 (Howard et al.,
2019) a squeeze-and-excitation (Hu et al., 2018) lies between them, and activations are hard-swish.
"""

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, channels_last, nn
from torchvision.ops import Conv2dNormActivation, SqueezeExcitation

from models.localnet import resize

_conv = partial(Conv2dNormActivation, activation_layer=nn.Hardswish)


class _Separable(nn.Sequential):
    """A depthwise separable convolution; the input is added where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__(
            _conv(inputs, inputs, 3, stride, groups=inputs),
            SqueezeExcitation(inputs, max(4, inputs // 4), scale_activation=nn.Hardsigmoid),
            _conv(inputs, outputs, 1),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x) if self.residual else super().forward(x)


class DepthwiseNet(nn.Module):
    """A 3 x 3 convolution of stride 2, depthwise separable blocks, the mean of the last map.

    outputs: values that `forward` returns. stem: channels of the first convolution. blocks:
    (channels, stride) of each block. Images of other sizes than 32 x 32 are resized to it.
    """

    size = 32

    def __init__(self, outputs: int, stem: int, blocks: Sequence[tuple[int, int]]):
        super().__init__()
        layers, width = [_conv(3, stem, 3, stride=2)], stem
        for channels, stride in blocks:
            layers.append(_Separable(width, channels, stride))
            width = channels
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width, outputs)
        self.to(memory_format=channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] to [B, outputs]."""
        images = resize(images, self.size).contiguous(memory_format=channels_last)
        return self.head(F.adaptive_avg_pool2d(self.features(images), 1).flatten(1))
