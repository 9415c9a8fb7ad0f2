"""L2W's meta-gradient (Han et al., ECCV 2022, section 3.2) without a double backward, and exact.

The pseudo-step theta' = SGD(theta, grad of sum_k mean_i W_ik CE_ik) is linear in the weights W: the
new gradient enters theta' with factor lr, times (1 + momentum) with nesterov, whatever momentum and
weight decay add. So for a meta loss M at theta', with v = dM / dtheta',

    dM / dW_ik  =  - lr (1 + momentum [nesterov]) / B  <v, grad_theta CE_ik(theta)>

and all B x E inner products are one forward pass of the per-sample losses in forward mode along v.
AdamW's step is not linear in the gradient but goes element by element: there v is multiplied by the
step's own derivative (`through_step`), and the rest is the same.
The authors' way, a backward pass through the pseudo-step's backward pass, gives the same numbers
from a graph that is several times larger (benchmarks/meta_gradient.py).
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, jvp
from torch.optim import SGD, AdamW

from experiment import set_random_state

Tensors = dict[str, Tensor]


@torch.no_grad()
def pseudo_step(params: Tensors, gradients: Tensors, optimizer: SGD | AdamW) -> Tensors:
    """The parameters after the next step of `optimizer`, without taking that step.

    params and gradients by name; one parameter group. Returns new tensors that require grad.
    """
    if isinstance(optimizer, AdamW):
        new = _after_adamw(params, gradients, optimizer)
    else:
        new = _after_sgd(params, gradients, optimizer)
    return {name: p.requires_grad_() for name, p in zip(params, new, strict=True)}


def _after_sgd(params: Tensors, gradients: Tensors, optimizer: SGD) -> list[Tensor]:
    group, old = optimizer.param_groups[0], list(params.values())
    d = torch._foreach_add(list(gradients.values()), old, alpha=group["weight_decay"])
    if group["momentum"]:
        buffers = (optimizer.state[p].get("momentum_buffer") for p in old)
        zero = old[0].new_zeros(())  # before the first step, and where there was no gradient
        before = [zero.expand_as(p) if m is None else m for p, m in zip(old, buffers, strict=True)]
        new = torch._foreach_add(d, before, alpha=group["momentum"])
        d = torch._foreach_add(d, new, alpha=group["momentum"]) if group["nesterov"] else new
    # Not as `alpha`, which is a number: a CUDA graph reads the learning rate from a tensor.
    return list(torch._foreach_sub(old, torch._foreach_mul(d, group["lr"])))


def _after_adamw(params: Tensors, gradients: Tensors, optimizer: AdamW) -> list[Tensor]:
    group, t, stepped = optimizer.param_groups[0], _steps(optimizer) + 1, []
    for name, p in params.items():
        step = _adam_step(p, gradients[name], optimizer, t)
        new = p.mul(1 - group["lr"] * group["weight_decay"])
        stepped.append(new.addcdiv_(step.average, step.spread, value=-step.size))
    return stepped


@torch.no_grad()
def through_step(
    along: Tensors, params: Tensors, gradients: Tensors, optimizer: SGD | AdamW
) -> Tensors:
    """d M / d gradients from along = d M / d theta', theta' = pseudo_step(params, gradients).

    Both optimizers step element by element, so each entry of `along` has one factor. For SGD it is
    -lr, times 1 + momentum with nesterov. AdamW's step is - size m / s, where m and
    s = sqrt(v / (1 - beta_2^t)) + eps depend on the new gradient g; its factor is

        - size [ (1 - beta_1) / s  -  m (1 - beta_2) g / (s^2 sqrt(v (1 - beta_2^t))) ]
    """
    group = optimizer.param_groups[0]
    if not isinstance(optimizer, AdamW):
        factor = -group["lr"] * (1 + (group["momentum"] if group["nesterov"] else 0))
        return dict(zip(along, torch._foreach_mul(list(along.values()), factor), strict=True))
    (beta_1, beta_2), slopes, t = group["betas"], {}, _steps(optimizer) + 1
    for name, p in params.items():
        step = _adam_step(p, gradients[name], optimizer, t)
        # Where all gradients were 0 so far the root is 0, and so are m and g.
        root = (step.spread - group["eps"]) * step.correction
        bend = step.average * gradients[name] / root.masked_fill(root == 0, 1)
        slope = (1 - beta_1) - bend * (1 - beta_2) / step.spread
        slopes[name] = along[name] * slope / step.spread * -step.size
    return slopes


class _AdamStep(NamedTuple):
    """The change of p, - size * average / spread; correction is 1 - beta_2^t."""

    average: Tensor
    spread: Tensor
    size: float
    correction: float


def _steps(optimizer: AdamW) -> int:
    """How many steps AdamW has taken. Read once a pass, since it may wait for the device."""
    return int(next((state.get("step", 0) for state in optimizer.state.values()), 0))


def _adam_step(p: Tensor, gradient: Tensor, optimizer: AdamW, t: int) -> _AdamStep:
    """Step t of parameter p, counted from 1."""
    group, state = optimizer.param_groups[0], optimizer.state[p]
    beta_1, beta_2 = group["betas"]
    average, square = (1 - beta_1) * gradient, (1 - beta_2) * gradient.square()
    if state:
        average = average.add_(state["exp_avg"], alpha=beta_1)
        square = square.add_(state["exp_avg_sq"], alpha=beta_2)
    correction = 1 - beta_2**t
    spread = (square / correction).sqrt_().add_(group["eps"])
    return _AdamStep(average, spread, group["lr"] / (1 - beta_1**t), correction)


def inner_products(losses: Callable[[Tensors], Tensor], params: Tensors, along: Tensors) -> Tensor:
    """<along, grad_params losses_ik> for every entry of losses(params), [B, E], in one pass.

    `losses` is computed once, in forward mode, and no graph is kept.
    """
    if torch.compiler.is_compiling():  # torch.compile traces jvp, but not the dual tensors below
        return jvp(losses, (params,), (along,))[1]
    with torch.no_grad(), forward_ad.dual_level(), warnings.catch_warnings():
        # The first dual tensor makes torch script its decompositions: a deprecation of its own.
        warnings.simplefilter("ignore", FutureWarning)
        dual = {name: forward_ad.make_dual(p, along[name]) for name, p in params.items()}
        return forward_ad.unpack_dual(losses(dual)).tangent


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Inside, CUDA convolutions compute in float32 instead of TF32, the default.

    With operands rounded to TF32's 10 bits (emulated on a CPU: MSDNet with 5 exits at its random
    start, halves of 16) the weight net's gradient has a cosine of -0.03 to that of float64; in
    float32 the cosine is 0.9999.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def call(net: nn.Module, params: Tensors, images: Tensor) -> list[Tensor]:
    """net(images) at other parameters, without updating its running statistics."""
    buffers = {name: b.clone() for name, b in net.named_buffers()}
    return functional_call(net, {**params, **buffers}, (images,))


@contextlib.contextmanager
def same_dropout(state: list[Tensor], device: torch.device) -> Iterator[None]:
    """Inside, random numbers repeat from `state`; on leaving, the generators continue as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        set_random_state(state, device)
        yield
