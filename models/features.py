"""The features that the last layer of any classifier computes the logits from."""

from typing import Any

import torch
from torch import Tensor, nn


def with_features(net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [B, K] of images [B, 3, H, W], and the features [B, D] that they are computed from.

    Features are the input of the last layer with weights that the forward pass reaches: a linear
    layer, or a 1x1 convolution, whose input [B, D, h, w] is averaged over h and w. Both come from
    one forward pass in the mode and type that the net is in; in train mode features are those after
    dropout. ValueError where the last layer is of another kind or its outputs are not the K logits.
    """
    logits, layer, x = _forward(net, images)
    if isinstance(layer, nn.Conv2d):
        x = x.mean(dim=(2, 3))
    return logits, x


def last_layer(net: nn.Module, size: int) -> nn.Linear | nn.Conv2d:
    """The layer that the features of `with_features` go into; its outputs are the K logits.

    size: px of the images [2, 3, size, size] that it is found with, in eval mode; the mode that the
    net was in is restored. ValueError where `with_features` has no features.
    """
    parameter = next(net.parameters(), torch.zeros(0))
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, size, size, generator=generator).to(parameter)
    mode = net.training
    with torch.no_grad():
        _, layer, _ = _forward(net.eval(), images)
    net.train(mode)
    return layer


def _forward(net: nn.Module, images: Tensor) -> tuple[Tensor, nn.Linear | nn.Conv2d, Tensor]:
    """The logits, the last layer with weights that was called, and its input."""
    layer: nn.Module | None = None
    x: Any = None

    def keep(called: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal layer, x
        layer, x = called, inputs[0] if inputs else None

    weighted = [m for m in net.modules() if next(m.parameters(recurse=False), None) is not None]
    hooks = [m.register_forward_pre_hook(keep) for m in weighted]
    try:
        logits = net(images)
    finally:
        for hook in hooks:
            hook.remove()
    if isinstance(layer, nn.Linear) and isinstance(x, Tensor) and x.ndim == 2:
        outputs = layer.out_features
    elif isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1:
        outputs = layer.out_channels
    else:
        outputs = 0
    if isinstance(layer, nn.Linear | nn.Conv2d) and logits.shape == (len(images), outputs):
        return logits, layer, x
    raise ValueError(
        f"features of {type(net).__name__}: its last layer with weights is "
        f"{'none' if layer is None else type(layer).__name__}; it has to be a linear layer or "
        "a 1x1 convolution that gives the logits [B, K]"
    )
