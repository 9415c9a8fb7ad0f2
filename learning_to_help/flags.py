"""The flags that choose which rejectors are trained: costs, S, surrogates, and the link."""

import argparse
import itertools
from collections.abc import Sequence

import numpy as np

from experiment import Parser, number
from learning_to_help.edge_copies import JOINT, adaptive
from learning_to_help.settings import Setting
from losses.surrogates import COST_FREE, DEFAULT, KNOWING_COSTS, SURROGATES

DEFAULT_COSTS = (1.25, 0.25)  # the paper's c_1 and c_e
LONGEST = 40  # characters of a cost in a file name


def cost(text: str) -> float:
    """An argparse type: a cost in units of a local error, short enough for a file name."""
    value = abs(number(float, 0, 1e6)(text))  # abs turns -0 into 0: a name would keep its sign
    if len(np.format_float_positional(value, trim="-")) > LONGEST:
        raise argparse.ArgumentTypeError(f"{text} has too many digits for a file name; round it")
    return value


def cost_pair(text: str) -> tuple[float, float]:
    """An argparse type: C1:CE."""
    c1, colon, ce = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r}: write c_1:c_e, as 1.25:0.25")
    return cost(c1), cost(ce)


def span(text: str) -> tuple[int, int]:
    """An argparse type: START:END, the batches START to END - 1."""
    start, colon, end = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r}: write start:end in batches, as 100:400")
    first, after = number(int, 0)(start), number(int, 0)(end)
    if after <= first:
        raise argparse.ArgumentTypeError(
            f"{text}: END must be above START, as in {first}:{first + 1}"
        )
    return first, after


def add_cost_flags(group: argparse._ActionsContainer) -> None:
    """--cost_1 and --cost_e, of which every pair is used, and --costs, further pairs."""
    c1, ce = DEFAULT_COSTS
    group.add_argument(
        "--cost_1",
        type=cost,
        nargs="+",
        help=f"edge error costs c_1, in local errors; {c1:g} if only --cost_e is given",
    )
    group.add_argument(
        "--cost_e",
        type=cost,
        nargs="+",
        help="query costs c_e, in local errors; every pair with --cost_1 is used; "
        f"{ce:g} if only --cost_1 is given",
    )
    group.add_argument(
        "--costs",
        type=cost_pair,
        nargs="+",
        metavar="C1:CE",
        help=f"further cost pairs; {c1:g}:{ce:g} if no cost flag is given",
    )


def cost_pairs(args: argparse.Namespace) -> list[tuple[float, float]]:
    """The pairs (c_1, c_e) of the cost flags without repetition; 1.25, 0.25 without any flag.

    If only --cost_1 or only --cost_e is given, the paper's value stands for the other.
    """
    pairs = list(args.costs or [])
    if args.cost_1 or args.cost_e:
        costs_1, costs_e = args.cost_1 or DEFAULT_COSTS[:1], args.cost_e or DEFAULT_COSTS[1:]
        pairs += itertools.product(costs_1, costs_e)
    return list(dict.fromkeys(pairs)) or [DEFAULT_COSTS]


def check_bounded(
    parser: Parser, flag: str, surrogates: Sequence[str], pairs: Sequence[tuple[float, float]]
) -> None:
    """Exit with an error where a surrogate has no minimum at one of the pairs (c_1, c_e)."""
    for surrogate, (_, cost_e) in itertools.product(surrogates, pairs):
        largest = SURROGATES[surrogate].largest_cost_e
        if cost_e > largest:
            parser.error(
                f"--{flag}: {surrogate} has no lower bound at c_e {cost_e:g}; it needs "
                f"c_e <= {largest:g}"
            )


def add_flags(parser: Parser) -> None:
    """The flags that choose the rejectors to train and the link to the edge."""
    group = parser.add_argument_group("costs and S: one rejector for each, all trained together")
    add_cost_flags(group)
    group.add_argument(
        "--async_freq",
        type=number(int, 0),
        nargs="+",
        default=[1],
        metavar="S",
        help="batches between refreshes of the rejectors' copy of the edge: "
        "1 is synchronous, 0 refreshes once at the end of each epoch",
    )
    group.add_argument(
        "--adaptive",
        type=number(float, 0, 1),
        nargs="+",
        default=[],
        metavar="TOL",
        help="in addition to --async_freq, copies that are refreshed when the edge's predicted "
        "classes have changed on more than this share of a probe set",
    )
    group.add_argument(
        "--probe_size",
        type=number(int, 1),
        default=256,
        help="val images in the probe set; all of val if it has fewer",
    )
    group.add_argument(
        "--probe_every",
        type=number(int, 1),
        default=10,
        help="batches between two comparisons on the probe set",
    )
    group.add_argument(
        "--outage",
        type=span,
        nargs="+",
        default=[],
        metavar="START:END",
        help="the link is down for batches START to END - 1 of the training; refreshes that fall "
        "due happen when it is up again",
    )
    group.add_argument(
        "--joint",
        action="store_true",
        help="joint training: L2 uses the edge's training forward, without copy, S or link; file "
        "names have no async-S",
    )
    group.add_argument(
        "--edge_only", action="store_true", help="train no rejectors, read no local net"
    )
    group.add_argument(
        "--surrogate", choices=KNOWING_COSTS, default=DEFAULT, help="the rejectors' loss L2"
    )
    group.add_argument(
        "--extra_surrogates",
        choices=SURROGATES,
        nargs="+",
        default=[],
        metavar="SURROGATE",
        help=f"surrogates to train beside it, one rejector for each cost pair and S: "
        f"{', '.join(SURROGATES)}; {' and '.join(COST_FREE)} do not know the costs and get one "
        "rejector for each S",
    )
    group.add_argument(
        "--extra_costs",
        type=cost_pair,
        nargs="+",
        metavar="C1:CE",
        help="cost pairs of the extra surrogates; those of --surrogate if not given",
    )


LINK = ("async_freq", "adaptive", "probe_size", "probe_every", "outage")
OF_REJECTORS: tuple[str, ...] = ("cost_1", "cost_e", "costs", *LINK, "joint", "surrogate")
OF_REJECTORS += ("extra_surrogates", "extra_costs", "lr_rejector", "progress_every", "local_path")


def check_flags(
    parser: Parser, args: argparse.Namespace, argv: Sequence[str] | None = None
) -> None:
    """Exit with an error where a flag has no effect with the others or contradicts them."""
    given = parser.given(args, argv)
    if args.edge_only:
        parser.refuse(given, OF_REJECTORS, "--edge_only trains no rejector; leave one out")
    if args.joint:
        reason = "--joint has no copy of the edge and no link; leave one out"
        parser.refuse(given, LINK, reason)
    if not args.adaptive:
        parser.refuse(given, ("probe_size", "probe_every"), "goes with --adaptive")
    if set(args.extra_surrogates) <= set(COST_FREE):
        reason = f"goes with --extra_surrogates {', '.join(KNOWING_COSTS)}"
        parser.refuse(given, ["extra_costs"], reason)
    if args.seeds:
        parser.refuse(given, ["seed"], "--seeds takes its place; leave one out")
    if args.surrogate in args.extra_surrogates:
        parser.error(f"--extra_surrogates: {args.surrogate} is the --surrogate already")
    if not args.edge_only:
        pairs = cost_pairs(args)
        check_bounded(parser, "surrogate", [args.surrogate], pairs)
        check_bounded(parser, "extra_surrogates", args.extra_surrogates, args.extra_costs or pairs)


def settings_of(args: argparse.Namespace) -> list[Setting]:
    """Every (S, c_1, c_e, surrogate) of the flags without repetition, in the order given."""
    if args.edge_only:
        return []
    pairs = cost_pairs(args)
    freqs = [JOINT] if args.joint else [*args.async_freq, *map(adaptive, args.adaptive)]
    settings = [Setting(s, *pair, args.surrogate) for s in freqs for pair in pairs]
    for name, s in itertools.product(args.extra_surrogates, freqs):
        if name in COST_FREE:
            settings.append(Setting(s, None, None, name, extra=True))
        else:
            costs = args.extra_costs or pairs
            settings += [Setting(s, c1, ce, name, extra=True) for c1, ce in costs]
    return list(dict.fromkeys(settings))
