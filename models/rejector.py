"""The rejector r: a LeNet-5 with two outputs, LOCAL and REMOTE, and many of them as one module."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.localnet import LeNet5, resize

LOCAL, REMOTE = 0, 1
CPU_CHUNK = 512  # rejectors times samples


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
            return self._forward(images, [*self.values])
        # On a CPU, so many at once that their activations stay in its cache.
        images = images.contiguous(memory_format=torch.channels_last)
        chunk = max(1, CPU_CHUNK // len(images))
        parts = zip(*(value.split(chunk) for value in self.values), strict=True)
        return torch.cat([self._forward(images, [*part]) for part in parts])

    def _forward(self, images: Tensor, values: list[Tensor]) -> Tensor:
        """LeNet5.forward for the rejectors whose weights are given, each [r, ...]: [r, B, 2]."""
        w = dict(zip(self.names, values, strict=True))
        r, batch = len(values[0]), len(images)
        # All see the same images, so the first convolutions are one with r times the channels.
        x = F.conv2d(images, w["conv1.weight"].flatten(0, 1), w["conv1.bias"].flatten())
        x = F.relu(F.max_pool2d(x, 2))
        x = F.conv2d(x, w["conv2.weight"].flatten(0, 1), w["conv2.bias"].flatten(), groups=r)
        x = F.relu(F.max_pool2d(x, 2))
        x = x.reshape(batch, r, -1).transpose(0, 1)  # [r, B, 400]
        for name in ("fc1", "fc2"):
            x = F.relu(_linear(x, w[f"{name}.weight"], w[f"{name}.bias"]))
        return _linear(x, w["fc3.weight"], w["fc3.bias"])

    def unstack(self, r: int) -> dict[str, Tensor]:
        """The state dict of rejector r (a copy on the CPU), with `Rejector`'s names."""
        values = zip(self.names, self.values, strict=True)
        return {name: value[r].detach().cpu().clone() for name, value in values}


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x [r, B, i], weight [r, o, i], bias [r, o] to [r, B, o]."""
    return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))


def new_rejectors(count: int, seed: int) -> StackedRejectors:
    """`count` rejectors with the same initial weights, which depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = Rejector()
    return StackedRejectors([first] * count)
