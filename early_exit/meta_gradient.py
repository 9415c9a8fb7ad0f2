"""L2W's meta-gradient (Han et al., ECCV 2022, section 3.2) without a double backward, and exact.

The pseudo-step theta' = SGD(theta, grad of sum_k mean_i W_ik CE_ik) is linear in the weights W: the
new gradient enters theta' with factor lr, times (1 + momentum) with nesterov, whatever momentum and
weight decay add. So for a meta loss M at theta', with v = dM / dtheta',

    dM / dW_ik  =  - lr (1 + momentum [nesterov]) / B  <v, grad_theta CE_ik(theta)>

and all B x E inner products are one forward pass of the per-sample losses in forward mode along v.
The authors' way, a backward pass through the pseudo-step's backward pass, gives the same numbers
from a graph that is several times larger (benchmarks/meta_gradient.py).
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call

Tensors = dict[str, Tensor]


def pseudo_step(params: Tensors, gradients: Tensors, optimizer: torch.optim.SGD) -> Tensors:
    """What the next step of `optimizer` would make of params, without taking it.

    params and gradients by name; one parameter group. Gives new tensors that require grad.
    """
    group = optimizer.param_groups[0]
    stepped = {}
    with torch.no_grad():
        for name, p in params.items():
            d = gradients[name].add(p, alpha=group["weight_decay"])
            if group["momentum"]:
                before = optimizer.state[p].get("momentum_buffer")
                buffer = d if before is None else d.add(before, alpha=group["momentum"])
                d = d.add(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer
            stepped[name] = p.sub(d, alpha=group["lr"]).requires_grad_()
    return stepped


def step_factor(optimizer: torch.optim.SGD) -> float:
    """How much of a new gradient a step takes: lr, times 1 + momentum with nesterov."""
    group = optimizer.param_groups[0]
    return group["lr"] * (1 + (group["momentum"] if group["nesterov"] else 0))


def inner_products(losses: Callable[[Tensors], Tensor], params: Tensors, along: Tensors) -> Tensor:
    """<along, grad_params losses_ik> for every entry of losses(params), [B, E], in one pass.

    `losses` is computed once, in forward mode, and no graph is kept.
    """
    with torch.no_grad(), forward_ad.dual_level(), warnings.catch_warnings():
        # The first dual tensor makes torch script its decompositions, which it calls deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        dual = {name: forward_ad.make_dual(p, along[name]) for name, p in params.items()}
        return forward_ad.unpack_dual(losses(dual)).tangent


def call(net: nn.Module, params: Tensors, images: Tensor) -> list[Tensor]:
    """net(images) at other parameters, leaving its running statistics as they are."""
    buffers = {name: b.clone() for name, b in net.named_buffers()}
    return functional_call(net, {**params, **buffers}, (images,))


@contextlib.contextmanager
def same_dropout(state: list[Tensor], device: torch.device):
    """Random numbers as they were at `random_state`; afterwards as if none had been drawn here."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_rng_state(state[0])
        if device.type == "cuda":
            torch.cuda.set_rng_state(state[1], device)
        yield


def random_state(device: torch.device) -> list[Tensor]:
    """For `same_dropout`: the two passes over one half must drop the same units."""
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]
