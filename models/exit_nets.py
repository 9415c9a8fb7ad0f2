"""The networks with exits, by the name that `--arch` gives them."""

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
}
