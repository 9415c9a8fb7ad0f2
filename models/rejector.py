"""The rejector r: a LeNet-5 with two outputs, LOCAL and REMOTE, and many of them as one module."""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from models.localnet import LeNet5

LOCAL, REMOTE = 0, 1
CPU_CHUNK = 768  # rejectors times samples


class Rejector(LeNet5):
    """Logits [B, 2] for LOCAL (0) and REMOTE (1); it asks the edge iff logit 1 > logit 0."""

    def __init__(self):
        super().__init__(num_classes=2)


class StackedRejectors(nn.Module):
    """R rejectors evaluated together: every parameter has a leading axis of length R.

    They share no weight, and SGD works element by element, so one step of SGD on the sum of the R
    losses is the step that each would make alone.
    """

    def __init__(self, rejectors: list[nn.Module]):
        super().__init__()
        stacked, buffers = stack_module_state(rejectors)
        if buffers:
            raise ValueError("a rejector with buffers (batch norm) cannot be stacked")
        self.count = len(rejectors)
        self.names = list(stacked)  # parameter names may hold no dot, so they are kept beside
        self.values = nn.ParameterList(stacked.values())
        self._one = [copy.deepcopy(rejectors[0]).to("meta")]  # in a list: not a submodule

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], the same for all, to logits [R, B, 2]."""

        def one(values: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(self._one[0], values, (x,))

        stacked = dict(zip(self.names, self.values, strict=True))
        # On a CPU, so many at once that their activations stay in its cache: of 42 rejectors at
        # batch 128 a step took 1.08 s all at once and 0.72 s in sixes (one core).
        chunk = max(1, CPU_CHUNK // len(images)) if images.device.type == "cpu" else None
        return vmap(one, in_dims=(0, None), chunk_size=chunk)(stacked, images)

    def unstack(self, r: int) -> dict[str, Tensor]:
        """The state dict of rejector r (a copy on the CPU), with `Rejector`'s names."""
        values = zip(self.names, self.values, strict=True)
        return {name: value[r].detach().cpu().clone() for name, value in values}


def new_rejectors(count: int, seed: int) -> StackedRejectors:
    """`count` rejectors with the same initial weights, which depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = Rejector()
    return StackedRejectors([first] * count)
