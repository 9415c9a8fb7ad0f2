"""What the networks with exits on a torchvision trunk share: where exits are, and its weights."""

from __future__ import annotations

from torch import Tensor, nn

from models.dense_layers import numbers
from models.weights import fill


def exit_points(text: str, last: int, what: str) -> list[int]:
    """`2-4-6` as the layers, counted from 1, that an exit follows; the last one is `last`.

    `what` they are in the plural (layers, stages). ValueError where they do not increase or do not
    end there: what comes after the last exit would be computed for nothing.
    """
    points = numbers(text, "exits")
    if points != sorted(set(points)):
        raise ValueError(f"--exits {text}: give {what} that increase")
    if points[-1] != last:
        raise ValueError(f"--exits {text}: the last one must be {last}, the number of {what}")
    return points


def thirds(last: int) -> str:
    """The exits of `last` layers where none are asked for: after each third, rounded up, as text.

    Fewer than three layers have an exit each.
    """
    return "-".join(map(str, sorted({-(-last * i // 3) for i in (1, 2, 3)})))


def load_trunk(net: nn.Module, name: str, theirs: dict[str, Tensor], new: tuple[str, ...]) -> None:
    """Give `net` torchvision's weights of `name`, but for what begins with one of `new`.

    theirs: names to tensors; those that `net` has no place for (torchvision's head) are left out.
    ValueError, one line, where one is missing or does not fit.
    """
    state = {}
    for key, own in net.state_dict().items():
        # A count of batches, which files from before torch 0.4.1 lack; no weight.
        if key.startswith(new) or (key.endswith("num_batches_tracked") and key not in theirs):
            state[key] = own
        elif key in theirs:
            state[key] = theirs[key]
    fill(net, state, f"ImageNet weights of {name}", name).train()
