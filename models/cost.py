"""What a network costs a device: parameters and multiply-adds."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.attention import plain_attention
from models.exit_net import ExitNet


def parameters(net: nn.Module) -> int:
    """Number of parameters, whether trained or not."""
    return sum(p.numel() for p in net.parameters())


def multiply_adds(net: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of net(*inputs) in eval mode; give a batch of one.

    Convolutions and matrix products, those of attention included, as torch.utils.flop_counter
    counts them, halved: no bias, normalisation, activation or pooling. The mode that the net was in
    is restored.
    """
    with _counting(net) as counter:
        net(*inputs)
    return counter.get_total_flops() // 2


def exit_multiply_adds(net: ExitNet, inputs: Tensor) -> list[int]:
    """Multiply-adds up to and including each exit, all earlier heads included, [E].

    Counted as in `multiply_adds`; give a batch of one, as `net.example` does. The last is that of
    the whole network.
    """
    totals, state = [], inputs
    with _counting(net) as counter:
        for k in range(net.num_exits):
            state = net.block(k, state)
            net.head(k, state)
            totals.append(counter.get_total_flops() // 2)
    return totals


@contextmanager
def _counting(net: nn.Module) -> Iterator[FlopCounterMode]:
    """Count all that is computed inside, with `net` in eval mode and no gradients.

    Attention has to be plain, or some of it is not seen: the counter of torch 2.15 found 2,327,168
    of a ViT's 5,538,688, since it has no formula for the kernel that nn.MultiheadAttention takes in
    eval mode on the CPU. Older ones have none for the CPU's scaled_dot_product_attention either.
    """
    modes = {module: module.training for module in net.modules()}
    try:
        net.eval()
        with torch.no_grad(), plain_attention(), FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        for module, mode in modes.items():
            module.training = mode
