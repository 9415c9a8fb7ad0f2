"""Any classifier as the local net: our own, torchvision's, timm's, or a file's."""

from models.anynet import AnyNet, is_any
from models.edgenet import build_edge, edge_names, edge_size
from models.localnet import LOCAL_NETS, LocalNet
from models.scaling import HALF, Scaling


def is_local(name: str) -> bool:
    """Whether `build_local` takes a name; the file or package that it names may be missing."""
    return name in LOCAL_NETS or is_any(name) or name in edge_names()


def build_local(
    name: str,
    num_classes: int,
    size: int | None = None,
    seed: int | None = None,
    scaling: Scaling = HALF,
) -> LocalNet:
    """A local net with random weights: one of LOCAL_NETS, or any edge net, at `size` px.

    size: what the network was made for where it is not given. seed: of its weights; None: they are
    drawn from the state of the random number generator. scaling: of the images that the network
    gets. ValueError for an unknown name, and a size or scaling that the network cannot take.
    """
    if name in LOCAL_NETS:
        net = LOCAL_NETS[name](num_classes)
        if size not in (None, net.size):
            raise ValueError(f"local net {name} runs at {net.size} px, not at {size}")
        if scaling.mean:
            raise ValueError(
                f"local net {name} takes images of mean 0.5 and std 0.5; leave its mean and std out"
            )
        return net
    size = size or edge_size(name, 32)
    edge = build_edge(name, num_classes, size, seed, scaling=scaling)
    return edge if isinstance(edge, AnyNet) else AnyNet(edge, size)
