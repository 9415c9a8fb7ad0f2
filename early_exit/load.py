"""What eval and infer look at: a run's checkpoint or a published one, and the data it is for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import data
from data.folders import FolderBatches, FolderDataset, FolderPart
from data.text.tokens import TokenBatches, TokenDataset, TokenPart
from early_exit import checkpoints
from early_exit.arch_flags import add_arch_flags, arch_settings
from early_exit.checkpoints import Trained
from early_exit.inputs import input_size, load_data, make_batches, pixel_stats
from early_exit.texts import texts_again
from experiment import Parser, number, sha256
from losses.early_exit import METHODS
from models.exit_nets import EXIT_NETS

# A run's checkpoint says these itself.
PUBLISHED = (
    "size", "mean", "std", "val_size", "split_seed", "stream", "method", "ensemble_reweight"
)  # fmt: skip


class Opened(NamedTuple):
    """A network and the data it is for. stream: whether the images are read as they are needed."""

    trained: Trained
    dataset: data.Dataset | FolderDataset | TokenDataset
    fingerprint: str
    stream: bool

    def batches(
        self,
        part: data.Part | FolderPart | TokenPart,
        batch_size: int,
        device: torch.device,
        workers: int | None = None,
    ) -> data.Batches | FolderBatches | TokenBatches:
        """All rows of a part in order, as the network was trained to be given them."""
        given = {name: getattr(self.trained, name) for name in ("size", "mean", "std")}
        given |= {"stream": self.stream, "workers": workers}
        return make_batches(part, batch_size, device, **given)

    def inputs(self) -> dict[str, Path]:
        """The files that predictions are made from beside the data, by name."""
        path = Path(self.trained.path)
        return {path.name: path}

    def settings(self) -> dict[str, Any]:
        """What logits hang on: as long as these are the same, saved ones are of this network."""
        names = ("ensemble_reweight", "size", "mean", "std")
        given = {name: getattr(self.trained, name) for name in names}
        return given | {"sha256": sha256(self.trained.path), "data": self.fingerprint}


def add_flags(parser: Parser, argv: Sequence[str] | None) -> None:
    """The flags that say which network and which data, and how fast; `argv` as for `--arch`."""
    group = parser.add_argument_group("what to evaluate")
    group.add_argument("--dataset", default="digits", help=f"{', '.join(data.NAMES)}, DIR or .npz")
    group.add_argument("--save_dir", default="results/runs/early-exit", help="the run directory")
    group.add_argument("--model_path", help="a published checkpoint, in place of the run's own")
    group = parser.add_argument_group("with --model_path: what that file does not say")
    group.add_argument(
        "--size", type=number(int, 8), help="px (default: the images'; 224 streamed)"
    )
    three = {"type": float, "nargs": 3, "metavar": ("R", "G", "B")}
    group.add_argument(
        "--mean", **three, help="of the pixels, 0..1 (default: train's; ImageNet's streamed)"
    )
    group.add_argument("--std", **three, help="of the pixels, as --mean")
    group.add_argument(
        "--val_size", type=number(float, 0, above=True), default=0.1, help="cut from train"
    )
    group.add_argument("--split_seed", type=number(int, 0), default=0, help="of the val split")
    group.add_argument("--stream", action="store_true", help="read a folder's pictures as needed")
    group.add_argument("--method", choices=METHODS, default="base", help="how it was trained")
    group.add_argument(
        "--ensemble_reweight", type=number(float, 0, 1), default=0.5, help="t, if boosted"
    )
    add_arch_flags(parser, argv, default=None)
    group = parser.add_argument_group("speed")
    group.add_argument("--batch_size", type=number(int, 1), default=250, help="images at once")
    group.add_argument("--workers", type=number(int, 0), help="processes that read streamed images")
    group.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    group.add_argument("--channels_last", action="store_true", help="memory order of the maps")


def check_flags(parser: Parser, args: argparse.Namespace) -> None:
    """Ends in one line where the flags contradict each other."""
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
        return
    own = list(arch_settings(args, EXIT_NETS[args.arch])) if args.arch else []
    for name in (*PUBLISHED, *own):
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name} goes with --model_path; a run's checkpoint says it itself")


def open_all(args: argparse.Namespace) -> Opened:
    """The checkpoint, and the data with its val split. ValueError or OSError where one of them is
    not there or they do not belong together.
    """
    if args.model_path:
        dataset = _data(args, args.val_size, args.split_seed, args.stream)
        return Opened(_published(args, dataset), dataset, dataset.fingerprint(), args.stream)
    name = data.stem(args.dataset)
    path = checkpoints.find(Path(args.save_dir), name, args.arch)
    trained = checkpoints.read(path)
    about = trained.about
    if about["dataset"] != name:
        raise ValueError(f"--dataset {args.dataset}: {path} was trained on {about['dataset']}")
    if trained.net.reads == "text":
        if args.channels_last:
            raise ValueError(f"--channels_last is for images; {path} reads text")
        dataset = texts_again(args.dataset, args.data_root, about, trained.size)
    else:
        dataset = _data(args, about["val_size"], about["split_seed"], about["stream"])
    if len(dataset.classes) != trained.num_classes:
        raise ValueError(
            f"{path}: made for {trained.num_classes} classes, {args.dataset} has "
            f"{len(dataset.classes)}"
        )
    fingerprint = dataset.fingerprint()
    if fingerprint != about["data"]:
        raise ValueError(f"--dataset {args.dataset}: is not the data that {path} was trained on")
    return Opened(trained, dataset, fingerprint, about["stream"])


def _data(args, val_size: float, split_seed: int, stream: bool) -> data.Dataset | FolderDataset:
    return load_data(args.dataset, args.data_root, val_size, split_seed, stream)


def _published(args: argparse.Namespace, dataset: data.Dataset | FolderDataset) -> Trained:
    size = input_size(dataset.train, args.size)
    stats = (None, None) if args.mean and args.std else pixel_stats(dataset.train)
    return checkpoints.read_published(
        args.model_path,
        args.arch,
        arch_settings(args, EXIT_NETS[args.arch]),
        len(dataset.classes),
        size,
        args.mean or stats[0],
        args.std or stats[1],
        args.method,
        args.ensemble_reweight if args.method == "boosted" else 0.0,
    )
