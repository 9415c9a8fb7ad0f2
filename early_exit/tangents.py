"""How a tangent goes through one operation of a pass whose values are known.

One rule an operation of torch's `aten`, as the networks here call them. Any other goes through
torch's own forward mode, it alone. tape.py notes the operations and strings the rules together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

aten = torch.ops.aten
# From the tangents of an operation's tensors, in order, None where there is none, to its outputs'.
Push = Callable[..., Any]
Rule = tuple[Push, Sequence[Tensor]]  # and the tensors of the pass that this reads


class Refused(Exception):
    """There is no derivative to be had this way; the message says why."""


class Call(NamedTuple):
    """One operation as it was called, its tensors in order, and what it gave."""

    operation: Any
    args: tuple
    kwargs: dict[str, Any]
    tensors: list[Tensor]
    found: Any

    def value(self, name: str) -> Any:
        """The argument of that name in the operation's schema, its default if it was not given."""
        for i, argument in enumerate(self.operation._schema.arguments):
            if argument.name == name:
                given = self.args[i] if i < len(self.args) else self.kwargs.get(name)
                return argument.default_value if given is None else given
        raise KeyError(name)

    def anew(self, operation: Any = None) -> Callable[..., Any]:
        """The operation, or another, as a function of its tensors alone; it holds none of them."""
        args = [_hollow(x) for x in self.args]
        kwargs = {name: _hollow(x) for name, x in self.kwargs.items()}
        run = operation or self.operation

        def on(*tensors):
            others = iter(tensors)
            filled = [_fill(x, others) for x in args]
            return run(*filled, **{name: _fill(x, others) for name, x in kwargs.items()})

        return on


_HERE = object()  # where a tensor stood


def _hollow(x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        return [_hollow(y) for y in x]
    return _HERE if isinstance(x, Tensor) else x


def _fill(x: Any, tensors: Any) -> Any:
    if isinstance(x, list):
        return [_fill(y, tensors) for y in x]
    return next(tensors) if x is _HERE else x


def tensors_of(args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors among the arguments of an operation, in order; lists are one deep."""
    found = []
    for x in (*args, *kwargs.values()):
        if isinstance(x, Tensor):
            found.append(x)
        elif isinstance(x, (list, tuple)):
            found += [y for y in x if isinstance(y, Tensor)]
    return found


def each(found: Any) -> Sequence[Any]:
    """What an operation gave, as a sequence."""
    return found if isinstance(found, (tuple, list)) else (found,)


def rule(call: Call) -> Rule:
    """How tangents go through a call. Raises Refused where that cannot be known."""
    operation = call.operation
    if operation in _RULES:
        return _RULES[operation](call)
    if operation._schema.is_mutable:
        raise Refused("changes its input")
    if torch.Tag.nondeterministic_seeded in operation.tags or "batch_norm" in operation.name():
        raise Refused("cannot be computed again")  # it draws numbers, or moves its statistics
    return _by_forward_mode(call)


def _by_forward_mode(call: Call) -> Rule:
    """Any other operation: it is computed again, with torch's own derivative."""
    return _dual(call.anew(), call.tensors), call.tensors


def _dual(function: Callable[..., Any], tensors: list[Tensor]) -> Push:
    def push(*tangents):
        with forward_ad.dual_level():
            dual = [
                x if t is None else forward_ad.make_dual(x.detach(), t)
                for x, t in zip(tensors, tangents, strict=True)
            ]
            try:
                found = function(*dual)
            except NotImplementedError as e:  # what torch says where it has no forward mode
                raise Refused(str(e)) from e
            return [forward_ad.unpack_dual(x).tangent for x in each(found)]

    return push


def _linear(call: Call, operation: Any = None) -> Rule:
    """Linear in all its tensors together: the operation, or its like out of place, on tangents."""
    again, shapes = call.anew(operation), [x.shape for x in call.tensors]

    def push(*tangents):
        if None in tangents:
            like = next(t for t in tangents if t is not None)
            tangents = [
                like.new_zeros(()).expand(shape) if t is None else t
                for t, shape in zip(tangents, shapes, strict=True)
            ]
        return again(*tangents)

    return push, ()


def _reshaped(call: Call) -> Rule:
    shape = call.args[1]  # a view; the tangent may lie in memory in another order
    return lambda t: t.reshape(shape), ()


def _sum(call: Call) -> Rule:
    operation = aten.sub.Tensor if call.operation is aten.sub.Tensor else aten.add.Tensor
    if not isinstance(call.args[1], Tensor):  # a number has no tangent
        call = call._replace(args=(call.args[0], 0))
    return _linear(call, operation)


def _product(call: Call) -> Rule:
    """Elements or matrices: x'y + xy'."""
    (x, y), multiply = call.tensors, call.operation
    x_read, y_read = x if y.requires_grad else None, y if x.requires_grad else None

    def push(dx, dy):
        parts = [] if dx is None else [multiply(dx, y_read)]
        return sum(parts if dy is None else [*parts, multiply(x_read, dy)])

    return push, [t for t in (x_read, y_read) if t is not None]


def _linear_layer(call: Call) -> Rule:
    """addmm(b, x, w) = b + x w."""
    if call.kwargs:
        return _by_forward_mode(call)
    _, x, w = call.tensors

    def push(db, dx, dw):
        found = 0 if dw is None else x @ dw
        found = found if dx is None else found + dx @ w
        return found if db is None else found + db

    return push, (x, w)


def _convolution(call: Call) -> Rule:
    """conv(x', w) + conv(x, w') + b'.

    As one convolution of both over twice the channels it took 1.2 times as long, and as long in
    channels last (MSDNet's layers on one core, oneDNN).
    """
    x, w, bias, *how = call.args

    def push(*tangents):
        dx, dw, db = (*tangents, None)[:3] if bias is None else tangents
        if dw is None:
            found = aten.convolution(dx, w, None, *how)
            return found if db is None else found + db.view(-1, *[1] * (found.ndim - 2))
        found = aten.convolution(x, dw, db, *how)
        return found if dx is None else found.add_(aten.convolution(dx, w, None, *how))

    return push, (x, w)


def _batch_norm(call: Call) -> Rule:
    """Of train mode: y = g z + b with z = (x - mean) / std, the statistics those of x.

    The derivative along x' is g / std (x' - mean(x') - z mean(z x')), the same map that takes the
    gradient of y to that of x: torch's fused kernel for the backward pass is it. Then z g' + b'.
    """
    x, scale, _, mean, var, training, _, eps = call.args
    _, batch_mean, inverse_std, *_ = call.found
    if not training or len(call.tensors) != 5 or scale is None:
        raise Refused("is not batch norm in train mode, with weights and running statistics")

    def push(dx, dscale, dshift, *_):
        spread = inverse_std**-2  # of the batch, eps included
        found = aten.native_batch_norm(x, dscale, dshift, batch_mean, spread, False, 0.0, 0.0)[0]
        if dx is None:
            return found
        statistics = mean, var, batch_mean, inverse_std
        moved = aten.native_batch_norm_backward(
            dx, x, scale, *statistics, True, eps, [True, False, False]
        )[0]
        return found.add_(moved)

    return push, (x, scale, batch_mean, inverse_std)


def _relu(call: Call) -> Rule:
    out = call.found
    return lambda t: aten.threshold_backward(t, out, 0), (out,)


def _gelu(call: Call) -> Rule:
    x, approximate = call.args[0], call.value("approximate")
    return lambda t: aten.gelu_backward(t, x, approximate=approximate), (x,)


def _softmax(call: Call) -> Rule:
    out, dim = call.found, call.args[1]
    # Its Jacobian is symmetric, so that forward and backward are one.
    return lambda t: aten._softmax_backward_data(t, out, dim, out.dtype), (out,)


def _dropout(call: Call) -> Rule:
    share, (_, mask) = call.args[1], call.found
    if not call.value("train"):
        return lambda t: t, ()
    return lambda t: t * mask * (1 / (1 - share)), (mask,)


def _filled(call: Call) -> Rule:
    mask = call.args[1]
    return lambda t, _: t.masked_fill(mask, 0), (mask,)


def _attention(call: Call) -> Rule:
    """Fused kernels have no derivative in forward mode: as matrix products, computed again."""
    if call.value("dropout_p"):
        raise Refused("drops units that nobody else knows")
    names = {argument.name for argument in call.operation._schema.arguments}
    bias = next((call.value(n) for n in ("attn_mask", "attn_bias") if n in names), None)
    if bias is not None and bias.requires_grad:
        raise Refused("learns its mask")
    how = {"attn_mask": bias, "is_causal": call.value("is_causal"), "scale": call.value("scale")}

    def plain(q, k, v):
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(q, k, v, **how)

    tensors = list(call.args[:3])
    push = _dual(plain, tensors)
    return lambda *tangents: push(*tangents[:3]), tensors if bias is None else [*tensors, bias]


_RULES: dict[Any, Callable[[Call], Rule]] = {
    aten.convolution.default: _convolution,
    aten.native_batch_norm.default: _batch_norm,
    aten.cudnn_batch_norm.default: _batch_norm,
    aten.addmm.default: _linear_layer,
    aten.view.default: _reshaped,
    aten._unsafe_view.default: _reshaped,
    aten.relu.default: _relu,
    aten.relu_.default: _relu,
    aten.gelu.default: _gelu,
    aten._softmax.default: _softmax,
    aten._safe_softmax.default: _softmax,
    aten.native_dropout.default: _dropout,
    aten.masked_fill_.Scalar: _filled,
    aten._scaled_dot_product_flash_attention_for_cpu.default: _attention,
    aten._scaled_dot_product_flash_attention.default: _attention,
    aten._scaled_dot_product_efficient_attention.default: _attention,
    aten._scaled_dot_product_cudnn_attention.default: _attention,
    **dict.fromkeys((aten.add.Tensor, aten.add_.Tensor, aten.sub.Tensor), _sum),
    **dict.fromkeys((aten.mul.Tensor, aten.mm.default, aten.bmm.default), _product),
    **dict.fromkeys(
        (
            aten._to_copy.default, aten.alias.default, aten.avg_pool2d.default, aten.cat.default,
            aten.clone.default, aten.expand.default, aten.mean.dim, aten.mul.Scalar,
            aten.neg.default, aten.permute.default, aten.select.int, aten.slice.Tensor,
            aten.squeeze.dim, aten.stack.default, aten.sum.dim_IntList, aten.t.default,
            aten.transpose.int, aten.unbind.int, aten.unsqueeze.default,
            aten.upsample_bilinear2d.default,
        ),
        _linear,
    ),
}  # fmt: skip
