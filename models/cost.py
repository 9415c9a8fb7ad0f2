"""What a network costs a device: parameters and multiply-adds."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(net: nn.Module) -> int:
    """Number of parameters, whether trained or not."""
    return sum(p.numel() for p in net.parameters())


def multiply_adds(net: nn.Module, *shape: int) -> int:
    """Multiply-adds of one forward on an input of `shape` (without the batch), in eval mode.

    Convolutions and matrix products as torch.utils.flop_counter counts them, halved: no bias,
    normalisation, activation or pooling. The mode that the net was in is restored.
    """
    mode, device = net.training, next(net.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.zeros(1, *shape, device=device))
    net.train(mode)
    return counter.get_total_flops() // 2
