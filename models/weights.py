"""State dicts: what they are, a part of one, and one into a network."""

import re

import torch
from torch import Tensor, nn

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
    """Load `state` strictly, with an error of one line that says what does not fit."""
    check_fit(net.state_dict(), state, where, what)
    if not all(torch.isfinite(v).all() for v in state.values()):
        raise ValueError(f"{where}: holds weights that are not finite")
    net.load_state_dict(state)
    return net.eval()
