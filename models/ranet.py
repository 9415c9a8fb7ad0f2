"""Resolution adaptive networks (RANet; Yang et al., CVPR 2020, arXiv 2003.07326).

The CIFAR configurations of Boosted Dynamic Networks (Yu et al., 2023), with the parameter names of
their published checkpoints.
"""

from __future__ import annotations

import argparse
import math
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiment import number
from models.dense_layers import Bottleneck, Conv, Head, check_size, initialise, numbers
from models.exit_net import ExitNet, State, maps_of, tensor_of

CIFAR_HEAD = 128  # channels
COUNT = number(int, 1)  # an argparse type
REDUCTION = 0.5  # of the channels, at transitions


class RANet(ExitNet):
    """Sub-networks ("flows"), coarse to fine; each one fuses the features of the flow before it.

    Flow s has n_blocks + s * block_step dense blocks. If the flow before it has a block of the same
    index, the block fuses that block's features and has no exit; every other block has an exit. A
    flow of scale n starts from maps 2^(n - 1) times as wide as the input of the heads and halves
    them n - 1 times, in the blocks whose indices are those of the last blocks of the n - 1 flows
    before it. It reduces its channels after each 1/n of its own blocks. (Halving and reduction
    coincide except in the last flow of the configuration with 8 exits, 1-2-3-3.) The first layer
    and the heads are those for CIFAR; the ImageNet variants are not implemented.

    Parameters at 32 px, 100 classes, defaults: 2,520,818; exits after 13,390,336, 28,836,864,
    42,137,472, 47,839,616, 58,013,248 and 61,012,032 multiply-adds.
    """

    equilibrium = "none"  # the release of Boosted applies gradient equilibrium to MSDNet only

    @staticmethod
    def add_flags(group: argparse._ArgumentGroup) -> None:
        group.add_argument(
            "--n_blocks", type=COUNT, default=2, help="blocks of the first sub-network"
        )
        group.add_argument(
            "--block_step",
            type=COUNT,
            default=2,
            help="blocks that each later sub-network has more than the one before",
        )
        group.add_argument("--step", type=COUNT, default=4, help="layers per block")
        group.add_argument(
            "--step_mode",
            choices=("even", "lin_grow"),
            default="even",
            help="lin_grow: block b = 0, 1, ... has STEP * (b + 1) layers",
        )
        group.add_argument(
            "--n_channels",
            type=COUNT,
            default=16,
            help="input channels of a sub-network with gr_factor 1",
        )
        group.add_argument(
            "--growth_rate", type=COUNT, default=6, help="channels that a layer adds"
        )
        group.add_argument(
            "--scale_list", default="1-2-3", help="scale of each sub-network, coarse to fine"
        )
        group.add_argument(
            "--gr_factor", default="4-2-1", help="factor of its channels and growth rate"
        )
        group.add_argument("--bn_factor", default="4-2-1", help="factor of its bottlenecks' width")
        group.add_argument(
            "--compress_factor",
            type=number(float, 0, 1, above=True, below=True),
            default=0.25,
            help="share of new channels that come from the coarser sub-network",
        )

    @classmethod
    def from_settings(cls, settings: dict[str, Any], num_classes: int, size: int) -> RANet:
        plain = dict(settings)
        texts = {f: plain.pop(f) for f in ("scale_list", "gr_factor", "bn_factor")}
        lists = {flag: numbers(text, flag) for flag, text in texts.items()}
        if len({len(values) for values in lists.values()}) > 1:
            flags = ", ".join(f"--{flag} {text}" for flag, text in texts.items())
            raise ValueError(f"{flags}: give the same number of values, one per sub-network")
        scales, compress = lists["scale_list"], plain["compress_factor"]
        if scales[0] != 1 or any(b - a not in (0, 1) for a, b in pairwise(scales)):
            raise ValueError(
                f"--scale_list {texts['scale_list']}: start with 1; each later scale must equal "
                "the previous one or exceed it by 1"
            )
        for s, factor in enumerate(lists["gr_factor"]):
            new = plain["growth_rate"] * factor
            if s and math.floor(new * compress) < 1:
                raise ValueError(
                    f"--compress_factor {compress:g}: this share of the {new} channels that a "
                    f"layer of sub-network {s} adds rounds down to 0; give a larger share or a "
                    "larger --growth_rate"
                )
        check_size(size, {"": 2 ** (scales[-1] - 1)}, f"--scale_list {texts['scale_list']}")
        return cls(
            num_classes,
            scale_list=scales,
            gr_factor=lists["gr_factor"],
            bn_factor=lists["bn_factor"],
            **plain,
        )

    def __init__(
        self,
        num_classes: int,
        *,
        n_blocks: int,
        block_step: int,
        step: int,
        step_mode: str,
        n_channels: int,
        growth_rate: int,
        scale_list: list[int],
        gr_factor: list[int],
        bn_factor: list[int],
        compress_factor: float,
    ):
        super().__init__()
        self.FirstLayer = _FirstLayer([n_channels * g for g in gr_factor], scale_list)
        self.scale_flows, self.classifier = nn.ModuleList(), nn.ModuleList()
        self.plan: list[tuple[int, int, int]] = []  # exit k adds blocks first..last of a flow
        blocks = [n_blocks + s * block_step for s in range(len(scale_list))]
        coarse: list[list[int]] = []  # channels of the maps in each block of the previous flow
        for s, (scale, factor) in enumerate(zip(scale_list, gr_factor, strict=True)):
            halvings = blocks[max(0, s - scale + 1) : s]
            narrowings = [i * blocks[s] // scale for i in range(1, scale)]
            channels, flow, first = n_channels * factor, nn.ModuleList(), 0
            map_channels: list[list[int]] = []
            for b in range(blocks[s]):
                layers = step if step_mode == "even" else step * (b + 1)
                new, narrow = growth_rate * factor, b + 1 in narrowings
                fusion = None
                if b < len(coarse):
                    halve = b + 1 in halvings
                    fusion = _Fusion(coarse[b], bn_factor[s - 1], compress_factor, halve)
                block = _Block(channels, layers, new, bn_factor[s], narrow, fusion)
                if fusion is None:
                    self.classifier.append(Head(block.channels, CIFAR_HEAD, num_classes))
                    self.plan.append((s, first, b))
                    first = b + 1
                flow.append(block)
                channels = block.channels
                map_channels.append(block.map_channels)
            self.scale_flows.append(flow)
            coarse = map_channels
        self.num_exits = len(self.plan)
        initialise(self)

    def block(self, k: int, state: State) -> State:
        """State: [last map, maps of each block for the next flow, inputs of later flows].

        In the last flow the second and third entries are empty. The first exit of a flow also
        computes the flow's fused blocks.
        """
        s, first, last = self.plan[k]
        x: State
        features: list[State]
        if k == 0:
            x, features, inputs = state, [], self.FirstLayer(tensor_of(state))
        else:
            x, block_maps, later_inputs = state
            features, inputs = list(block_maps), maps_of(later_inputs)
        coarse: list[list[Tensor]] = []
        if first == 0:
            x, *inputs = inputs
            coarse, features = [maps_of(maps) for maps in features], []
        for b in range(first, last + 1):
            block = self.get_submodule(f"scale_flows.{s}.{b}")
            x, maps = block(x, coarse[b]) if b < len(coarse) else block(x)
            if inputs:
                features = [*features, maps]
        return [x, features, [*inputs]]

    def head(self, k: int, state: State) -> Tensor:
        return self.classifier[k](tensor_of(state[0]))


class _FirstLayer(nn.Module):
    """Maps an image to the inputs of all flows, coarse to fine, each from the next finer one."""

    def __init__(self, channels: list[int], scale_list: list[int]):
        super().__init__()
        self.layers = nn.ModuleList([Conv(3, channels[-1])])
        for s in reversed(range(len(channels) - 1)):
            stride = 2 if scale_list[s] < scale_list[s + 1] else 1
            self.layers.append(Conv(channels[s + 1], channels[s], stride=stride))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            maps.insert(0, x)
        return maps


class _Fusion(NamedTuple):
    """How a block fuses the maps of the same block of the coarser flow."""

    channels: list[int]  # of the input of each layer of the coarser block, then of its output
    width: int  # bottleneck width, as a multiple of the output channels
    share: float  # of the channels a layer adds, and of the block's output, that come from it
    halve: bool  # the last layer halves height and width


class _Block(nn.Module):
    """Dense layers that add `new` channels each; with fusion, some come from the coarser flow.

    With fusion, `conv_last`, a 1x1 convolution of the coarser block's output, is appended. If
    `narrow`, `trans`, a 1x1 convolution, halves the channels. width: bottleneck width, as a
    multiple of the output channels.
    """

    def __init__(
        self,
        channels: int,
        layers: int,
        new: int,
        width: int,
        narrow: bool,
        fusion: _Fusion | None = None,
    ):
        super().__init__()
        self.map_channels = [channels + i * new for i in range(layers + 1)]
        self.channels = self.map_channels[-1]  # of the output
        self.low = fusion.channels if fusion else []
        self.layers = nn.ModuleList()
        for i in range(layers):
            conv_up, up, stride = None, 0, 1
            if fusion:
                up = math.floor(new * fusion.share)
                conv_up = Bottleneck(fusion.channels[i], up, fusion.width)
                stride = 2 if fusion.halve and i == layers - 1 else 1
            conv_normal = Bottleneck(self.map_channels[i], new - up, width, stride)
            self.layers.append(_DenseLayer(conv_normal, conv_up))
        if fusion:
            up = math.floor(self.channels * fusion.share)
            self.conv_last = Conv(fusion.channels[-1], up, kernel=1)
            self.channels += up
        self.trans: nn.Module = nn.Identity()
        if narrow:
            wide, self.channels = self.channels, math.floor(self.channels * REDUCTION)
            self.trans = Conv(wide, self.channels, kernel=1)

    def forward(self, x: Tensor, low: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Returns (output map, this block's maps, which the next flow takes as `low`).

        These maps hold the input and output of every layer. A layer's output begins with the
        channels of its input, so one map is enough, or two if the last layer halves the size.
        """
        maps = []
        for i, layer in enumerate(self.layers):
            extended = layer(x, low[0][:, : self.low[i]] if low else None)
            if extended.shape[-2:] != x.shape[-2:]:
                maps.append(x)
            x = extended
        maps.append(x)
        if low:
            x = torch.cat([x, _resize(self.conv_last(low[-1]), x)], dim=1)
        return self.trans(x), maps


class _DenseLayer(nn.Module):
    """Concatenates the map, features of the coarser flow's map (if any) and new features of it."""

    def __init__(self, conv_normal: Bottleneck, conv_up: Bottleneck | None):
        super().__init__()
        self.conv_up = conv_up
        self.conv_normal = conv_normal

    def forward(self, x: Tensor, coarser: Tensor | None) -> Tensor:
        """[B, C, H, W] to [B, C + new, H', W']; all parts take the size of the new features."""
        new = self.conv_normal(x)
        parts = [_resize(x, new)]
        if self.conv_up is not None:
            parts.append(_resize(self.conv_up(coarser), new))
        return torch.cat([*parts, new], dim=1)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    """Resizes x to the height and width of `like`, bilinear with aligned corners."""
    # Neither aligned corners nor the order of concatenation changes a shape or a count. Checked
    # against the release: with its weights copied, the logits agree exactly (difference 0.0).
    size = like.shape[-2:]
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=True)
