"""Multi-scale dense networks (MSDNet; Huang et al., ICLR 2018, arXiv 1703.09844).

The configurations of L2W (Han et al., 2022) and of Boosted Dynamic Networks (Yu et al., 2023), with
the parameter names of their published checkpoints.
"""

from __future__ import annotations

import argparse
import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from experiment import number
from models.dense_layers import Bottleneck, Conv, Head, check_size, initialise, numbers
from models.exit_net import ExitNet, State, maps_of

STEMS = ("auto", "cifar", "imagenet")
LARGE_IMAGES = 96  # px; from this size on `auto` uses ImageNet's first layer and heads
CIFAR_HEAD = 128  # channels
COUNT = number(int, 1)  # an argparse type


class MSDNet(ExitNet):
    """Every layer extends maps of S scales, fine to coarse; exits classify the coarsest map.

    Layers are numbered n = 1..L across all blocks; `_scales` gives the number of scales that each
    layer computes. Parameters at 32 px, 10 classes, defaults: 1,892,990; exits after 14,955,776,
    24,081,920, 32,377,600, 39,532,544 and 47,373,568 multiply-adds.
    """

    @staticmethod
    def add_flags(group: argparse._ArgumentGroup) -> None:
        group.add_argument("--n_blocks", type=COUNT, default=5, help="number of exits")
        group.add_argument("--base", type=COUNT, default=4, help="layers of the first block")
        group.add_argument("--step", type=COUNT, default=2, help="layers of each later block")
        group.add_argument(
            "--step_mode",
            choices=("even", "lin_grow"),
            default="even",
            help="lin_grow: block k = 0, 1, ... has STEP * k + 1 layers",
        )
        group.add_argument(
            "--n_channels", type=COUNT, default=16, help="channels of the first layer"
        )
        group.add_argument(
            "--growth_rate", type=COUNT, default=6, help="channels that a layer adds"
        )
        group.add_argument(
            "--gr_factor", default="1-2-4", help="factor of each scale's growth rate"
        )
        group.add_argument(
            "--bn_factor", default="1-2-4", help="factor of each scale's bottleneck width"
        )
        group.add_argument(
            "--prune",
            choices=("max", "min"),
            default="max",
            help="max: drop a scale after each 1/S of the depth; min: if no exit needs it",
        )
        group.add_argument(
            "--reduction",
            type=number(float, 0, 1),
            default=0.5,
            help="share of the channels that transitions keep; 0: no transitions",
        )
        group.add_argument(
            "--stem",
            choices=STEMS,
            default="auto",
            help=f"type of first layer and heads; auto: imagenet from {LARGE_IMAGES} px on",
        )

    @classmethod
    def from_settings(cls, settings: dict[str, Any], num_classes: int, size: int) -> MSDNet:
        small = dict(settings)
        scales = f"--gr_factor {small['gr_factor']}"
        growth, width = (numbers(small.pop(f), f) for f in ("gr_factor", "bn_factor"))
        if len(growth) != len(width):
            raise ValueError(
                f"--gr_factor has {len(growth)} scales and --bn_factor {len(width)}: give the "
                "same number"
            )
        odd = [g for g in growth[1:] if small["growth_rate"] * g % 2]
        if odd:
            raise ValueError(
                f"--growth_rate {small['growth_rate']} times {odd[0]} is odd, but half of "
                "these channels come from each of two scales: give an even --growth_rate, or even "
                "factors after the first"
            )
        if (stem := small.pop("stem")) == "auto":
            stem = "imagenet" if size >= LARGE_IMAGES else "cifar"
        # ImageNet's first layer shrinks images by a further factor of 4. The error message lists
        # the stem that is built first.
        shrink = {"cifar": 2 ** (len(growth) - 1), "imagenet": 4 * 2 ** (len(growth) - 1)}
        stems = sorted(shrink, key=lambda name: name != stem)
        check_size(size, {f" with --stem {name}": shrink[name] for name in stems}, scales)
        return cls(
            num_classes, gr_factor=growth, bn_factor=width, imagenet=stem == "imagenet", **small
        )

    def __init__(
        self,
        num_classes: int,
        *,
        n_blocks: int,
        base: int,
        step: int,
        step_mode: str,
        n_channels: int,
        growth_rate: int,
        gr_factor: list[int],
        bn_factor: list[int],
        prune: str,
        reduction: float,
        imagenet: bool,
    ):
        super().__init__()
        self.num_exits = n_blocks
        steps = [base] + [step if step_mode == "even" else step * k + 1 for k in range(1, n_blocks)]
        total, scales = sum(steps), len(gr_factor)
        channels = n_channels  # of a scale with factor 1; others have a multiple
        first = _FirstLayer([channels * g for g in gr_factor], imagenet)
        self.blocks, self.classifier = nn.ModuleList(), nn.ModuleList()
        n = 0
        for k in range(n_blocks):
            layers: list[nn.Module] = [first] if k == 0 else []
            for _ in range(steps[k]):
                n += 1
                have, left = _scales(prune, n, total, scales)
                layers.append(_Layer(channels, growth_rate, gr_factor, bn_factor, have, left))
                channels += growth_rate
                if reduction and _narrows(prune, n, total, have, left):
                    narrow = math.floor(reduction * channels)
                    if not narrow:
                        raise ValueError(f"--reduction {reduction:g} of {channels} channels is 0")
                    factors = gr_factor[scales - left :]
                    layers.append(_Transition(channels, narrow, factors))
                    channels = narrow
            self.blocks.append(nn.Sequential(*layers))
            wide = channels * gr_factor[-1]
            self.classifier.append(Head(wide, wide if imagenet else CIFAR_HEAD, num_classes))
        initialise(self)

    def block(self, k: int, state: State) -> State:
        return self.blocks[k](state)

    def head(self, k: int, state: State) -> Tensor:
        return self.classifier[k](maps_of(state)[-1])


def _scales(prune: str, n: int, total: int, scales: int) -> tuple[int, int]:
    """The number of (coarsest) scales in the input and in the output of layer n = 1..total.

    max: one fewer after each 1/S of all layers. min: only the scales from which the last exit can
    still be reached, since each later layer moves features one scale coarser.
    """
    if prune == "min":
        return min(scales, total - n + 2), min(scales, total - n + 1)
    every = math.ceil(total / scales)
    return scales - max(0, n - 2) // every, scales - (n - 1) // every


def _narrows(prune: str, n: int, total: int, have: int, left: int) -> bool:
    """Whether a transition follows layer n: where a scale is dropped (max), or at 1/3 and 2/3."""
    return n in (total // 3, 2 * total // 3) if prune == "min" else have > left


class _FirstLayer(nn.Module):
    """Maps an image to maps of every scale, each computed from the finer one."""

    def __init__(self, channels: list[int], imagenet: bool):
        super().__init__()
        if imagenet:
            finest: nn.Module = nn.Sequential(
                nn.Conv2d(3, channels[0], 7, 2, 3),
                nn.BatchNorm2d(channels[0]),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(3, 2, 1),
            )
        else:
            finest = Conv(3, channels[0])
        self.layers = nn.ModuleList([finest])
        self.layers.extend(Conv(fine, coarse, stride=2) for fine, coarse in pairwise(channels))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps


class _Layer(nn.Module):
    """Appends to every scale's map new features of this map and of the next finer one.

    channels: of the map with factor 1. The input has `have` scales, the output the `left` coarsest
    of them; a dropped scale still feeds the next coarser one.
    """

    def __init__(
        self,
        channels: int,
        growth: int,
        gr_factor: list[int],
        bn_factor: list[int],
        have: int,
        left: int,
    ):
        super().__init__()
        self.layers = nn.ModuleList()
        finest_in, finest = len(gr_factor) - have, len(gr_factor) - left
        for s in range(finest, len(gr_factor)):
            new = growth * gr_factor[s]
            down = None
            if s > finest_in:
                new //= 2
                finer = channels * gr_factor[s - 1]
                down = Bottleneck(finer, new, bn_factor[s - 1], stride=2)
            normal = Bottleneck(channels * gr_factor[s], new, bn_factor[s])
            self.layers.append(_Scale(normal, down))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        dropped = len(maps) - len(self.layers)
        finer = [None, *maps[:-1]]  # of each map, the one a scale finer
        return [layer(maps[s], finer[s]) for s, layer in enumerate(self.layers, start=dropped)]


class _Scale(nn.Module):
    """One scale of a layer: the map, features of the finer map (if any) and of the map itself."""

    def __init__(self, normal: Bottleneck, down: Bottleneck | None):
        super().__init__()
        self.conv_down = down
        self.conv_normal = normal

    def forward(self, x: Tensor, finer: Tensor | None) -> Tensor:
        parts = [x] if self.conv_down is None else [x, self.conv_down(finer)]
        return torch.cat([*parts, self.conv_normal(x)], dim=1)


class _Transition(nn.Module):
    """A 1x1 convolution on every scale that reduces the channels."""

    def __init__(self, channels: int, narrow: int, factors: list[int]):
        super().__init__()
        self.m = nn.ModuleList(Conv(channels * f, narrow * f, kernel=1) for f in factors)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [conv(x) for conv, x in zip(self.m, maps, strict=True)]
