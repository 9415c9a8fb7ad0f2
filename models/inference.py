"""Logits of a network on all batches of a part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def predict(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Logits of `net` in eval mode on all batches: [N, K], or [R, N, 2] of stacked rejectors.

    Batches give (rows, images, labels). The mode that the net was in is restored.
    """
    return predict_each([net], batches)[0]


@torch.no_grad()
def predict_each(
    nets: Sequence[nn.Module], batches: Iterable[tuple[Tensor, Tensor, Tensor]]
) -> list[Tensor]:
    """`predict` of several networks in one pass over the batches."""
    modes = [net.training for net in nets]
    logits: list[list[Tensor]] = [[] for _ in nets]
    for net in nets:
        net.eval()
    for _, images, _ in batches:
        for net, parts in zip(nets, logits, strict=True):
            parts.append(net(images))
    for net, mode in zip(nets, modes, strict=True):
        net.train(mode)
    return [torch.cat(parts, dim=-2) for parts in logits]
