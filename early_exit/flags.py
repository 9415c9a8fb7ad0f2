"""Flags of early_exit/train.py that say how to train, and the training step that they make."""

from __future__ import annotations

import argparse
import functools
import math
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deferral.exits import shares as shares_of_exits
from early_exit.methods import L2W, Base, Boosted, draws
from early_exit.parallel import Workers
from experiment import Parser, number
from experiment import cuda_graph as graphs
from losses.early_exit import METHODS
from models.exit_net import EQUILIBRIA, ExitNet
from models.weight_net import DIMENSIONS, INPUTS, WeightNet

TARGET_P = 20  # q = target_p_index / 20
OPTIMIZERS = {"sgd": (0.1, 1e-4), "adamw": (5e-5, 0.01)}  # lr and weight decay, if not given


def add_training_flags(parser: Parser) -> None:
    """The method and all that it and its optimizers need."""
    group = parser.add_argument_group("training")
    group.add_argument("--method", choices=METHODS, default="base", help="how exits are trained")
    group.add_argument("--epochs", type=number(int, 1), default=300, help="passes over train")
    group.add_argument("--batch_size", type=number(int, 2), default=64, help="of all processes")
    group.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        default="sgd",
        help="sgd as in the papers; adamw for a BERT that is fine-tuned",
    )
    group.add_argument(
        "--lr", type=number(float, 0, above=True), help="default: 0.1 for sgd, 5e-5 for adamw"
    )
    group.add_argument("--momentum", type=number(float, 0, 1), default=0.9, help="of SGD")
    group.add_argument("--nesterov", action="store_true", help="of SGD")
    group.add_argument(
        "--weight_decay", type=number(float, 0), help="default: 1e-4 for sgd, 0.01 for adamw"
    )
    group.add_argument(
        "--schedule",
        choices=("cosine", "linear", "steps", "constant"),
        default="cosine",
        help="of both lr: to 0 along a half cosine or a line; a tenth from 1/2 and from 3/4 of the "
        "epochs",
    )
    group.add_argument(
        "--warmup",
        type=number(float, 0, 1),
        default=0.0,
        help="share of the training in which both lr rise from 0, before the schedule",
    )
    group.add_argument(
        "--label_smoothing",
        type=number(float, 0, 1),
        default=0.0,
        help="of training targets; 0 is what L2W's release trains with: its script for 0.1 smooths "
        "validation's loss alone",
    )
    group = parser.add_argument_group("l2w")
    group.add_argument("--epsilon", type=number(float, 0), default=0.8, help="reach of the weights")
    group.add_argument(
        "--target_p_index",
        type=number(int, 1),
        default=15,
        help=f"exits are charged with shares q^k, q = this / {TARGET_P}",
    )
    group.add_argument(
        "--meta_lr",
        type=number(float, 0, above=True),
        default=1e-4,
        help="of the weight net's Adam",
    )
    group.add_argument("--meta_weight_decay", type=number(float, 0), default=1e-4, help="of Adam")
    group.add_argument(
        "--meta_interval",
        type=number(int, 1),
        default=1,
        help="batches a weight net step, counted anew in each epoch from its first batch",
    )
    group.add_argument("--meta_net_hidden_size", type=number(int, 1), default=500, help="units")
    group.add_argument("--meta_net_num_layers", type=number(int, 1), default=1, help="hidden")
    group.add_argument("--meta_net_input_type", choices=INPUTS, default="loss", help="what it sees")
    group.add_argument(
        "--constraint_dimension",
        choices=DIMENSIONS,
        default="col",
        help="mean weight 1 over the matrix, each sample or each exit",
    )
    group.add_argument(
        "--save_memory",
        action="store_true",
        help="a pass more over each half of a batch, and half of the memory",
    )
    group = parser.add_argument_group("boosted")
    group.add_argument(
        "--ensemble_reweight",
        type=number(float, 0, 1),
        default=0.5,
        help="t of G_k = f_k + t G_k-1",
    )
    group.add_argument(
        "--equilibrium",
        choices=EQUILIBRIA,
        help="which maps' gradients are averaged over exits, not added up (default: all; ranet: "
        "none); the release: coarsest on msdnet, none on ranet",
    )
    group = parser.add_argument_group("speed")
    group.add_argument("--channels_last", action="store_true", help="memory order of the maps")
    group.add_argument(
        "--bf16",
        action="store_true",
        help="autocast to bfloat16; l2w: the real steps alone, its meta-gradient is in float32",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile what a step computes, for --batch_size; minutes at the start; l2w on "
        "one process, with dropout its pass over the other half only",
    )
    group.add_argument(
        "--graph",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="replay steps as CUDA graphs: on CUDA alone, one process; l2w: with sgd, no dropout, "
        "no --save_memory",
    )


def check_training_flags(parser: Parser, args: argparse.Namespace) -> None:
    """Ends in one line where flags contradict each other; fills in what hangs on --optimizer."""
    if args.optimizer == "adamw" and args.nesterov:
        parser.error("--nesterov goes with --optimizer sgd")
    if args.nesterov and not args.momentum:
        parser.error("--nesterov needs a --momentum above 0")
    if args.equilibrium and args.method != "boosted":
        parser.error("--equilibrium goes with --method boosted")
    if args.equilibrium == "coarsest" and args.arch != "msdnet":
        parser.error(f"--equilibrium coarsest is of msdnet's maps; --arch {args.arch}: none or all")
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
    """The training step with its optimizers; `net`, for images of `size` px, is on the device."""
    if args.channels_last:
        net.to(memory_format=torch.channels_last)
    model: nn.Module = net
    if workers.world > 1:
        model = DistributedDataParallel(
            torch.compile(net) if args.compile and args.method != "l2w" else net,
            [device.index] if device.type == "cuda" else None,
            find_unused_parameters=has_unused_parameters(net, size),
        )
    common = {"weight_decay": args.weight_decay, "fused": device.type != "mps"}
    if args.optimizer == "adamw":
        optimizer = torch.optim.AdamW(net.parameters(), args.lr, **common)
    else:
        optimizer = torch.optim.SGD(
            net.parameters(), args.lr, args.momentum, nesterov=args.nesterov, **common
        )
    autocast = graphs.autocast(device, args.bf16)
    order = torch.channels_last if args.channels_last else torch.contiguous_format
    common = net, model, optimizer, workers, args.label_smoothing, autocast, order
    fast: dict[str, Any] = {"compiled": args.compile and workers.world == 1}
    if args.graph and device.type == "cuda" and workers.world == 1 and graphable(args, net):
        fast["graph"] = functools.partial(graphs.StepGraph, device=device)
    if args.method == "base":
        return Base(*common, **fast)
    if args.method == "boosted":
        equilibrium = args.equilibrium or net.equilibrium
        return Boosted(*common, args.ensemble_reweight, equilibrium, **fast)
    weight_net = WeightNet(
        net.num_exits,
        args.meta_net_input_type,
        args.meta_net_hidden_size,
        args.meta_net_num_layers,
    ).to(device)
    meta_optimizer = torch.optim.Adam(
        weight_net.parameters(), args.meta_lr, weight_decay=args.meta_weight_decay
    )
    shares = shares_of_exits(args.target_p_index / TARGET_P, net.num_exits)
    return L2W(
        *common,
        weight_net,
        meta_optimizer,
        args.epsilon,
        args.constraint_dimension,
        shares,
        args.meta_interval,
        args.save_memory,
        **fast,
    )


def graphable(args: argparse.Namespace, net: ExitNet) -> bool:
    """Whether a step of the method reads nothing back to the host, so that a graph can hold it.

    l2w reads AdamW's count of steps, and the random state where a pass is made twice with dropout.
    """
    return args.method != "l2w" or not (args.optimizer == "adamw" or args.save_memory or draws(net))


def has_unused_parameters(net: ExitNet, size: int) -> bool:
    """Whether no exit needs some parameter, as a shallow MSDNet's last maps of the finer scales."""
    inputs = net.example(size).to(next(net.parameters()).device)
    params = list(net.parameters())
    net.eval()  # leaves the running statistics alone
    logits = torch.stack(net(inputs)).sum()
    net.train()
    return any(g is None for g in torch.autograd.grad(logits, params, allow_unused=True))


def factor(schedule: str, share: float, warmup: float = 0.0) -> float:
    """What the learning rates are multiplied by after a share 0..1 of the training.

    warmup: the share of it in which they rise along a line, before the schedule has the rest.
    """
    if share < warmup:
        return share / warmup
    share = (share - warmup) / (1 - warmup)
    if schedule == "linear":
        return 1 - share
    if schedule == "cosine":
        return (1 + math.cos(math.pi * share)) / 2
    return 1.0 if schedule == "constant" or share < 0.5 else 0.1 if share < 0.75 else 0.01
