"""State dicts: what they are, a part of one, and one into a network."""

import re

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

State = dict[str, Tensor]


def is_state_dict(checkpoint: dict) -> bool:
    return bool(checkpoint) and all(isinstance(v, Tensor) for v in checkpoint.values())


def under(state: State, prefix: str) -> State:
    """The part of a state dict below `prefix`, without it and without DataParallel's `module.`."""
    plain = {re.sub(r"^module\.", "", k): v for k, v in state.items()}
    return {k.removeprefix(prefix): v for k, v in plain.items() if k.startswith(prefix)}


def check_fit(own: State, state: State, where: str, what: str) -> None:
    """ValueError, one line that says what does not fit, unless names and shapes are `own`'s."""
    bad = [f"{k} is missing" for k in own if k not in state]
    bad += [f"{k} is not part of it" for k in state if k not in own]
    bad += [
        f"{k} is {list(state[k].shape)}, not {list(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    if bad:
        more = f" and {len(bad) - 2} more" if len(bad) > 2 else ""
        raise ValueError(f"{where}: not a {what}: {'; '.join(bad[:2])}{more}")


def fill(net: nn.Module, state: State, where: str, what: str) -> nn.Module:
    """Load `state` strictly, with an error of one line that says what does not fit.

    A file without any count of batch norm's batches, as all were before torch 0.4.1 (2018), is
    whole: no layer here computes with it.
    """
    own = net.state_dict()
    if not any(map(_is_count, state)):
        state = {k: torch.zeros_like(v) for k, v in own.items() if _is_count(k)} | state
    check_fit(own, state, where, what)
    if not all(map(_is_finite, state.values())):
        raise ValueError(f"{where}: holds weights that are not finite")
    net.load_state_dict(state)
    return net.eval()


def _is_count(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _is_finite(x: Tensor) -> bool:
    """No infinity and no NaN among the values; one pass over them where their sum has none."""
    return bool(torch.isfinite(x.sum()) or torch.isfinite(x).all())


class NothingDrawn(TorchFunctionMode):
    """Networks that are made within it get zeros for the parameters that they would draw.

    For one that is filled next: to draw the 57 million of alexnet takes longer than to read them.
    Other tensors are drawn as ever: trunc_normal_ draws anew until a value lies within its bounds.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _DRAWING:
            tensor = args[0] if args else kwargs["tensor"]
            if isinstance(tensor, nn.Parameter):
                with torch.no_grad():
                    return tensor.zero_()
        return func(*args, **kwargs)


# What draws, or is asked of this mode first; inside a function that was asked none is.
_DRAWING = (
    Tensor.uniform_,
    Tensor.normal_,
    nn.init.uniform_,
    nn.init.normal_,
    nn.init.kaiming_uniform_,
)
