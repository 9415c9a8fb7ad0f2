"""What one rejector is trained for, and the command line's costs."""

import argparse
import itertools
from typing import NamedTuple

from experiment import number
from losses.deferral import COST_FREE
from losses.stage_switching import SURROGATES
from models.edge_copies import JOINT


class Setting(NamedTuple):
    """What one rejector is trained for. async_freq: S, 0 for once an epoch, or "joint".

    A surrogate that does not know the costs has cost_1 = cost_e = None.
    """

    async_freq: int | str
    cost_1: float | None
    cost_e: float | None
    surrogate: str = SURROGATES[0]
    rival: bool = False

    def stem(self, dataset: str) -> str:
        stem = f"{dataset}-edgenet-async-{self.async_freq}"
        if self.cost_1 is not None:
            stem += f"-cost_1-{self.cost_1:.12g}-cost_e-{self.cost_e:.12g}"
        return stem + (f"-{self.surrogate}" if self.rival else "")


def cost_pair(text: str) -> tuple[float, float]:
    """An argparse type: C1:CE."""
    c1, colon, ce = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r}: write c_1:c_e, as 1.25:0.25")
    return number(float, 0)(c1), number(float, 0)(ce)


def settings_of(args) -> list[Setting]:
    """Every (S, c_1, c_e, surrogate) that was asked for, each once, in the order given."""
    if args.edge_only:
        return []
    pairs = list(args.costs or []) + list(itertools.product(args.cost_1 or [], args.cost_e or []))
    pairs = pairs or [(1.25, 0.25)]
    freqs = [JOINT] if args.joint else args.async_freq
    settings = [Setting(s, *pair, args.surrogate) for s in freqs for pair in pairs]
    for rival, s in itertools.product(args.rivals, freqs):
        costs = [(None, None)] if rival in COST_FREE else args.rival_costs or pairs
        settings += [Setting(s, *pair, rival, rival=True) for pair in costs]
    return list(dict.fromkeys(settings))
