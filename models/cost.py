"""What a network costs a device: parameters and multiply-adds."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(net: nn.Module) -> int:
    """Number of parameters, whether trained or not."""
    return sum(p.numel() for p in net.parameters())


def multiply_adds(net: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of net(*inputs) in eval mode; give a batch of one.

    Convolutions and matrix products as torch.utils.flop_counter counts them, halved: no bias,
    normalisation, activation or pooling. The mode that the net was in is restored.
    """
    mode = net.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(*inputs)
    net.train(mode)
    return counter.get_total_flops() // 2
