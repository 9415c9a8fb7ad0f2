"""Flags of the network and of training, and the training method that they describe."""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deferral.exits import shares as shares_of_exits
from early_exit.methods import L2W, has_dropout
from early_exit.steps import Base, Boosted
from experiment import Parser, number
from experiment import cuda_graph as graphs
from experiment.parallel import Workers
from losses.early_exit import METHODS
from models.exit_net import EQUILIBRIA, ExitNet, has_unused_parameters
from models.exit_nets import EXIT_NETS, flag_names
from models.weight_net import DIMENSIONS, INPUTS, WeightNet

TARGET_P = 20  # q = target_p_index / 20
# Flags that have an effect with one method, or one optimizer, only.
OF_METHOD = {
    "l2w": (
        "epsilon", "target_p_index", "meta_lr", "meta_weight_decay", "meta_interval",
        "meta_net_hidden_size", "meta_net_num_layers", "meta_net_input_type",
        "constraint_dimension", "save_memory",
    ),
    "boosted": ("ensemble_reweight", "equilibrium"),
}  # fmt: skip
OF_SGD = ("momentum", "nesterov")
OPTIMIZERS = {"sgd": (0.1, 1e-4), "adamw": (5e-5, 0.01)}  # default lr and weight decay


def add_arch_flags(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, default: str | None = "msdnet"
) -> type[ExitNet] | None:
    """Add --arch, and the flags of the architecture that `argv` (None: sys.argv) names.

    Returns its class: the default's where argv names none or an unknown one, which `parser` will
    refuse; None, and no flags, where there is no default either.
    """
    first_look = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first_look.add_argument("--arch", nargs="?", default=default)
    name = first_look.parse_known_args(sys.argv[1:] if argv is None else argv)[0].arch
    name = name if name in EXIT_NETS else default
    group = parser.add_argument_group(f"network: {name}" if name else "network")
    group.add_argument(
        "--arch",
        choices=EXIT_NETS,
        default=default,
        help="architecture; --arch NAME --help lists the flags of NAME",
    )
    if name is None:
        return None
    EXIT_NETS[name].add_flags(group)
    return EXIT_NETS[name]


def arch_settings(args: argparse.Namespace, cls: type[ExitNet]) -> dict[str, Any]:
    """The values of an architecture's flags: the `settings` of its `from_settings`."""
    return {name: getattr(args, name) for name in flag_names(cls)}


def add_training_flags(parser: Parser) -> None:
    """The method, its optimizers and schedule, and the speed of its steps."""
    group = parser.add_argument_group("training")
    group.add_argument(
        "--method", choices=METHODS, default="base", help="training method of the exits"
    )
    group.add_argument(
        "--epochs", type=number(int, 1), default=300, help="passes over the training set"
    )
    group.add_argument(
        "--batch_size", type=number(int, 2), default=64, help="samples a batch, over all processes"
    )
    group.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        default="sgd",
        help="sgd as in the papers; adamw to fine-tune a BERT",
    )
    group.add_argument(
        "--lr",
        type=number(float, 0, above=True),
        help="learning rate (default: 0.1 for sgd, 5e-5 for adamw)",
    )
    group.add_argument("--momentum", type=number(float, 0, 1), default=0.9, help="momentum of SGD")
    group.add_argument("--nesterov", action="store_true", help="Nesterov momentum in SGD")
    group.add_argument(
        "--weight_decay",
        type=number(float, 0),
        help="weight decay (default: 1e-4 for sgd, 0.01 for adamw)",
    )
    group.add_argument(
        "--schedule",
        choices=("cosine", "linear", "steps", "constant"),
        default="cosine",
        help="schedule of lr and meta_lr: to 0 along a half cosine or a line, or divided by 10 at "
        "1/2 and 3/4 of the epochs",
    )
    group.add_argument(
        "--warmup",
        type=number(float, 0, 1),
        default=0.0,
        help="first share of the training, in which lr and meta_lr rise linearly from 0",
    )
    group.add_argument(
        "--label_smoothing",
        type=number(float, 0, 1),
        default=0.0,
        help="label smoothing of the training loss (L2W's release trains with 0; its script for "
        "0.1 smooths the validation loss only)",
    )
    group = parser.add_argument_group("l2w")
    group.add_argument(
        "--epsilon", type=number(float, 0), default=0.8, help="range of the sample weights"
    )
    group.add_argument(
        "--target_p_index",
        type=number(int, 1),
        default=15,
        help=f"the meta loss gives exit k a share q^k of the samples, q = this / {TARGET_P}",
    )
    group.add_argument(
        "--meta_lr",
        type=number(float, 0, above=True),
        default=1e-4,
        help="learning rate of the weight net's Adam",
    )
    group.add_argument(
        "--meta_weight_decay",
        type=number(float, 0),
        default=1e-4,
        help="weight decay of the weight net's Adam",
    )
    group.add_argument(
        "--meta_interval",
        type=number(int, 1),
        default=1,
        help="batches from one step of the weight net to the next, counted from each epoch's first",
    )
    group.add_argument(
        "--meta_net_hidden_size",
        type=number(int, 1),
        default=500,
        help="units of a hidden layer of the weight net",
    )
    group.add_argument(
        "--meta_net_num_layers",
        type=number(int, 1),
        default=1,
        help="hidden layers of the weight net",
    )
    group.add_argument(
        "--meta_net_input_type",
        choices=INPUTS,
        default="loss",
        help="input of the weight net: the exits' losses, their confidences, or both",
    )
    group.add_argument(
        "--constraint_dimension",
        choices=DIMENSIONS,
        default="col",
        help="what weights have mean 1 over: all (mat), each sample (col) or each exit (row)",
    )
    group.add_argument(
        "--save_memory",
        action="store_true",
        help="halve the memory for one more pass over each half of a batch",
    )
    group = parser.add_argument_group("boosted")
    group.add_argument(
        "--ensemble_reweight",
        type=number(float, 0, 1),
        default=0.5,
        help="t of the ensemble G_k = f_k + t G_(k-1)",
    )
    group.add_argument(
        "--equilibrium",
        choices=EQUILIBRIA,
        help="maps whose gradients are averaged over exits instead of summed (default: all; ranet: "
        "none); the release has coarsest on msdnet, none on ranet",
    )
    group = parser.add_argument_group("speed")
    group.add_argument("--channels_last", action="store_true", help="store maps channels last")
    group.add_argument(
        "--bf16",
        action="store_true",
        help="autocast to bfloat16; for l2w only in the real steps, not in the meta-gradient",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the passes of a step with torch.compile, which takes minutes at the start; "
        "l2w: on one process only, and with dropout only the pass over the other half",
    )
    group.add_argument(
        "--graph",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="replay steps as CUDA graphs, on CUDA with one process; for l2w only with sgd and "
        "without dropout and --save_memory",
    )


def check_training_flags(parser: Parser, args: argparse.Namespace, given: set[str]) -> None:
    """Exit with one line where flags contradict each other; fill in the defaults of --optimizer.

    given: the flags on the command line.
    """
    for method, names in OF_METHOD.items():
        if args.method != method:
            parser.refuse(given, names, f"goes with --method {method}")
    if args.optimizer != "sgd":
        parser.refuse(given, OF_SGD, "goes with --optimizer sgd")
    if args.nesterov and not args.momentum:
        parser.error("--nesterov needs a --momentum above 0")
    if args.equilibrium == "coarsest" and args.arch != "msdnet":
        parser.error(f"--equilibrium coarsest needs --arch msdnet; give {args.arch} none or all")
    lr, weight_decay = OPTIMIZERS[args.optimizer]
    args.lr = lr if args.lr is None else args.lr
    args.weight_decay = weight_decay if args.weight_decay is None else args.weight_decay


def make_method(
    args: argparse.Namespace,
    net: ExitNet,
    size: int,
    device: torch.device,
    workers: Workers,
) -> Base:
    """The training method with its optimizers. net: on the device; size: px or tokens of inputs."""
    if args.channels_last:
        net.to(memory_format=torch.channels_last)
    model: nn.Module = net
    if workers.world > 1:
        model = DistributedDataParallel(
            torch.compile(net) if args.compile and args.method != "l2w" else net,
            [device.index] if device.type == "cuda" else None,
            find_unused_parameters=has_unused_parameters(net, size),
        )
    decay, fused = args.weight_decay, device.type != "mps"
    optimizer: torch.optim.SGD | torch.optim.AdamW
    if args.optimizer == "adamw":
        optimizer = torch.optim.AdamW(net.parameters(), args.lr, weight_decay=decay, fused=fused)
    else:
        optimizer = torch.optim.SGD(
            net.parameters(), args.lr, args.momentum,
            nesterov=args.nesterov, weight_decay=decay, fused=fused,
        )  # fmt: skip
    graph = None
    if args.graph and device.type == "cuda" and workers.world == 1 and graphable(args, net):
        graph = functools.partial(graphs.StepGraph, device=device)
    make: Callable[..., Base] = Base
    if args.method == "boosted":
        make = functools.partial(
            Boosted,
            ensemble_reweight=args.ensemble_reweight,
            equilibrium=args.equilibrium or net.equilibrium,
        )
    elif args.method == "l2w":
        make = _l2w(args, net.num_exits, device)
    return make(
        net,
        model,
        optimizer,
        workers,
        args.label_smoothing,
        graphs.autocast(device, args.bf16),
        torch.channels_last if args.channels_last else torch.contiguous_format,
        compiled=args.compile and workers.world == 1,
        graph=graph,
    )


def _l2w(args: argparse.Namespace, num_exits: int, device: torch.device) -> Callable[..., L2W]:
    weight_net = WeightNet(
        num_exits,
        args.meta_net_input_type,
        args.meta_net_hidden_size,
        args.meta_net_num_layers,
    ).to(device)
    meta_optimizer = torch.optim.Adam(
        weight_net.parameters(), args.meta_lr, weight_decay=args.meta_weight_decay
    )
    return functools.partial(
        L2W,
        weight_net=weight_net,
        meta_optimizer=meta_optimizer,
        epsilon=args.epsilon,
        dimension=args.constraint_dimension,
        shares=shares_of_exits(args.target_p_index / TARGET_P, num_exits),
        meta_interval=args.meta_interval,
        save_memory=args.save_memory,
    )


def graphable(args: argparse.Namespace, net: ExitNet) -> bool:
    """Whether a step of the method never reads from the device, as a CUDA graph requires.

    l2w reads AdamW's step count, and the random state where it repeats a pass with dropout.
    """
    return args.method != "l2w" or not (
        args.optimizer == "adamw" or args.save_memory or has_dropout(net)
    )


def factor(schedule: str, share: float, warmup: float = 0.0) -> float:
    """The factor on the learning rates after a share 0..1 of the training.

    warmup: the first share of the training, in which they rise linearly; `schedule` has the rest.
    """
    if share < warmup:
        return share / warmup
    share = (share - warmup) / (1 - warmup)
    if schedule == "linear":
        return 1 - share
    if schedule == "cosine":
        return (1 + math.cos(math.pi * share)) / 2
    return 1.0 if schedule == "constant" or share < 0.5 else 0.1 if share < 0.75 else 0.01
