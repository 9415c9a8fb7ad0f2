"""Load the input of eval and infer: a run's checkpoint or a published one, and its data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import data
from data.batches import Steps
from data.flags import add_dataset_flag, add_split_flags
from early_exit import checkpoints
from early_exit.checkpoints import Trained
from early_exit.flags import add_arch_flags, arch_settings
from early_exit.inputs import (
    AnyDataset,
    AnyPart,
    InputFormat,
    input_size,
    load_data,
    make_batches,
    pixel_stats,
    texts_of_checkpoint,
)
from experiment import Parser, number, sha256
from losses.early_exit import METHODS
from models.exit_nets import EXIT_NETS

# Flags that describe a published file; a run's checkpoint records these values.
PUBLISHED = (
    "size", "mean", "std", "val_size", "split_seed", "stream", "method", "ensemble_reweight"
)  # fmt: skip


class Opened(NamedTuple):
    """A network and the data set that it is evaluated on."""

    trained: Trained
    dataset: AnyDataset
    fingerprint: str

    def batches(
        self, part: AnyPart, batch_size: int, device: torch.device, workers: int | None = None
    ) -> Steps:
        """All rows of a part in order, in the format that the network was trained on."""
        trained = self.trained
        inputs = InputFormat(trained.size, trained.mean, trained.std, workers)
        return make_batches(part, batch_size, device, inputs)

    def inputs(self) -> dict[str, Path]:
        """The files beside the data that predictions are made from, by name."""
        path = Path(self.trained.path)
        return {path.name: path}

    def settings(self) -> dict[str, Any]:
        """Everything the logits depend on: saved logits with equal settings are of this network."""
        return {
            "ensemble_reweight": self.trained.ensemble_reweight,
            "size": self.trained.size,
            "mean": self.trained.mean,
            "std": self.trained.std,
            "sha256": sha256(self.trained.path),
            "data": self.fingerprint,
        }


def add_flags(parser: Parser, argv: Sequence[str] | None) -> None:
    """Flags of the network, its data and the speed; argv: as for `add_arch_flags`."""
    group = parser.add_argument_group("what to evaluate")
    add_dataset_flag(group)
    group.add_argument("--save_dir", default="results/runs/early-exit", help="run directory")
    group.add_argument("--model_path", help="published checkpoint, instead of the run's own")
    group = parser.add_argument_group("with --model_path: the network and data of that file")
    group.add_argument(
        "--size",
        type=number(int, 8),
        help="px of the images (default: their own; 224 when streamed)",
    )
    for name, what in (("--mean", "mean"), ("--std", "standard deviation")):
        group.add_argument(
            name,
            type=float,
            nargs=3,
            metavar=("R", "G", "B"),
            help=f"{what} of the pixels, in 0..1 (default: train's; ImageNet's when streamed)",
        )
    add_split_flags(group)
    group.add_argument(
        "--stream", action="store_true", help="read a folder's images when they are needed"
    )
    group.add_argument(
        "--method", choices=METHODS, default="base", help="method that the network was trained by"
    )
    group.add_argument(
        "--ensemble_reweight",
        type=number(float, 0, 1),
        default=0.5,
        help="t of the ensemble G_k = f_k + t G_(k-1), with --method boosted",
    )
    add_arch_flags(parser, argv, default=None)
    group = parser.add_argument_group("speed")
    group.add_argument(
        "--batch_size", type=number(int, 1), default=250, help="images or texts a batch"
    )
    group.add_argument("--workers", type=number(int, 0), help="processes that read streamed images")
    group.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    group.add_argument("--channels_last", action="store_true", help="store maps channels last")


def check_flags(
    parser: Parser, args: argparse.Namespace, argv: Sequence[str] | None = None
) -> None:
    """Exit with one line where flags contradict each other or have no effect."""
    given = parser.given(args, argv)
    parser.refuse(given, ["seed"], "evaluation uses no random numbers; --seeds names the runs")
    if args.model_path:
        if args.arch is None:
            parser.error("--model_path needs --arch and the flags of its network")
        if EXIT_NETS[args.arch].reads == "text":
            parser.error(
                f"--model_path takes networks for images; --arch {args.arch} is trained from a "
                "folder by early_exit.train --model_path"
            )
        if args.std and min(args.std) <= 0:
            parser.error(f"--std {' '.join(map(str, args.std))}: give numbers above 0")
        if args.seeds:
            parser.error("--seeds goes with runs, one in each SAVE_DIR/seed-N; not --model_path")
        if args.method != "boosted":
            parser.refuse(given, ["ensemble_reweight"], "goes with --method boosted")
        if not args.stream:
            parser.refuse(given, ["workers"], "goes with --stream")
        return
    network_flags = list(arch_settings(args, EXIT_NETS[args.arch])) if args.arch else []
    reason = "goes with --model_path; a run's checkpoint records its value"
    parser.refuse(given, (*PUBLISHED, *network_flags), reason)


def open_all(args: argparse.Namespace) -> Opened:
    """The checkpoint, and the data with its val split.

    ValueError or OSError, one line, where one of them is missing or they do not belong together.
    """
    if args.model_path:
        images = load_data(
            args.dataset, args.data_root, args.val_size, args.split_seed, args.stream
        )
        return Opened(_published(args, images), images, images.fingerprint())
    name = data.stem(args.dataset)
    dataset: AnyDataset
    path = checkpoints.find(Path(args.save_dir), name, args.arch)
    trained = checkpoints.read(path)
    about = trained.about
    if about["dataset"] != name:
        raise ValueError(f"--dataset {args.dataset}: {path} was trained on {about['dataset']}")
    if trained.net.reads == "text":
        if args.channels_last:
            raise ValueError(f"--channels_last is for images; {path} reads text")
        dataset = texts_of_checkpoint(args.dataset, args.data_root, about, trained.size)
    else:
        dataset = load_data(
            args.dataset, args.data_root, about["val_size"], about["split_seed"], about["stream"]
        )
    if len(dataset.classes) != trained.num_classes:
        raise ValueError(
            f"{path}: made for {trained.num_classes} classes, {args.dataset} has "
            f"{len(dataset.classes)}"
        )
    fingerprint = dataset.fingerprint()
    if fingerprint != about["data"]:
        raise ValueError(f"--dataset {args.dataset}: is not the data that {path} was trained on")
    return Opened(trained, dataset, fingerprint)


def _published(args: argparse.Namespace, dataset: AnyDataset) -> Trained:
    size = input_size(dataset.train, args.size)
    mean, std = args.mean, args.std
    if not (mean and std):
        pixel_mean, pixel_std = pixel_stats(dataset.train)
        mean, std = mean or pixel_mean, std or pixel_std
    return checkpoints.read_published(
        args.model_path,
        args.arch,
        arch_settings(args, EXIT_NETS[args.arch]),
        len(dataset.classes),
        size,
        mean,
        std,
        args.method,
        args.ensemble_reweight if args.method == "boosted" else 0.0,
    )
