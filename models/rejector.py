"""The rejector r: a LeNet-5 with two outputs, LOCAL and REMOTE, and many of them as one module."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.localnet import LeNet5, pooled, resize

LOCAL, REMOTE = 0, 1

# What a CPU takes at a time: 8 rejectors, whose first convolutions have 48 channels, three whole
# vectors of 16, or more where the samples are few; and as many samples as keep the maps in cache.
# 54 rejectors, 250 images, one core beside other work: 317 ms, and from 128 to 768 of CPU_CHUNK not
# told apart; 394 as it was, 2 rejectors and all samples. A step of 42 at batch 16 to 128: 0 to 6 %.
CPU_REJECTORS = 8
CPU_CHUNK = 256  # rejectors times samples


class Rejector(LeNet5):
    """Logits [B, 2] for LOCAL (0) and REMOTE (1); it asks the edge iff logit 1 > logit 0."""

    def __init__(self):
        super().__init__(num_classes=2)


class StackedRejectors(nn.Module):
    """R rejectors evaluated together: every parameter has a leading axis of length R.

    They share no weight, and SGD works element by element, so one step of SGD on the sum of the R
    losses is the step that each would make alone. LeNet-5 written out with grouped convolutions
    and batched matrix products: on a CPU, with its maps channels last, 42 rejectors at batch 128
    take half the time of torch.func.vmap over one (347 against 721 ms a step, one core).
    """

    def __init__(self, rejectors: list[nn.Module]):
        super().__init__()
        if any(not isinstance(net, LeNet5) for net in rejectors):
            raise ValueError("only rejectors that are a LeNet-5 can be stacked")
        states = [net.state_dict() for net in rejectors]
        self.count = len(rejectors)
        self.names = list(states[0])  # parameter names may hold no dot, so they are kept beside
        self.values = nn.ParameterList(torch.stack([s[k] for s in states]) for k in self.names)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], the same for all, to logits [R, B, 2]."""
        images = resize(images, LeNet5.size)
        if images.device.type != "cpu":
            w = dict(zip(self.names, self.values, strict=True))
            return _classified(_maps(images, w), w)
        images = images.contiguous(memory_format=torch.channels_last)
        rejectors = max(CPU_REJECTORS, CPU_CHUNK // len(images))
        samples = images.split(max(1, CPU_CHUNK // min(rejectors, self.count)))
        logits = []
        for values in zip(*(value.split(rejectors) for value in self.values), strict=True):
            w = dict(zip(self.names, values, strict=True))
            maps = [_maps(some, w) for some in samples]
            logits.append(_classified(torch.cat(maps, 1) if len(maps) > 1 else maps[0], w))
        return torch.cat(logits)

    def unstack(self, r: int) -> dict[str, Tensor]:
        """The state dict of rejector r (a copy on the CPU), with `Rejector`'s names."""
        values = zip(self.names, self.values, strict=True)
        return {name: value[r].detach().cpu().clone() for name, value in values}


def _maps(images: Tensor, w: dict[str, Tensor]) -> Tensor:
    """LeNet5's two convolutions for the rejectors of weights w, each [r, ...]: [r, B, 400]."""
    # All see the same images, so the first convolutions are one with r times the channels.
    x = F.conv2d(images, w["conv1.weight"].flatten(0, 1), w["conv1.bias"].flatten())
    weight, bias = w["conv2.weight"], w["conv2.bias"]
    x = F.conv2d(pooled(x), weight.flatten(0, 1), bias.flatten(), groups=len(weight))
    return pooled(x).reshape(len(images), len(weight), -1).transpose(0, 1)


def _classified(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """LeNet5's three layers after its maps x [r, B, 400], to logits [r, B, 2]."""
    for name in ("fc1", "fc2"):
        x = F.relu(_linear(x, w[f"{name}.weight"], w[f"{name}.bias"]))
    return _linear(x, w["fc3.weight"], w["fc3.bias"])


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x [r, B, i], weight [r, o, i], bias [r, o] to [r, B, o]."""
    return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))


def new_rejectors(count: int, seed: int) -> StackedRejectors:
    """`count` rejectors with the same initial weights, which depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = Rejector()
    return StackedRejectors([first] * count)
