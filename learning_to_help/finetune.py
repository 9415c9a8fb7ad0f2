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
from data import Batches, FeatureBatches
from data.memory import fits_device
from experiment import Parser, number
from models.features import last_layer, with_features
from models.head import Head


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
    parts: Sequence[tuple[Batches, Batches]],
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
    batches: Batches,
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
