"""ResNet (He et al., CVPR 2016, arXiv 1512.03385) with an exit after each stage.

Exits as in BranchyNet (Teerapittayanon et al., ICPR 2016), except for the heads; see `ResNetExits`.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from experiment import number
from models.edgenet import imagenet_weights
from models.exit_net import ExitNet, State, tensor_of
from models.trunks import exit_points, load_trunk

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock, Bottleneck

# torchvision's layer class and the number of layers of each of the four stages.
RESNETS = {
    "resnet18": ("BasicBlock", (2, 2, 2, 2)),
    "resnet34": ("BasicBlock", (3, 4, 6, 3)),
    "resnet50": ("Bottleneck", (3, 4, 6, 3)),
    "resnet101": ("Bottleneck", (3, 4, 23, 3)),
    "resnet152": ("Bottleneck", (3, 8, 36, 3)),
}
STEMS = ("auto", "cifar", "imagenet")
LARGE_IMAGES = 96  # px; from this size on `auto` uses torchvision's stem
WIDTH = 64  # channels of torchvision's first stage


class ResNetExits(ExitNet):
    """torchvision's residual stages with its parameter names; exits classify the mean of the map.

    An exit is a global average pool and a linear layer, as in ResNet. Differs from BranchyNet,
    whose branches have convolutions before the linear layer, and whose trunk is a ResNet-110 of
    three stages. For small images the stem is a 3x3 convolution of stride 1 without a pool, because
    torchvision's stem leaves a map of 1 x 1 at 32 px. State: a map [B, C, H, W]. Parameters at 32
    px, 10 classes,
    defaults: 11,178,472; exits after 152,765,056, 286,984,064, 421,204,352 and 555,427,200
    multiply-adds.
    """

    @staticmethod
    def add_flags(group: argparse._ArgumentGroup) -> None:
        group.add_argument(
            "--resnet", choices=RESNETS, default="resnet18", help="torchvision architecture"
        )
        group.add_argument(
            "--width", type=number(int, 1), default=WIDTH, help="channels of the first stage"
        )
        group.add_argument(
            "--stem",
            choices=STEMS,
            default="auto",
            help="cifar: 3x3, stride 1, no pool; imagenet: 7x7 and a pool, both of stride 2; auto: "
            f"imagenet from {LARGE_IMAGES} px on",
        )
        group.add_argument(
            "--exits", default="1-2-3-4", help="stages followed by an exit; must include 4"
        )
        group.add_argument(
            "--pretrained",
            action=argparse.BooleanOptionalAction,
            default=False,
            help="start from torchvision's ImageNet weights; a cifar stem stays random",
        )

    @classmethod
    def from_settings(cls, settings: dict[str, Any], num_classes: int, size: int) -> ResNetExits:
        name, width, stem = settings["resnet"], settings["width"], settings["stem"]
        if name not in RESNETS:
            raise ValueError(f"--resnet {name}: unknown; {', '.join(RESNETS)}")
        if settings["pretrained"] and width != WIDTH:
            raise ValueError(f"--width {width}: ImageNet weights have {WIDTH}; use --no-pretrained")
        exits = exit_points(settings["exits"], 4, "stages")
        imagenet = stem == "imagenet" or (stem == "auto" and size >= LARGE_IMAGES)
        weights = imagenet_weights(name) if settings["pretrained"] else None
        net = cls(num_classes, resnet=name, width=width, exits=exits, imagenet=imagenet)
        if weights is not None:
            load_trunk(net, name, weights, new=("heads.",) if imagenet else ("heads.", "conv1."))
        return net

    def __init__(
        self, num_classes: int, *, resnet: str, width: int, exits: list[int], imagenet: bool
    ):
        from torchvision.models import resnet as blocks  # here, as in edgenet.py

        super().__init__()
        self.num_exits = len(exits)
        self.bounds = [0, *exits]
        name, counts = RESNETS[resnet]
        layer = getattr(blocks, name)
        kernel, stride = (7, 2) if imagenet else (3, 1)
        self.conv1 = nn.Conv2d(3, width, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
        channels, stage_channels = width, []
        for stage, count in enumerate(counts):
            layers = _stage(layer, channels, width * 2**stage, count, stride=2 if stage else 1)
            self.add_module(f"layer{stage + 1}", layers)
            channels = width * 2**stage * layer.expansion
            stage_channels.append(channels)
        self.heads = nn.ModuleList(nn.Linear(stage_channels[e - 1], num_classes) for e in exits)
        for module in self.modules():  # as in torchvision; batch norm already starts at 1 and 0
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def block(self, k: int, state: State) -> State:
        x = self.maxpool(self.relu(self.bn1(self.conv1(state)))) if k == 0 else state
        for stage in range(self.bounds[k], self.bounds[k + 1]):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x

    def head(self, k: int, state: State) -> Tensor:
        return self.heads[k](tensor_of(state).mean(dim=(2, 3)))


def _stage(
    layer: type[BasicBlock | Bottleneck], channels: int, planes: int, count: int, stride: int
) -> nn.Sequential:
    """`count` residual layers; the first has the stride and, if shapes differ, a 1x1 shortcut."""
    out = planes * layer.expansion
    shortcut = None
    if stride != 1 or channels != out:
        shortcut = nn.Sequential(
            nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
        )
    first = layer(channels, planes, stride, shortcut)
    return nn.Sequential(first, *(layer(out, planes) for _ in range(count - 1)))
