"""The command line of train_localnet.py."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import experiment
from experiment import number
from learning_to_help import finetune, inputs
from models.any_local import is_local
from models.exit_local import exit_name
from models.localnet import LOCAL_NETS

TRAINING = (
    "local_size", "local_mean", "local_std", "local_weights", "local_classes", "epochs",
    "batch_size", "lr", "lr_trunk", "train_head_only", "momentum", "log_to", "graph", "seed",
    "save_every",
)  # fmt: skip


def parse_args(doc: str | None, argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = experiment.Parser(doc, torchrun=True)
    group = parser.add_argument_group("data")
    inputs.add_data_flags(group)
    group.add_argument("--local_classes", help="train on these classes only, as 0-8 or 0,2,5-7")
    group = parser.add_argument_group("training")
    group.add_argument(
        "--local_net",
        type=net_name,
        default="lenet5",
        metavar="NET",
        help=f"{', '.join(LOCAL_NETS)}, a classifier of torchvision by its name, timm/NAME, or "
        "FILE.py:FUNCTION (num_classes to a module); or a trained network's exit, as msdnet:2 or "
        "msdnet:last",
    )
    group.add_argument(
        "--local_size",
        type=number(int, 1),
        help="input side in px; what the network was made for if not given",
    )
    finetune.add_scaling_flags(group, "local")
    group.add_argument(
        "--local_weights",
        metavar="FILE",
        help="start from these weights (.pth, .safetensors); a last layer of other classes is new",
    )
    group.add_argument(
        "--epochs",
        type=number(int, 0),
        default=10,
        help="passes over train; 0 keeps the weights of --local_weights as they are",
    )
    inputs.add_step_flags(group)
    group.add_argument(
        "--lr", type=number(float, 0, above=True), default=1e-3, help="learning rate"
    )
    finetune.add_flags(group)
    group.add_argument(
        "--exits_path",
        help="for an exit: early_exit.train's checkpoint or run directory; SAVE_DIR if not given; "
        "with --seeds a folder with a run in each seed-N",
    )
    parser.add_common(seed=42, logs=True, saves=True)
    args = parser.parse_args(argv)
    check_flags(parser, args, parser.given(args, argv))
    inputs.check_stream_flags(parser, args, argv)
    return args


def net_name(text: str) -> str:
    """An argparse type: the name of a local net, or of an exit."""
    if is_local(text):
        return text
    try:
        exit_name(text)
    except ValueError as e:
        known = f"{', '.join(LOCAL_NETS)}, a classifier of torchvision, timm/NAME or FILE.py:NAME"
        raise argparse.ArgumentTypeError(f"{e}; or {known}") from None
    return text


def check_flags(parser: experiment.Parser, args: argparse.Namespace, given: set[str]) -> None:
    """Exit with an error where flags contradict each other; given: those on the command line."""
    if args.seeds:
        parser.refuse(given, ["seed"], "--seeds takes its place; leave one out")
    finetune.check_flags(parser, args, given)
    finetune.check_scaling_flags(parser, args, "local")
    if is_local(args.local_net):
        if args.exits_path is not None:
            parser.error("--exits_path goes with an exit, as --local_net msdnet:2")
        if args.epochs == 0 and not args.local_weights:
            parser.error("--epochs 0 keeps weights as they are; --local_weights says which")
        return
    parser.refuse(given, TRAINING, f"--local_net {args.local_net} is trained already; leave it out")
    parser.refuse(given, ["stream"], "an exit reads images in memory here; leave it out")
    parser.one_process(f"--local_net {args.local_net} is trained already")
    if args.rejector_val_size:
        parser.error(
            f"--rejector_val_size: the network of --local_net {args.local_net} has seen all images "
            "but val; leave it out"
        )
    if args.seeds and Path(args.exits_path or ".").is_file():
        parser.error("--exits_path: with --seeds it is a folder with a run in each seed-N")
