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
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, jvp
from torch.optim import Optimizer

Tensors = dict[str, Tensor]


@torch.no_grad()
def pseudo_step(params: Tensors, gradients: Tensors, optimizer: Optimizer) -> Tensors:
    """What the next step of `optimizer`, SGD or AdamW, would make of params, without taking it.

    params and gradients by name; one parameter group. Gives new tensors that require grad.
    """
    adam = isinstance(optimizer, torch.optim.AdamW)
    new = (_after_adamw if adam else _after_sgd)(params, gradients, optimizer)
    return {name: p.requires_grad_() for name, p in zip(params, new, strict=True)}


def _after_sgd(params: Tensors, gradients: Tensors, optimizer: torch.optim.SGD) -> list[Tensor]:
    group, old = optimizer.param_groups[0], list(params.values())
    d = torch._foreach_add(list(gradients.values()), old, alpha=group["weight_decay"])
    if group["momentum"]:
        buffers = (optimizer.state[p].get("momentum_buffer") for p in old)
        nothing = old[0].new_zeros(())  # in the first step, and where there was no gradient
        before = [
            nothing.expand_as(p) if m is None else m for p, m in zip(old, buffers, strict=True)
        ]
        new = torch._foreach_add(d, before, alpha=group["momentum"])
        d = torch._foreach_add(d, new, alpha=group["momentum"]) if group["nesterov"] else new
    # Not as `alpha`: a learning rate that a graph reads is a tensor.
    return torch._foreach_sub(old, torch._foreach_mul(d, group["lr"]))


def _after_adamw(params: Tensors, gradients: Tensors, optimizer: torch.optim.AdamW) -> list[Tensor]:
    group, t, stepped = optimizer.param_groups[0], _steps(optimizer) + 1, []
    for name, p in params.items():
        step = _adam_step(p, gradients[name], optimizer, t)
        new = p.mul(1 - group["lr"] * group["weight_decay"])
        stepped.append(new.addcdiv_(step.average, step.spread, value=-step.size))
    return stepped


@torch.no_grad()
def through_step(
    along: Tensors, params: Tensors, gradients: Tensors, optimizer: Optimizer
) -> Tensors:
    """d M / d gradients from along = d M / d theta', theta' = pseudo_step(params, gradients).

    Both optimizers step element by element, so that each entry of `along` has one factor. SGD:
    -lr, times 1 + momentum with nesterov. AdamW, whose step is - size m / s with m and
    s = sqrt(v / (1 - beta_2^t)) + eps of the new gradient g:

        - size [ (1 - beta_1) / s  -  m (1 - beta_2) g / (s^2 sqrt(v (1 - beta_2^t))) ]
    """
    group = optimizer.param_groups[0]
    if not isinstance(optimizer, torch.optim.AdamW):
        factor = -group["lr"] * (1 + (group["momentum"] if group["nesterov"] else 0))
        return dict(zip(along, torch._foreach_mul(list(along.values()), factor), strict=True))
    (beta_1, beta_2), slopes, t = group["betas"], {}, _steps(optimizer) + 1
    for name, p in params.items():
        step = _adam_step(p, gradients[name], optimizer, t)
        # Where every gradient so far was 0 the root is 0, and so are m and g beside it.
        root = (step.spread - group["eps"]) * step.correction
        bend = step.average * gradients[name] / root.masked_fill(root == 0, 1)
        slope = (1 - beta_1) - bend * (1 - beta_2) / step.spread
        slopes[name] = along[name] * slope / step.spread * -step.size
    return slopes


class _AdamStep(NamedTuple):
    """Where p goes by the step: - size * average / spread; correction is 1 - beta_2^t."""

    average: Tensor
    spread: Tensor
    size: float
    correction: float


def _steps(optimizer: Optimizer) -> int:
    """How many steps Adam has taken: asked once a pass, since the answer may lie on the device."""
    first = next(iter(optimizer.state.values()), {})
    return int(first.get("step", 0))


def _adam_step(p: Tensor, gradient: Tensor, optimizer: torch.optim.AdamW, t: int) -> _AdamStep:
    """Of step t, counted from 1."""
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
    if torch.compiler.is_compiling():  # which follows this, and not what it is made of
        return jvp(losses, (params,), (along,))[1]
    with torch.no_grad(), forward_ad.dual_level(), warnings.catch_warnings():
        # The first dual tensor makes torch script its decompositions, which it calls deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        dual = {name: forward_ad.make_dual(p, along[name]) for name, p in params.items()}
        return forward_ad.unpack_dual(losses(dual)).tangent


@contextlib.contextmanager
def without_tf32():
    """Convolutions on CUDA in float32 and not in TF32, their default there.

    With operands rounded to TF32's 10 bits (emulated on a CPU: MSDNet with 5 exits at its random
    start, halves of 16) the weight net's gradient had a cosine of -0.03 to that of float64, where
    float32's has 0.9999.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


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
