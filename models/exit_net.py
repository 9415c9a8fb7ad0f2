"""The base class of networks with exits: blocks in a row, with a classifier after each.

A new architecture subclasses `ExitNet` and gets a line in models/exit_nets.py; then early_exit can
train it, evaluate it and stop early in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

EQUILIBRIA = ("none", "coarsest", "all")

# What passes from one block to the next: a tensor, or lists of such; axis 0 counts samples.
State = Tensor | list["State"]


class ExitNet(nn.Module):
    """E blocks and E heads: `block` computes what exit k adds to exit k - 1, `head` its logits.

    Exits are counted from 0 here and from 1 in tables. A subclass sets `num_exits` and defines
    `block`, `head`, `add_flags` and `from_settings`. Nothing in a block may mix samples (batch norm
    in train mode aside): a state without some of its samples is the state of the others.
    """

    num_exits: int
    input_size: int | None = None  # px of its images; None: any
    reads = "images"  # or "text": tokens [B, 2, L] (data/text/tokens.py) instead of images
    equilibrium = "all"  # gradient equilibrium that boosted training uses by default

    @staticmethod
    def add_flags(group: argparse._ArgumentGroup) -> None:
        """The flags of this architecture; their values are the `settings` of `from_settings`."""
        raise NotImplementedError

    @classmethod
    def from_settings(cls, settings: dict[str, Any], num_classes: int, size: int) -> ExitNet:
        """The network for images of `size` px. ValueError, one line, for impossible settings."""
        raise NotImplementedError

    def example(self, size: int) -> Tensor:
        """One input of this network, of `size` px or tokens, to count multiply-adds with."""
        return torch.zeros(1, 3, size, size)

    def block(self, k: int, state: State) -> State:
        """From the state after block k - 1 (k = 0: the input) to that after block k."""
        raise NotImplementedError

    def head(self, k: int, state: State) -> Tensor:
        """Logits of exit k, [B, K], from the state after block k."""
        raise NotImplementedError

    def forward(self, images: Tensor, equilibrium: str = "none") -> list[Tensor]:
        """Images [B, 3, H, W], or what else it reads, to the logits of every exit, E times [B, K].

        `equilibrium` (gradient equilibrium, Li et al., ICCV 2019) changes gradients only: those
        that enter block k from exit k are scaled by 1 / (E - k), and those from the E - 1 - k later
        exits by (E - 1 - k) / (E - k). "all": the whole state is scaled, so that every parameter of
        a block gets the mean over its exits. "coarsest": only the map that the heads see is, as in
        the release of Boosted (MSDNet alone: its state is a list of maps, coarsest last).
        "none": gradients add up. The heads' own gradients are never scaled.
        """
        state: State = images
        logits = []
        for k in range(self.num_exits):
            state = self.block(k, state)
            state = _scale_gradients(state, 1 / (self.num_exits - k), equilibrium)
            logits.append(self.head(k, state))
            state = _scale_gradients(state, self.num_exits - 1 - k, equilibrium)
        return logits


def tensor_of(state: State) -> Tensor:
    """A state that is one tensor, as an input is. TypeError for a list."""
    if isinstance(state, list):
        raise TypeError(f"a state of {len(state)} parts where one tensor is expected")
    return state


def maps_of(state: State) -> list[Tensor]:
    """A state that is a list of tensors. TypeError for a single tensor."""
    if not isinstance(state, list):
        raise TypeError("a state of one tensor where a list is expected")
    return [tensor_of(part) for part in state]


def each(function: Callable[[Tensor], Tensor], state: State) -> State:
    """`function` of every tensor of a state, which is not changed itself."""
    return [each(function, s) for s in state] if isinstance(state, list) else function(state)


def has_unused_parameters(net: ExitNet, size: int) -> bool:
    """Whether no exit uses some parameter, as in the last finer maps of a shallow MSDNet."""
    inputs = net.example(size).to(next(net.parameters()).device)
    params = list(net.parameters())
    net.eval()  # so that running statistics do not change
    logits = torch.stack(net(inputs)).sum()
    net.train()
    return any(g is None for g in torch.autograd.grad(logits, params, allow_unused=True))


def keep(state: State, rows: Tensor) -> State:
    """The state of some samples only: rows int64 [M] or bool [B]."""
    return each(lambda x: x[rows], state)


def _scale_gradients(state: State, scale: float, equilibrium: str) -> State:
    if equilibrium == "none":
        return state
    if equilibrium == "coarsest":
        return [*state[:-1], _scale_gradients(state[-1], scale, "all")]
    return each(lambda x: _ScaleGradient.apply(x, scale) if x.is_floating_point() else x, state)


class _ScaleGradient(torch.autograd.Function):
    """x itself, its gradient times `scale`."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient * ctx.scale, None
