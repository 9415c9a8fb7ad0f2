"""State dicts: check them, take a part of one, load one into a network."""

import re
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
Net = TypeVar("Net", bound=nn.Module)


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


def restore(make: Callable[[], Net], state: State, where: str, what: str) -> Net:
    """`make()` with the weights of `state`, without drawing initial weights where possible.

    Drawing the 57 million of alexnet takes longer than reading them, so the network is built on the
    meta device; one that cannot be built there (RegNet reads numbers out of tensors) or has buffers
    outside its state dict is built as usual. Neither changes the state of the random number
    generator. Errors: those of `fill`.
    """
    net: Net | None = None
    try:
        with torch.device("meta"):
            net = make()
    except (RuntimeError, ValueError):
        pass  # the second attempt below raises the error, if there is one
    if net is None or {name for name, _ in net.named_buffers()} - net.state_dict().keys():
        with torch.random.fork_rng(devices=[]):
            net = make()
    return fill(net, state, where, what)


def fill(net: Net, state: State, where: str, what: str) -> Net:
    """Load `state` strictly, with an error of one line that says what does not fit.

    A network on the meta device takes the tensors of `state` themselves as its weights.

    Files from before torch 0.4.1 (2018) lack num_batches_tracked, which no layer here uses: they
    load as well.
    """
    own = net.state_dict()
    if not any(map(_is_count, state)):
        state = {
            k: torch.zeros(v.shape, dtype=v.dtype) for k, v in own.items() if _is_count(k)
        } | state
    check_fit(own, state, where, what)
    if not all(map(_is_finite, state.values())):
        raise ValueError(f"{where}: holds weights that are not finite")
    if any(v.is_meta for v in own.values()):
        state = {k: v.to(own[k].dtype).contiguous() for k, v in state.items()}
        net.load_state_dict(state, assign=True)
    else:
        net.load_state_dict(state)
    return net.eval()


def _is_count(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _is_finite(x: Tensor) -> bool:
    """No infinity and no NaN among the values; one pass over them where their sum has none."""
    return bool(torch.isfinite(x.sum()) or torch.isfinite(x).all())
