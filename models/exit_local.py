"""An exit of a network with exits as the local net of learning to help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.exit_net import ExitNet, State
from models.exit_nets import EXIT_NETS
from models.features import with_features
from models.localnet import LocalNet, resize


class ExitName(NamedTuple):
    """`msdnet:2`, the exit `number` (from 1) of an `arch`; number None: the last, `msdnet:last`."""

    arch: str
    number: int | None

    def __str__(self) -> str:
        return f"{self.arch}:{'last' if self.number is None else self.number}"


def exit_name(text: str) -> ExitName:
    """`msdnet:2` or `msdnet:last` taken apart. ValueError, one line, for what is neither."""
    arch, _, number = text.partition(":")
    images = [name for name, net in EXIT_NETS.items() if net.reads == "images"]
    if arch in EXIT_NETS and arch not in images:
        raise ValueError(
            f"{text!r}: {arch} reads {EXIT_NETS[arch].reads}, and a local net has to read images; "
            f"{', '.join(images)} do"
        )
    counted = number.isdecimal() and int(number) > 0
    if arch not in images or not (counted or number == "last"):
        raise ValueError(
            f"{text!r} is no exit: give NETWORK:NUMBER, as msdnet:2, or NETWORK:last; a network "
            f"is one of {', '.join(images)}, and exits count from 1"
        )
    return ExitName(arch, int(number) if counted else None)


class ExitLocal(LocalNet):
    """Exit `exit` of `net`, counted from 1, on images as learning to help's batches give them.

    Those are (x / 255 - 0.5) / 0.5 of any size, [B, 3, H, W]. They are resized to `size` px and
    normalised with the `mean` and `std` (3 each, in units of 0..1) that the network was trained
    with; that the network itself was given them the other way round changes nothing, as both are
    linear and the resizing's weights sum to 1. The answer is f_k, or with `ensemble_reweight` t > 0
    G_k = f_k + t G_(k-1) (Boosted; Yu et al., AAAI 2023).

    Takes `net` over and removes from it what that exit does not need: all later blocks and heads,
    and for t = 0 the earlier heads. What is left keeps its names, below `net.`. `num_exits` are
    those that the whole network had. ValueError where it has no exit of that number.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        net: ExitNet,
        exit: int,
        *,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        ensemble_reweight: float = 0.0,
    ):
        super().__init__()
        if not 1 <= exit <= net.num_exits:
            raise ValueError(f"exit {exit}: the network has exits 1 to {net.num_exits}")
        self.exit, self.num_exits = exit, net.num_exits
        self.size, self.ensemble_reweight = size, ensemble_reweight
        self.net = net
        # From (v - 0.5) / 0.5 to (v - mean) / std: v is half of what comes in, plus a half.
        center = torch.tensor(mean, dtype=torch.float64).view(1, -1, 1, 1)
        spread = torch.tensor(std, dtype=torch.float64).view(1, -1, 1, 1)
        self.register_buffer("scale", (0.5 / spread).float(), persistent=False)
        self.register_buffer("shift", ((0.5 - center) / spread).float(), persistent=False)
        self._remove_unused()

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] to logits [B, K]."""
        state: State = resize(images, self.size) * self.scale + self.shift
        logits: list[Tensor] = []
        for k in range(self.exit):
            state = self.net.block(k, state)
            if k + 1 < self.exit and not self.ensemble_reweight:
                continue
            f_k = self.net.head(k, state)
            logits.append(f_k + self.ensemble_reweight * logits[-1] if logits else f_k)
        return logits[-1]

    def with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, K], and what the exit's last layer sees, [B, D] (models/features.py).

        Of a boosted exit that makes f_k alone; the features of earlier exits are not among them.
        """
        return with_features(self, images)

    def _remove_unused(self) -> None:
        """Put an nn.Identity, which has no weights, for every module that the exit does without.

        A module is needed if the forward pass calls it or one inside it, or if a weight in it has
        a gradient: nn.MultiheadAttention reads its projection's weight without calling it. A
        gradient alone would not do: the finer maps behind an MSDNet's exit lead nowhere, but its
        block computes them.
        """
        called: set[nn.Module] = set()
        modules = list(self.net.modules())
        hooks = [m.register_forward_pre_hook(lambda m, _: called.add(m)) for m in modules]
        mode, weights = self.net.training, list(self.net.parameters())
        try:
            with torch.enable_grad():
                answer = self.eval()(self.net.example(self.size)).sum()
            gradients = torch.autograd.grad(answer, weights, allow_unused=True)
        finally:
            self.train(mode)
            for hook in hooks:
                hook.remove()
        used = {p for p, gradient in zip(weights, gradients, strict=True) if gradient is not None}

        def needed(module: nn.Module) -> bool:
            reached = not called.isdisjoint(module.modules())
            return reached or not used.isdisjoint(module.parameters())

        for parent in modules:
            for name, child in parent.named_children():
                if not needed(child):
                    setattr(parent, name, nn.Identity())
