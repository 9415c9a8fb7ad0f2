"""What one rejector is trained for, and the command line's costs, S and outages."""

import argparse
import itertools
from typing import NamedTuple

from experiment import Parser, number
from losses.deferral import COST_FREE
from losses.stage_switching import SURROGATES
from models.edge_copies import JOINT, adaptive


class Setting(NamedTuple):
    """What one rejector is trained for.

    async_freq: S, 0 for once an epoch, "adaptive-TOL", or "joint" (models.edge_copies). A surrogate
    that does not know the costs has cost_1 = cost_e = None.
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


def span(text: str) -> tuple[int, int]:
    """An argparse type: START:END, batches START to END - 1."""
    start, colon, end = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r}: write start:end in batches, as 100:400")
    first, after = number(int, 0)(start), number(int, 0)(end)
    if after <= first:
        raise argparse.ArgumentTypeError(
            f"{text}: END must be above START, as in {first}:{first + 1}"
        )
    return first, after


def add_cost_flags(group) -> None:
    """--cost_1 and --cost_e, whose product is taken, and --costs, pairs beside it."""
    group.add_argument("--cost_1", type=number(float, 0), nargs="+", help="edge error costs c_1")
    group.add_argument(
        "--cost_e",
        type=number(float, 0),
        nargs="+",
        help="query costs c_e; with --cost_1 the product is taken",
    )
    group.add_argument(
        "--costs",
        type=cost_pair,
        nargs="+",
        metavar="C1:CE",
        help="pairs, beside the product; 1.25:0.25 if nothing is given",
    )


def check_cost_flags(parser: Parser, args) -> None:
    if (args.cost_1 is None) != (args.cost_e is None):
        parser.error("--cost_1 and --cost_e go together; or give pairs with --costs")


def cost_pairs(args) -> list[tuple[float, float]]:
    """The (c_1, c_e) that were asked for, each once; the paper's 1.25, 0.25 if none was."""
    pairs = list(args.costs or []) + list(itertools.product(args.cost_1 or [], args.cost_e or []))
    return list(dict.fromkeys(pairs)) or [(1.25, 0.25)]


def add_flags(parser: Parser) -> None:
    """The flags that say which rejectors are trained, and over what link."""
    group = parser.add_argument_group("costs and S: a rejector each, all trained together")
    add_cost_flags(group)
    group.add_argument(
        "--async_freq",
        type=number(int, 0),
        nargs="+",
        default=[1],
        metavar="S",
        help="batches between refreshes of the rejectors' copy of the edge: "
        "1 is synchronous, 0 once at the end of an epoch",
    )
    group.add_argument(
        "--adaptive",
        type=number(float, 0, 1),
        nargs="+",
        default=[],
        metavar="TOL",
        help="beside --async_freq, copies refreshed when the edge's classes on a probe set have "
        "changed on more than this share of it",
    )
    group.add_argument(
        "--probe_size",
        type=number(int, 1),
        default=256,
        help="images of val in the probe set; all of val if it has fewer",
    )
    group.add_argument(
        "--probe_every", type=number(int, 1), default=10, help="batches between looks at it"
    )
    group.add_argument(
        "--outage",
        type=span,
        nargs="+",
        default=[],
        metavar="START:END",
        help="batches START to END - 1 of the training have no link: what is due comes after them",
    )
    group.add_argument(
        "--joint",
        action="store_true",
        help="L2 takes the training forward's answers instead; no copy, no S, no link",
    )
    group.add_argument("--edge_only", action="store_true", help="no rejectors, no local net")
    group.add_argument("--surrogate", choices=SURROGATES, default=SURROGATES[0], help="form of L2")
    group.add_argument(
        "--rivals",
        choices=[*SURROGATES, *COST_FREE],
        nargs="+",
        default=[],
        metavar="SURROGATE",
        help=f"other surrogates trained beside it: {', '.join([*SURROGATES, *COST_FREE])}; the "
        "last two know no costs, so they are one rejector an S",
    )
    group.add_argument(
        "--rival_costs",
        type=cost_pair,
        nargs="+",
        metavar="C1:CE",
        help="cost pairs of the rivals; those of --surrogate if not given",
    )


def check_flags(parser: Parser, args) -> None:
    """Ends in one line where two of the flags contradict each other."""
    check_cost_flags(parser, args)
    if args.edge_only and (args.costs or args.cost_1 or args.joint or args.rivals):
        parser.error("--edge_only trains no rejector, so it takes no costs, --joint or --rivals")
    for flag, given in (("--adaptive", args.adaptive), ("--outage", args.outage)):
        if given and (args.joint or args.edge_only):
            mode = "--joint" if args.joint else "--edge_only"
            parser.error(f"{flag}: {mode} has no copy of the edge and no link; leave one out")
    if args.surrogate in args.rivals:
        parser.error(f"--rivals: {args.surrogate} is the --surrogate already")


def settings_of(args) -> list[Setting]:
    """Every (S, c_1, c_e, surrogate) that was asked for, each once, in the order given."""
    if args.edge_only:
        return []
    pairs = cost_pairs(args)
    freqs = [JOINT] if args.joint else [*args.async_freq, *map(adaptive, args.adaptive)]
    settings = [Setting(s, *pair, args.surrogate) for s in freqs for pair in pairs]
    for rival, s in itertools.product(args.rivals, freqs):
        costs = [(None, None)] if rival in COST_FREE else args.rival_costs or pairs
        settings += [Setting(s, *pair, rival, rival=True) for pair in costs]
    return list(dict.fromkeys(settings))
