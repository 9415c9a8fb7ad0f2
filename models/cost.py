"""What a network costs a device: parameters and multiply-adds.

Everywhere in this project a multiply-add is one of a convolution or a matrix product, attention's
included, and nothing else counts: no bias, normalisation, activation, pooling or resizing. The
releases of the early-exit papers count a little more, and their published budgets are in that unit:
`release_multiply_adds`.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.attention import plain_attention
from models.exit_net import ExitNet, State


def parameters(net: nn.Module) -> int:
    """Number of parameters, whether trained or not."""
    return sum(p.numel() for p in net.parameters())


def multiply_adds(net: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of net(*inputs) in eval mode; give a batch of one.

    As torch.utils.flop_counter counts them, halved. The mode that the net was in is restored.
    """
    with _counting(net) as counter:
        net(*inputs)
    return counter.get_total_flops() // 2


def exit_multiply_adds(net: ExitNet, inputs: Tensor) -> list[int]:
    """Multiply-adds up to and including each exit, all earlier heads included, [E].

    Counted as in `multiply_adds`; give a batch of one, as `net.example` does. The last is that of
    the whole network.
    """
    return _at_exits(net, inputs)


def release_multiply_adds(net: ExitNet, inputs: Tensor) -> list[int]:
    """`exit_multiply_adds` in the unit of the releases of MSDNet, RANet, L2W and Boosted, [E].

    On top of convolutions and linear layers they count an operation for each value that a ReLU
    gives, k * k for each that a pooling of width k gives, and the biases of linear layers. For
    MSDNet and RANet, whose activations are modules: 0.2 to 1.2 % more on those of the papers.
    """
    more = 0

    def count(layer: nn.Module, _, out: Tensor) -> None:
        nonlocal more
        if isinstance(layer, nn.ReLU):
            more += out.numel()
        elif isinstance(layer, (nn.AvgPool2d, nn.MaxPool2d)):
            width = layer.kernel_size
            more += out.numel() * (width**2 if isinstance(width, int) else math.prod(width))
        elif isinstance(layer, nn.Linear):
            more += layer.bias.numel()

    hooks = [layer.register_forward_hook(count) for layer in net.modules()]
    try:
        return _at_exits(net, inputs, lambda: more)
    finally:
        for hook in hooks:
            hook.remove()


def _at_exits(net: ExitNet, inputs: Tensor, more: Callable[[], int] = lambda: 0) -> list[int]:
    """Multiply-adds, and `more` beside them, up to and including each exit, [E]."""
    totals: list[int] = []
    state: State = inputs
    with _counting(net) as counter:
        for k in range(net.num_exits):
            state = net.block(k, state)
            net.head(k, state)
            totals.append(counter.get_total_flops() // 2 + more())
    return totals


@contextmanager
def _counting(net: nn.Module) -> Iterator[FlopCounterMode]:
    """Count all that is computed inside, with `net` in eval mode and no gradients.

    Attention has to be plain: the counter of torch 2.15 misses the kernel that
    nn.MultiheadAttention uses in eval mode on the CPU, and counts 2,327,168 of a ViT's 5,538,688.
    Older versions also miss the CPU's scaled_dot_product_attention.
    """
    modes = {module: module.training for module in net.modules()}
    try:
        net.eval()
        with torch.no_grad(), plain_attention(), FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        for module, mode in modes.items():
            module.training = mode
