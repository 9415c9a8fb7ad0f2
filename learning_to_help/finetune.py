"""Fine-tuning of networks that start from trained weights: two learning rates, or the head alone.

The trunk is everything but the last layer (models.features.last_layer), which is the head.
"""

import argparse
from typing import Any

from torch import nn

from experiment import number
from models.features import last_layer


def add_flags(group: argparse._ActionsContainer) -> None:
    """--lr_trunk."""
    group.add_argument(
        "--lr_trunk",
        type=number(float, 0, above=True),
        metavar="RATE",
        help="learning rate of everything but the last layer; --lr if not given",
    )


def parameter_groups(
    net: nn.Module, size: int, lr: float, lr_trunk: float | None
) -> list[dict[str, Any]]:
    """The parameters of `net`, which runs at `size` px, for an optimizer: trunk, then head.

    One group at `lr` if `lr_trunk` is None. ValueError, one line, where the last layer is not one
    that models.features finds.
    """
    if lr_trunk is None:
        return [{"params": [*net.parameters()], "lr": lr}]
    head = [*last_layer(net, size).parameters()]
    of_head = {id(p) for p in head}
    trunk = [p for p in net.parameters() if id(p) not in of_head]
    return [{"params": trunk, "lr": lr_trunk}, {"params": head, "lr": lr}]
