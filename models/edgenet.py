"""The edge net e, the classifier on the server: one of EDGE_NETS or a torchvision classifier.

torchvision is imported when one of its networks is built: the import takes 1.5 s.
"""

import difflib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.anynet import AnyNet, build_any, default_size, is_any
from models.convnet import ConvNet
from models.localnet import resize
from models.scaling import HALF, Scaling

ALEXNET_SIZE, VIT_SIZE = 64, 224
# In px; error messages list the ones at which a net can run.
USUAL_SIZES = (16, 32, 48, 64, 96, 128, 224, 256, 299, 384)


class AlexNet(nn.Module):
    """The AlexNet variant of the L2H release; images are resized to `size` (64) px.

    Parameter names are the release's: features.{0,3,6,8,10}, classifier.{1,4,6}.
    """

    def __init__(self, num_classes: int, size: int = ALEXNET_SIZE):
        super().__init__()
        self.size = size
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] to logits [B, K]."""
        x = self.avgpool(self.features(resize(images, self.size)))
        return self.classifier(torch.flatten(x, 1))


class ViT(nn.Module):
    """torchvision's ViT-B/16 with a separate head and the release's names: vit.*, heads.*."""

    def __init__(self, num_classes: int, size: int = VIT_SIZE):
        from torchvision.models import VisionTransformer

        super().__init__()
        self.size = size
        self.vit = VisionTransformer(
            image_size=size,
            patch_size=16,
            num_layers=12,
            num_heads=12,
            hidden_dim=768,
            mlp_dim=3072,
        )
        self.vit.heads = nn.Identity()
        self.heads = nn.Linear(768, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] to logits [B, K]."""
        return self.heads(self.vit(resize(images, self.size)))


class TorchvisionNet(nn.Module):
    """A classifier of torchvision, by torchvision's name; images are resized to `size` px."""

    def __init__(self, name: str, num_classes: int, size: int):
        from torchvision.models import get_model

        super().__init__()
        self.size = size
        extra = {}
        if name in ("googlenet", "inception_v3"):  # e(x) has no auxiliary heads
            extra = {"aux_logits": False, "init_weights": True}
        self.net = get_model(name, weights=None, num_classes=num_classes, **extra)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] to logits [B, K]."""
        return self.net(resize(images, self.size))


class EdgeNet(NamedTuple):
    """One edge net: build(num_classes, size) returns a module that runs at `size` px.

    size: default input size in px; None: the size of the images if the net can run at it, else 224.
    imagenet: (the submodule that takes ImageNet weights, "" for the whole net; torchvision's name
    of the weights), or None if there are none.
    """

    build: Callable[[int, int], nn.Module]
    size: int | None = None
    imagenet: tuple[str, str] | None = None


# To add an edge net, write a file and add a line here; torchvision's classifiers need neither.
EDGE_NETS = {
    "alexnet": EdgeNet(AlexNet, ALEXNET_SIZE, ("", "alexnet")),
    "vit": EdgeNet(ViT, VIT_SIZE, ("vit", "vit_b_16")),
    "convnet": EdgeNet(ConvNet),
}


def edge_names() -> list[str]:
    from torchvision import models

    return [*EDGE_NETS, *models.list_models(module=models)]


def _spec(name: str) -> EdgeNet:
    """The edge net `name`; ValueError, with similar names, for an unknown one."""
    if name in EDGE_NETS:
        return EDGE_NETS[name]
    if is_any(name):
        return EdgeNet(partial(build_any, name), default_size(name))
    names = edge_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        known = f"{', '.join(EDGE_NETS)} or a torchvision classifier"
        hint = f"near: {', '.join(near)}" if near else known
        raise ValueError(f"edge net {name!r} is unknown; {hint}")
    return EdgeNet(partial(TorchvisionNet, name), None, ("net", name))


def edge_size(name: str, image_size: int) -> int:
    """The default input size of `name` in px.

    alexnet 64 and vit 224 as in the paper; other nets the size of the images if they can run at it
    (tested on the meta device), else 224. ValueError for an unknown name.
    """
    if size := _spec(name).size:
        return size
    return 224 if cannot_run(name, image_size) else image_size


def cannot_run(name: str, size: int) -> str:
    """Why the edge net `name` cannot run at `size` px, or "" if it can; computes only shapes."""
    try:
        try:
            with torch.device("meta"):
                net = _spec(name).build(2, size)
        except NotImplementedError:  # RegNet reads tensor values while it is built
            with torch.random.fork_rng(devices=[]):
                net = _spec(name).build(2, size).to("meta")
        net.eval()(torch.empty(2, 3, size, size, device="meta"))
    except (RuntimeError, AssertionError, ValueError) as e:
        return str(e).splitlines()[0]
    return ""


def sizes_of(name: str) -> str:
    """The end of an error message: the usual sizes at which the edge net `name` can run."""
    fitting = [str(size) for size in USUAL_SIZES if not cannot_run(name, size)]
    return f"of {', '.join(map(str, USUAL_SIZES))} px it can run at {', '.join(fitting) or 'none'}"


def prefers_channels_last(net: nn.Module, device: torch.device) -> bool:
    """Whether `net` trains faster on `device` in channels-last memory format.

    On a CPU networks with depthwise convolutions do: a step of MobileNetV3 small at batch 16 and
    32 px takes 35 ms instead of 58; AlexNet, ResNet-18 and ConvNet take 5 to 50 % longer. False for
    other devices, which were not measured.
    """
    depthwise = (
        m for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1
    )
    return device.type == "cpu" and any(depthwise)


def build_edge(
    name: str,
    num_classes: int,
    size: int,
    seed: int | None = None,
    pretrained: bool = False,
    scaling: Scaling = HALF,
) -> nn.Module:
    """Builds the edge net `name` with weights drawn from `seed`, or with ImageNet weights.

    With ImageNet weights only the last layer is random. scaling: of the images that the network
    gets. ValueError for an unknown name (lists similar ones), a size at which the net cannot run,
    weights that cannot be downloaded, and a scaling of one of EDGE_NETS, whose images have the
    paper's 0.5.
    """
    spec = _spec(name)
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            net = spec.build(num_classes, size)
            net.eval()(torch.zeros(1, 3, size, size))
        except (RuntimeError, AssertionError, ValueError) as e:
            reason = str(e).splitlines()[0]
            raise ValueError(
                f"edge net {name} cannot run at {size} px: {reason}; {sizes_of(name)}"
            ) from None
    if scaling.mean:
        if not isinstance(net, AnyNet | TorchvisionNet):
            raise ValueError(
                f"edge net {name} takes images of mean 0.5 and std 0.5; leave its mean and std out"
            )
        net = AnyNet(net.net, size, scaling.mean, scaling.std)
    if pretrained:
        if spec.imagenet is None:
            raise ValueError(f"edge net {name} has no ImageNet weights; give --no-pretrained")
        trunk, torchvision_name = spec.imagenet
        _fill(net.get_submodule(trunk), torchvision_name, size)
    return net.train()


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """torchvision's default ImageNet weights of `name`; ValueError if they cannot be downloaded."""
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).DEFAULT
    try:
        return weights.get_state_dict(check_hash=True, progress=False)
    except (OSError, RuntimeError) as e:
        raise ValueError(
            f"ImageNet weights of {name} cannot be downloaded ({str(e).splitlines()[0]}): put "
            f"{weights.url.rsplit('/', 1)[1]} into {torch.hub.get_dir()}/checkpoints, "
            "or train from random weights with --no-pretrained"
        ) from None


def _fill(net: nn.Module, name: str, size: int) -> None:
    """Loads torchvision's ImageNet weights of `name` into `net`; the head may differ."""
    state, current = imagenet_weights(name), net.state_dict()
    fitting = {k: v for k, v in state.items() if k in current and v.shape == current[k].shape}
    missing = [k for k in current if k not in fitting]
    if len(missing) > 2:  # the head's weight and bias differ, nothing else may
        raise ValueError(f"ImageNet weights of {name} do not fit at {size} px: {missing[:4]}")
    net.load_state_dict(fitting, strict=False)
