"""What one rejector is trained for, and the command line's costs, S and outages."""

import argparse
import itertools
import re
from typing import NamedTuple

import numpy as np

from experiment import Parser, RunPaths, number
from learning_to_help.edge_copies import JOINT, adaptive
from losses.surrogates import COST_FREE, DEFAULT, KNOWING_COSTS, SURROGATES

COSTS = (1.25, 0.25)  # the paper's c_1 and c_e, for what the command line leaves out
LONGEST = 40  # characters of a cost in a file's name
_NUMBER = r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
_RELEASED = re.compile(rf".+-edgenet(?:-async-(\d+))?-cost_1-{_NUMBER}-cost_e-{_NUMBER}")


class Setting(NamedTuple):
    """What one rejector is trained for.

    async_freq: S, 0 for once an epoch, "adaptive-TOL", or "joint" (learning_to_help.edge_copies).
    A surrogate that does not know the costs has cost_1 = cost_e = None.
    """

    async_freq: int | str
    cost_1: float | None
    cost_e: float | None
    surrogate: str = DEFAULT
    rival: bool = False

    def stem(self, dataset: str) -> str:
        """The name of its checkpoint, without .pth: the release's, which has no S for joint.

        Split at "-" it gives the release's scripts their numbers. A rival's name ends in its own.
        """
        stem = RunPaths("", dataset).stem("edgenet")
        if self.async_freq != JOINT:
            stem += f"-async-{self.async_freq}"
        if self.cost_1 is not None:
            stem += f"-{cost_name(self.cost_1, self.cost_e)}"
        return stem + (f"-{self.surrogate}" if self.rival else "")


def cost_name(cost_1: float, cost_e: float) -> str:
    """Costs in a file's name: cost_1-1.25-cost_e-0.25; no two pairs share one.

    Decimals, because the "-" of 1e-05 would separate.
    """
    c1, ce = (np.format_float_positional(float(c), trim="-") for c in (cost_1, cost_e))
    return f"cost_1-{c1}-cost_e-{ce}"


def released_setting(stem: str) -> Setting | None:
    """What the name of a checkpoint says where the L2H release wrote it; None where nothing.

    DATASET-edgenet-async-S-cost_1-C1-cost_e-CE, or without async-S for joint training. Its
    surrogate is `released`, whose weights have the sign of c_1 turned (losses.stage_switching).
    """
    match = _RELEASED.fullmatch(stem)
    if match is None:
        return None
    freq, cost_1, cost_e = match.groups()
    return Setting(int(freq) if freq else JOINT, float(cost_1), float(cost_e), "released")


def release_reads(stem: str) -> bool:
    """Whether the release's table and plot scripts get the right numbers from this name.

    They split it at "-" and take fields by their place, which neither a surrogate's name, nor an S
    that is no number, nor 1e-05 leaves as it is.
    """
    match = _RELEASED.fullmatch(stem)
    return match is not None and "-" not in match[2] + match[3]


def cost(text: str) -> float:
    """An argparse type: a cost in units of a local error, which is to name files."""
    value = abs(number(float, 0, 1e6)(text))  # abs: of -0, whose sign a name would keep
    if len(np.format_float_positional(value, trim="-")) > LONGEST:
        raise argparse.ArgumentTypeError(f"{text} has too many digits for a file's name; round it")
    return value


def cost_pair(text: str) -> tuple[float, float]:
    """An argparse type: C1:CE."""
    c1, colon, ce = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r}: write c_1:c_e, as 1.25:0.25")
    return cost(c1), cost(ce)


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
    c1, ce = COSTS
    group.add_argument(
        "--cost_1",
        type=cost,
        nargs="+",
        help=f"edge error costs c_1; {c1:g} beside a lone --cost_e",
    )
    group.add_argument(
        "--cost_e",
        type=cost,
        nargs="+",
        help=f"query costs c_e; with --cost_1 the product is taken; {ce:g} beside a lone --cost_1",
    )
    group.add_argument(
        "--costs",
        type=cost_pair,
        nargs="+",
        metavar="C1:CE",
        help=f"pairs, beside the product; {c1:g}:{ce:g} if nothing is given",
    )


def cost_pairs(args) -> list[tuple[float, float]]:
    """The (c_1, c_e) that were asked for, each once; the paper's 1.25, 0.25 if none was.

    A lone --cost_1 or --cost_e is paired with the paper's other cost.
    """
    pairs = list(args.costs or [])
    if args.cost_1 or args.cost_e:
        pairs += itertools.product(args.cost_1 or COSTS[:1], args.cost_e or COSTS[1:])
    return list(dict.fromkeys(pairs)) or [COSTS]


def check_bounded(parser: Parser, flag: str, surrogates, pairs) -> None:
    """Ends in one line where a surrogate has no minimum at one of the (c_1, c_e)."""
    for surrogate, (_, cost_e) in itertools.product(surrogates, pairs):
        largest = SURROGATES[surrogate].largest_cost_e
        if cost_e is not None and cost_e > largest:
            parser.error(
                f"--{flag}: {surrogate} has no lower bound at c_e {cost_e:g}; it needs "
                f"c_e <= {largest:g}"
            )


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
        help="L2 takes the training forward's answers instead; no copy, no S, no link; file names "
        "have no async-S",
    )
    group.add_argument("--edge_only", action="store_true", help="no rejectors, no local net")
    group.add_argument("--surrogate", choices=KNOWING_COSTS, default=DEFAULT, help="form of L2")
    group.add_argument(
        "--rivals",
        choices=SURROGATES,
        nargs="+",
        default=[],
        metavar="SURROGATE",
        help=f"other surrogates trained beside it: {', '.join(SURROGATES)}; "
        f"{' and '.join(COST_FREE)} do not know the costs, so they are one rejector an S",
    )
    group.add_argument(
        "--rival_costs",
        type=cost_pair,
        nargs="+",
        metavar="C1:CE",
        help="cost pairs of the rivals; those of --surrogate if not given",
    )


LINK = ("async_freq", "adaptive", "probe_size", "probe_every", "outage")
OF_REJECTORS = ("cost_1", "cost_e", "costs", *LINK, "joint", "surrogate", "rivals", "rival_costs")
OF_REJECTORS += ("lr_rejector", "progress_every", "local_path")


def check_flags(parser: Parser, args, argv=None) -> None:
    """Ends in one line where a flag has no effect beside the others, or they contradict it."""
    given = parser.given(args, argv)
    if args.edge_only:
        parser.refuse(given, OF_REJECTORS, "--edge_only trains no rejector; leave one out")
    if args.joint:
        reason = "--joint has no copy of the edge and no link; leave one out"
        parser.refuse(given, LINK, reason)
    if not args.adaptive:
        parser.refuse(given, ("probe_size", "probe_every"), "goes with --adaptive")
    if set(args.rivals) <= set(COST_FREE):
        parser.refuse(given, ["rival_costs"], f"goes with --rivals {', '.join(KNOWING_COSTS)}")
    if args.seeds:
        parser.refuse(given, ["seed"], "--seeds takes its place; leave one out")
    if args.surrogate in args.rivals:
        parser.error(f"--rivals: {args.surrogate} is the --surrogate already")
    if not args.edge_only:
        check_bounded(parser, "surrogate", [args.surrogate], cost_pairs(args))
        check_bounded(parser, "rivals", args.rivals, args.rival_costs or cost_pairs(args))


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
