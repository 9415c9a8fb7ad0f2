"""The flags that the three steps of a round share, and the study that they specify."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

import data
import experiment
from active_learning.index_sets import IndexSet, Place, load
from active_learning.strategies import METHODS
from active_learning.target_models import INITS, Target, read_targets
from data.flags import add_dataset_flag, add_split_flags
from experiment import Parser, number

CASCADE_FLAGS = ("local_id", "edge_id", "cost_1", "cost_e")
SPEED_FLAGS = ("bf16", "channels_last")


class Study(NamedTuple):
    """One run of one seed: its directory, data and targets.

    pool is the training set without val. The first T of `targets` vote; the others can be trained
    as unseen ones.
    """

    root: Path
    seed: int
    device: torch.device
    dataset: data.Dataset
    fingerprint: str  # of the data set
    targets: tuple[Target, ...]
    model_num: int

    @property
    def pool(self) -> data.Part:
        return self.dataset.train

    def place(self, method: str) -> Place:
        return Place(
            self.root, self.dataset.name, method, self.model_num, self.fingerprint, self.seed
        )

    def index_set(self, method: str, round_: int) -> IndexSet:
        """The round's labels; raises what `index_sets.load` does."""
        return load(self.place(method), round_, len(self.pool.labels))


def add_study_flags(parser: Parser) -> None:
    """Flags of the data, the targets, the methods and the round."""
    group = parser.add_argument_group("data")
    add_dataset_flag(group, "mnist")
    add_split_flags(group, "images cut from train and kept out of the pool")
    group.add_argument("--save_dir", default="results/runs/active", help="the run directory")
    group = parser.add_argument_group("study")
    group.add_argument(
        "--method", nargs="+", choices=METHODS, default=["DIAM"], help="query methods", metavar="M"
    )
    group.add_argument("--al_iter", type=number(int, 0), default=0, help="the round R")
    group.add_argument(
        "--model_num", type=number(int, 2), default=12, help="T: the first T targets vote"
    )
    group.add_argument(
        "--targets", metavar="JSON", help="a list of networks in place of the twelve published"
    )
    group.add_argument(
        "--ofa_dir",
        metavar="DIR",
        help="folder with a folder for each published network (default: DATA_ROOT/ofa if there)",
    )
    group.add_argument(
        "--init",
        choices=INITS,
        default="scratch",
        help="initial weights of targets: random, or ImageNet's for targets that have them",
    )


def parse(parser: Parser, argv: list[str] | None) -> argparse.Namespace:
    """The arguments; `given` holds the names of the flags on the command line."""
    args = parser.parse_args(argv)
    args.given = parser.given(args, argv)
    return args


def add_cascade_flags(parser: Parser) -> None:
    """Flags of the cascade that `risk` labels for and that is evaluated after every round."""
    group = parser.add_argument_group("cascade of two targets, a local and an edge net")
    group.add_argument(
        "--local_id", type=number(int, 0), help="local net (default: fewest multiply-adds)"
    )
    group.add_argument(
        "--edge_id", type=number(int, 0), help="edge net (default: most multiply-adds)"
    )
    group.add_argument(
        "--cost_1", type=number(float, 0), default=1.25, help="c_1, cost of an edge error"
    )
    group.add_argument("--cost_e", type=number(float, 0), default=0.25, help="c_e, cost of a query")


def add_speed_flags(parser: Parser) -> None:
    """Flags of `trained.numbers_of`."""
    group = parser.add_argument_group("speed")
    either = argparse.BooleanOptionalAction
    group.add_argument("--bf16", action=either, help="bfloat16 autocast (default: on CUDA only)")
    group.add_argument(
        "--channels_last",
        action=either,
        help="feature maps in channels-last memory (default: except on mps)",
    )


def cascade(study: Study, multiply_adds: list[int], args: argparse.Namespace) -> tuple[int, int]:
    """(local, edge) of the committee; multiply_adds [T]. ValueError if they are no cascade."""
    costs = multiply_adds[: study.model_num]
    by_cost = sorted(range(len(costs)), key=costs.__getitem__)  # stable: ties by id
    local = by_cost[0] if args.local_id is None else args.local_id
    edge = by_cost[-1] if args.edge_id is None else args.edge_id
    for flag, net_id in (("--local_id", local), ("--edge_id", edge)):
        if net_id >= study.model_num:
            raise ValueError(f"{flag} {net_id}: the targets that vote are 0..{study.model_num - 1}")
    if local == edge:
        raise ValueError(f"--local_id and --edge_id are both {local}: a cascade needs two nets")
    return local, edge


def net_ids(study: Study, wanted: list[int] | None) -> list[int]:
    """The targets of `--net_id`, or all that vote. ValueError if there is no such target."""
    wanted = list(range(study.model_num)) if wanted is None else list(dict.fromkeys(wanted))
    if max(wanted, default=0) >= len(study.targets):
        raise ValueError(f"net {max(wanted)}: there are {len(study.targets)} targets, from 0")
    return wanted


def studies(args: argparse.Namespace) -> Iterator[tuple[Study, argparse.Namespace]]:
    """A study and its arguments for each seed on the command line; the data are read once.

    ValueError or OSError if the flags specify no study.
    """
    device = experiment.pick_device(args.device)
    default = Path(args.data_root) / "ofa"
    ofa_dir = args.ofa_dir or (default if default.is_dir() else None)
    targets = read_targets(args.targets, ofa_dir, args.init)
    if args.model_num > len(targets):
        raise ValueError(f"--model_num {args.model_num}: there are {len(targets)} targets")
    dataset = data.load(args.dataset, args.data_root, args.val_size, args.split_seed)
    fingerprint = dataset.fingerprint()
    for one in experiment.each_seed(args):
        root = Path(one.save_dir)
        yield Study(root, one.seed, device, dataset, fingerprint, targets, args.model_num), one
