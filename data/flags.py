"""The flags that name a data set and cut val from its train set, the same in every script."""

from __future__ import annotations

import argparse

from data.sources import NAMES
from experiment import number


def add_dataset_flag(group: argparse._ActionsContainer, default: str = "digits") -> None:
    """--dataset."""
    group.add_argument("--dataset", default=default, help=f"{', '.join(NAMES)}, DIR or .npz")


def add_split_flags(group: argparse._ActionsContainer, val: str = "val, cut from train") -> None:
    """--val_size, of which `val` says what it is, and --split_seed."""
    group.add_argument(
        "--val_size",
        type=number(float, 0, above=True),
        default=0.1,
        help=f"{val}: a share below 1 or a count",
    )
    group.add_argument("--split_seed", type=number(int, 0), default=0, help="seed of the val split")
