"""What the checkpoints of the edge net and of its rejectors hold."""

import argparse
from typing import Any

from torch import nn

from learning_to_help.inputs import AnyImages, recorded
from learning_to_help.settings import Setting
from learning_to_help.steps import Rejectors
from models.scaling import Scaling


def of_edge(
    edge: nn.Module, size: int, scaling: Scaling, dataset: AnyImages, args: argparse.Namespace
) -> dict[str, Any]:
    """All that rebuilds the edge net, and the data and cut that it was trained on."""
    return {
        "kind": "edge",
        "net": args.edge_net,
        "edge_size": size,
        **scaling.entries("edge"),
        "num_classes": len(dataset.classes),
        **recorded(dataset),
        "val_size": args.val_size,
        "split_seed": args.split_seed,
        "rejector_val_size": args.rejector_val_size,
        "seed": args.seed,
        "state_dict": {k: v.cpu().contiguous() for k, v in edge.state_dict().items()},
    }


def of_rejector(rejectors: Rejectors, number: int, setting: Setting) -> dict[str, Any]:
    """The weights of one rejector, its setting, and what was sent to its copy of the edge."""
    return {
        "kind": "rejector",
        "async_freq": setting.async_freq,
        "cost_1": setting.cost_1,
        "cost_e": setting.cost_e,
        "surrogate": setting.surrogate,
        **rejectors.copies.sent(setting.async_freq),
        "state_dict": rejectors.net.unstack(number),
    }
