"""Logits of a network on all batches of a part."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def predict(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Logits of `net` in eval mode on all batches: [N, K], or [R, N, 2] of stacked rejectors.

    Batches give (rows, images, labels). The mode that the net was in is restored.
    """
    mode = net.training
    net.eval()
    logits = torch.cat([net(images) for _, images, _ in batches], dim=-2)
    net.train(mode)
    return logits
