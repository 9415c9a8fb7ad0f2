"""What the scripts read: the data set, in memory or streamed from files, and the local net."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

import data
import experiment
from data.flags import add_dataset_flag, add_split_flags
from experiment import Parser, number
from models.checkpoints import local_net

AnyImages = data.Dataset | data.FolderDataset


def add_data_flags(group: argparse._ActionsContainer) -> None:
    """The data set and how train is cut, the same for the local and the edge net, and streaming."""
    add_dataset_flag(group)
    add_split_flags(group)
    group.add_argument(
        "--rejector_val_size",
        type=number(float, 0),
        default=0,
        help="train images kept for train_rejector.py: a share below 1 or a count; 0 for none",
    )
    group.add_argument("--save_dir", default="results/runs/default", help="the run directory")
    add_stream_flags(group)


def add_step_flags(group: argparse._ActionsContainer) -> None:
    """Batch size, momentum and CUDA graphs, the same for the local and the edge net."""
    group.add_argument(
        "--batch_size",
        type=number(int, 1),
        default=16,
        help="images a step, over all processes of torchrun",
    )
    group.add_argument(
        "--momentum", type=number(float, 0, 1), default=0.9, help="SGD momentum of every network"
    )
    group.add_argument(
        "--graph",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="on CUDA: launch each step as one CUDA graph; no effect under torchrun",
    )


def add_stream_flags(group: argparse._ActionsContainer) -> None:
    """--stream and the flags that go with it, the same in every script."""
    group.add_argument(
        "--stream",
        action="store_true",
        help="read a folder's pictures when they are needed; give it to every script of a run",
    )
    group.add_argument(
        "--stream_size",
        type=number(int, 8),
        default=data.STREAM_SIZE,
        metavar="PX",
        help="with --stream: height and width at which pictures are decoded, for all networks; the "
        "short side is resized to it and the centre cropped",
    )
    group.add_argument(
        "--workers",
        type=number(int, 0),
        help="with --stream: processes that decode, for each of train and val; one a CPU and at "
        "most 8 if not given, none for few pictures",
    )


def check_stream_flags(
    parser: Parser, args: argparse.Namespace, argv: Sequence[str] | None
) -> None:
    """Exit with an error where a flag of streaming is given without --stream."""
    if not args.stream:
        parser.refuse(parser.given(args, argv), ("stream_size", "workers"), "goes with --stream")


def load(
    args: argparse.Namespace, val_size: float, split_seed: int, rejector_val_size: float = 0
) -> AnyImages:
    """The data set of --dataset, streamed with --stream; ValueError, one line."""
    cut = val_size, split_seed, rejector_val_size
    if not args.stream:
        return data.load(args.dataset, args.data_root, *cut)
    if not Path(args.dataset).is_dir():
        raise ValueError(
            f"--stream reads a folder of pictures with train and test (or val); {args.dataset} is "
            "none"
        )
    sized = {"size": args.stream_size, "workers": args.workers}
    return data.load_folder(args.dataset, *cut, **sized)


def recorded(dataset: AnyImages) -> dict[str, Any]:
    """What a checkpoint records of its data set."""
    about: dict[str, Any] = {"dataset": dataset.name, "data": dataset.fingerprint()}
    if isinstance(dataset, data.FolderDataset):
        about["stream_size"] = dataset.size
    return about


def check_data(checkpoint: dict, dataset: AnyImages, where: str, otherwise: str) -> None:
    """ValueError, one line, unless a checkpoint was trained on this data set and this val split.

    where: the checkpoint's file; otherwise: the message where streaming does not explain it. A
    data set in memory is known by its pixels, a streamed one by its files and its size in px: one
    is never taken for the other.
    """
    fingerprint = dataset.fingerprint()
    if checkpoint.get("data", fingerprint) == fingerprint:
        return
    size = checkpoint.get("stream_size")
    if size != recorded(dataset).get("stream_size"):
        streamed = f"streamed images of {size} px: give --stream --stream_size {size}"
        in_memory = "images in memory: leave --stream out"
        raise ValueError(f"{where}: was trained on {streamed if size else in_memory}")
    raise ValueError(otherwise)


def read_local(
    local_path: str | None, dataset: AnyImages, run: experiment.Run
) -> tuple[nn.Module, bytes | None, dict[str, str]]:
    """The run's local net, the bytes of the file to write, and {file name: SHA-256}.

    The bytes are None if another script wrote the file in the run directory.
    """
    path = experiment.RunPaths(run.dir, dataset.name).local
    source = Path(local_path or path)
    if not source.exists():
        raise ValueError(
            f"{source}: no local net there; make it with train_localnet.py, or give --local_path"
        )
    checkpoint = experiment.load_checkpoint(source)
    net = local_net(checkpoint, len(dataset.classes), str(source))
    val_size, seed = (checkpoint.get(k, 0) for k in ("val_size", "split_seed"))
    check_data(
        checkpoint,
        dataset,
        str(source),
        f"{source}: the local net was trained on other data or another val split; give its "
        f"--dataset, --val_size {val_size:g}, --rejector_val_size "
        f"{checkpoint.get('rejector_val_size', 0):g} and --split_seed {seed}",
    )
    digest = experiment.sha256(source)
    if path.exists() and experiment.sha256(path) != digest:
        raise ValueError(f"{path}: is another local net than {source}; use another --save_dir")
    written_here = not path.exists() or path.name in run.entry().get("files", [])
    return net, source.read_bytes() if written_here else None, {path.name: digest}
