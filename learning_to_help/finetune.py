"""Fine-tuning of networks that start from trained weights: two learning rates, or the head alone.

The trunk is everything but the last layer (models.features.last_layer), which is the head.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

import experiment
from data import FeatureBatches, ImageBatches
from data.memory import fits_device
from experiment import Parser, number
from models.edgenet import EDGE_NETS, edge_names
from models.features import last_layer, with_features
from models.head import Head
from models.localnet import LOCAL_NETS
from models.scaling import HALF, Scaling, saved_scaling, torchvision_scaling


def add_scaling_flags(group: argparse._ActionsContainer, kind: str) -> None:
    """--edge_mean and --edge_std, or those of the "local" net."""
    weights = "--edge_weights or --pretrained" if kind == "edge" else "--local_weights"
    group.add_argument(
        f"--{kind}_mean",
        type=number(float, 0, 1),
        nargs="+",
        metavar="MEAN",
        help="mean of the images that the network was trained with, one number or one a channel, "
        "of the full range 0..1, for networks of torchvision, timm and FILE.py; if not given: "
        f"that of torchvision's ImageNet weights for its networks with {weights}, timm's own for "
        "timm's, that of a checkpoint of this project, else 0.5",
    )
    std = "their standard deviation, in the same way"
    if kind == "edge":
        std += "; alexnet and vit always take images of 0.5 and 0.5, as in the paper's release"
    group.add_argument(
        f"--{kind}_std", type=number(float, 0, 1, above=True), nargs="+", metavar="STD", help=std
    )


def check_scaling_flags(parser: Parser, args: argparse.Namespace, kind: str) -> None:
    """Exit with an error where mean or std is missing, or has neither one number nor three."""
    values = {f"{kind}_{what}": getattr(args, f"{kind}_{what}") for what in ("mean", "std")}
    for name, numbers in values.items():
        if numbers and len(numbers) not in (1, 3):
            parser.error(f"--{name}: {len(numbers)} numbers; give one, or one a channel")
        if not numbers and any(values.values()):
            parser.error(f"--{name} is missing; mean and std go together")


def chosen_scaling(
    name: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    pretrained: bool,
    file: str | None,
) -> Scaling:
    """The scaling of a network that is to be trained.

    In this order: `mean` and `std`; what a checkpoint of this project says, if `file`, the file of
    weights, is one; for a torchvision network with ImageNet weights (`pretrained`) or those of
    another file, torchvision_scaling; 0.5. timm's networks have their own where this is 0.5.
    """
    if mean and std:
        return Scaling(tuple(mean), tuple(std))
    if name in EDGE_NETS or name in LOCAL_NETS:
        return HALF
    if file and (checkpoint := _checkpoint(file)):
        return saved_scaling(checkpoint, checkpoint["kind"])
    of_torchvision = (pretrained or file) and name in edge_names()
    return torchvision_scaling(name) if of_torchvision else HALF


def _checkpoint(file: str) -> dict[str, Any] | None:
    """A checkpoint of this project without reading its tensors; None for any other file."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # another format; models.anynet.load_weights says what is wrong with it
        return None
    ours = isinstance(found, dict) and found.get("kind") in ("local", "edge")
    return found if ours else None


def add_flags(group: argparse._ActionsContainer) -> None:
    """--lr_trunk and --train_head_only."""
    group.add_argument(
        "--lr_trunk",
        type=number(float, 0, above=True),
        metavar="RATE",
        help="learning rate of everything but the last layer; --lr if not given",
    )
    group.add_argument(
        "--train_head_only",
        action="store_true",
        help="train the last layer alone, on features that the rest of the network, fixed in eval "
        "mode, computes once for all images",
    )


def check_flags(parser: Parser, args: argparse.Namespace, given: set[str]) -> None:
    """Exit with an error where a flag has no effect with --train_head_only."""
    if not args.train_head_only:
        return
    alone = "--train_head_only trains the last layer alone; leave one out"
    parser.refuse(given, ("lr_trunk", "compile"), alone)
    if getattr(args, "augment", "none") != "none":
        parser.error(
            "--augment: --train_head_only computes the features once, of the images as they are; "
            "leave one out"
        )
    if args.epochs == 0:
        parser.error("--epochs 0 trains nothing, --train_head_only the last layer; leave one out")


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


def head_and_features(
    net: nn.Module,
    size: int,
    parts: Sequence[tuple[ImageBatches, ImageBatches]],
    forward: Callable[[], AbstractContextManager] = nullcontext,
) -> tuple[Head, list[FeatureBatches]]:
    """The last layer of `net`, and for each part its features as batches.

    A part is (its batches, all its images in their own order, to compute the features from). Both
    are those of eval mode: no dropout, batch norm's running statistics. forward: the context of the
    forward passes, such as autocast. ValueError where the logits are not what the last layer makes
    of the features.
    """
    head = Head(last_layer(net, size))
    return head, [
        FeatureBatches(_features(net, head, images, forward), batches) for batches, images in parts
    ]


@torch.no_grad()
def _features(
    net: nn.Module,
    head: Head,
    batches: ImageBatches,
    forward: Callable[[], AbstractContextManager],
) -> Tensor:
    """The features of all images in float32, [N, D]; on the device where they fit, else the CPU."""
    mode, done, features = net.training, 0, torch.empty(0)
    net.eval()
    for _, images, _ in experiment.progress(batches, len(batches), "features"):
        with forward():
            logits, x = with_features(net, images)
            again = head(x)
        if not done:
            # SqueezeNet has a ReLU after its last layer. bfloat16 has 3 digits.
            if (again - logits).abs().max() > 0.02 * logits.abs().max():
                raise ValueError(
                    "--train_head_only: this network changes what its last layer computes before "
                    "it returns the logits; train the whole network"
                )
            rows, width = len(batches.labels), x.shape[1]
            fits = fits_device(4 * rows * width, batches.device)
            features = torch.empty(rows, width, device=batches.device if fits else "cpu")
        features[done : done + len(x)] = x
        done += len(x)
    net.train(mode)
    return features
