"""The networks with exits, by the name that `--arch` gives them."""

import argparse

from models.bert_exits import BertExits
from models.exit_net import ExitNet
from models.msdnet import MSDNet
from models.ranet import RANet
from models.resnet_exits import ResNetExits
from models.vit_exits import ViTExits

EXIT_NETS: dict[str, type[ExitNet]] = {
    "msdnet": MSDNet,
    "ranet": RANet,
    "resnet": ResNetExits,
    "vit": ViTExits,
    "bert": BertExits,
}


def flag_names(net: type[ExitNet]) -> list[str]:
    """The names of an architecture's flags: the keys of the `settings` of its `from_settings`."""
    own = argparse.ArgumentParser(add_help=False)
    net.add_flags(own.add_argument_group())
    return list(vars(own.parse_args([])))
