"""The command line of deferral.report, and what follows from it and the files: costs and goals."""

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deferral.cascade import PAY
from deferral.external import Reading
from deferral.predictions import Predictions
from deferral.report.cuts import Wanted
from deferral.risk import Pair
from deferral.scores import FORMS
from experiment import Parser, number

COST_E = tuple(round(0.025 * k, 3) for k in range(21))  # the paper's grid
AROUND = 13  # pairs of a grid around the file's own costs
DEFAULT = (1.25, 0.25)  # of a predictions.npz of this project
ASSUMED = 0.1  # cost of asking, in local errors, for the details of a file that names no costs


def quality(text: str) -> tuple[float, bool]:
    """An argparse type: 0.9, or 99% of the last model's; the value, and whether it is a share."""
    share = text.endswith("%")
    value = number(float, 0)(text.removesuffix("%")) / (100 if share else 1)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0 to 1, nor a share up to 100%")
    return value, share


def cost_pair(text: str) -> Pair:
    """An argparse type: C1:CE."""
    c1, colon, ce = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not C1:CE, as 1.25:0.25")
    return number(float, 0)(c1), number(float, 0)(ce)


def parse_args(doc: str | None, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """doc: of the script, for --help. Flags of how answers are read are None where not given."""
    parser = Parser(doc, "deferral.report")
    parser.add_argument(
        "paths", metavar="FILE_OR_RUN_DIR", type=Path, nargs="+", help="predictions, one a seed"
    )
    seed = number(int, 0)
    parser.add_argument("--seeds", type=seed, nargs="+", help="use only the runs of these seeds")
    group = parser.add_argument_group("costs")
    group.add_argument(
        "--cost_1",
        type=number(float, 0),
        help="cost of a remote error, in units of one local error (default: 1; of predictions.npz "
        "1.25)",
    )
    group.add_argument(
        "--cost_e",
        type=number(float, 0),
        help="cost of asking the remote net, likewise (default of predictions.npz: 0.25; of other "
        "files none: the page is about quality and cost)",
    )
    group.add_argument(
        "--error_cost", type=number(float, 0, above=True), metavar="X",
        help="cost of an error in the unit of the file's columns cost_NAME, such as dollars",
    )  # fmt: skip
    group.add_argument(
        "--costs", type=cost_pair, nargs="+", metavar="C1:CE",
        help="more cost pairs, each with a table of all rules",
    )  # fmt: skip
    group.add_argument(
        "--grid", type=cost_pair, nargs="+", metavar="C1:CE",
        help="cost pairs of the grid (default: those of the rejector trained for most pairs, or "
        "else --cost_1 with c_e from 0 to 0.5)",
    )  # fmt: skip
    group.add_argument(
        "--cost_flops", type=number(float, 0), metavar="C",
        help="cost of a multiply-add of a device with exits, in units of one local error (default: "
        "the file's)",
    )  # fmt: skip
    group = parser.add_argument_group("what is wanted, in place of the least risk")
    group.add_argument(
        "--budget", type=number(float, 0), metavar="B",
        help="the highest quality at a mean cost a sample of at most B, in the file's unit; "
        "without cost columns in calls of the last model",
    )  # fmt: skip
    group.add_argument(
        "--min_quality", type=quality, metavar="Q",
        help="the least cost at a quality of at least Q, 0 to 1, or a share of the last model's "
        "such as 99%%",
    )  # fmt: skip
    group = parser.add_argument_group("how a file of answers is read")
    group.add_argument(
        "--models", nargs="+", metavar="NAME",
        help="models in the order in which they are asked (default: by mean cost, or the file's)",
    )  # fmt: skip
    group.add_argument(
        "--pay", choices=PAY,
        help="whether a sample pays for all models that it asked, or for the one that answers "
        "(default: cascade)",
    )  # fmt: skip
    group.add_argument(
        "--missing", choices=("wrong", "drop"),
        help="whether a missing answer is wrong, or its sample is left out (default: wrong)",
    )  # fmt: skip
    group.add_argument(
        "--quality_scale", type=number(float, -math.inf), nargs=2,
        metavar=("LOW", "HIGH"), help="the range of the columns quality_NAME (default: 0 1)",
    )  # fmt: skip
    group.add_argument(
        "--doubts", nargs="+", metavar="NAME",
        help="models whose column score_NAME is higher where they are less sure",
    )  # fmt: skip
    group.add_argument(
        "--scores", choices=("auto", *FORMS),
        help="what class scores are (default: auto, said on the page)",
    )  # fmt: skip
    group.add_argument(
        "--unit", metavar="NAME", help="what the columns cost_NAME are in, such as dollars"
    )
    group = parser.add_argument_group("promises")
    group.add_argument(
        "--max_reject_rate", type=number(float, 0, 1, above=True, below=True), metavar="Q",
        help="send at most a share Q of the samples, which holds with probability 1 - delta",
    )  # fmt: skip
    group.add_argument(
        "--max_risk", type=number(float, 0), metavar="R",
        help="the least cost at a risk of at most R, in local errors, which holds with probability "
        "1 - delta; where no costs are given, a share of wrong answers",
    )  # fmt: skip
    group.add_argument(
        "--delta", type=number(float, 0, 1, above=True, below=True), default=0.05,
        help="probability with which a promise may be broken",
    )  # fmt: skip
    group = parser.add_argument_group("certainty")
    group.add_argument("--draws", type=number(int, 1), default=1000, help="bootstrap draws")
    group.add_argument(
        "--level",
        type=number(float, 0, 1, above=True, below=True),
        default=0.95,
        help="confidence level of the intervals",
    )
    group.add_argument("--seed", type=seed, default=0, help="seed of the bootstrap")
    group.add_argument(
        "--split_seed",
        type=seed,
        help="seed of the random val half, for files without a split (default: 0)",
    )
    group = parser.add_argument_group("page")
    group.add_argument(
        "--rule", help="rule whose classes and pictures are shown (default: the best on val)"
    )
    group.add_argument("--title", help="title of the page")
    group.add_argument(
        "--out",
        type=Path,
        metavar="DIR_OR_HTML",
        help="where the report goes (default: beside the input)",
    )
    group.add_argument("--overwrite", action="store_true", help="replace an existing report")
    return parser.parse_args(argv)


def trained_costs(runs: Sequence[Predictions]) -> list[Pair]:
    """The costs of the rejector that was trained for most of them, sorted; empty without one.

    The costs of all rejectors together may hold pairs that most were not trained for.
    """
    trained: defaultdict[tuple[str, Any], set[Pair]] = defaultdict(set)
    for setting in (setting for run in runs for setting in run.settings["rejectors"]):
        if not setting.get("any_cost"):
            name = setting["surrogate"], setting["async_freq"]
            trained[name].add((setting["cost_1"], setting["cost_e"]))
    most: set[Pair] = max(trained.values(), key=len, default=set())
    return sorted(most)


@dataclass(frozen=True)
class Goal:
    """Pairs of costs (c_1, c_e), the first being the main one; a grid of them; what is wanted."""

    pairs: list[Pair]
    grid: list[Pair]
    wanted: Wanted
    about: str  # where the costs come from, for people


READING = ("models", "pay", "missing", "quality_scale", "doubts", "scores")


def reading(args: argparse.Namespace) -> Reading:
    """How files of answers are read. ValueError for a --quality_scale that does not rise."""
    if args.quality_scale and not args.quality_scale[0] < args.quality_scale[1]:
        low, high = args.quality_scale
        raise ValueError(f"--quality_scale {low:g} {high:g}: the first must be the lower one")
    return Reading(
        models=tuple(args.models or ()),
        quality_scale=args.quality_scale and (args.quality_scale[0], args.quality_scale[1]),
        doubts=tuple(args.doubts or ()),
        scores=args.scores or "auto",
        missing=args.missing or "wrong",
    )


def goal(args: argparse.Namespace, runs: Sequence[Predictions]) -> Goal:
    """ValueError for flags that these files give no meaning to."""
    for run in runs:
        unused = [name for name in READING if getattr(args, name) is not None]
        if unused and "understood" not in run.settings:
            raise ValueError(
                f"--{unused[0]}: only for files of answers; {run.source} is of this project"
            )
    goals = ("budget", "min_quality", "max_risk")
    given = [f"--{name}" for name in goals if getattr(args, name) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)}: give one of them")
    main, about, paper = _main_costs(args, runs[0])
    wanted = Wanted("risk" if about != NO_COSTS else "quality")
    if args.max_risk is not None:
        wanted = Wanted("max_risk", args.max_risk)
        if about == NO_COSTS:
            if len(runs[0].correct) > 2:
                raise ValueError("--max_risk with three models or more needs costs")
            main = main[0], 0.0
    elif args.budget is not None:
        wanted = Wanted("budget", args.budget)
    elif args.min_quality is not None:
        value, share = args.min_quality
        rights = [run.part("val").correct[-1].mean(dtype=np.float64) for run in runs]
        last = np.mean(rights)
        wanted = Wanted("quality", float(value * last) if share else value)
    return Goal(
        list(dict.fromkeys([main, *(args.costs or [])])),
        list(dict.fromkeys(args.grid or trained_costs(runs) or paper)),
        wanted,
        about,
    )


NO_COSTS = "none given: an error and a call have no common unit"


def _main_costs(args: argparse.Namespace, run: Predictions) -> tuple[Pair, str, list[Pair]]:
    """The main pair, where it comes from, and a grid around it."""
    cost_1 = args.cost_1
    if run.own is None:
        if args.error_cost is not None:
            raise ValueError("--error_cost: only for files of answers with columns cost_NAME")
        cost_1 = DEFAULT[0] if cost_1 is None else cost_1
        cost_e = DEFAULT[1] if args.cost_e is None else args.cost_e
        return (cost_1, cost_e), "", [(cost_1, c) for c in COST_E]
    cost_1 = 1.0 if cost_1 is None else cost_1
    unit = run.settings["cost_unit"]
    if unit == "file":
        if args.cost_e is not None:
            raise ValueError(
                f"--cost_e: {run.source} has what each model costs; --error_cost says what an "
                "error costs in that unit"
            )
        paid, answered = run.own.paid, run.own.quality
        assert paid is not None
        spread = float(np.ptp(paid.mean(1))) or 1.0
        gain = max(float(np.ptp(answered.mean(1, dtype=np.float64))), 1e-3)
        error = args.error_cost or spread / gain
        pairs = [(cost_1, float(1 / (error * x))) for x in np.geomspace(8, 1 / 8, AROUND)]
        about = "an error costs what --error_cost says" if args.error_cost else NO_COSTS
        return (cost_1, 1 / error), about, pairs
    if args.error_cost is not None:
        raise ValueError(f"--error_cost: {run.source} has no columns cost_NAME; use --cost_e")
    if unit == "errors":
        if args.cost_e is not None:
            raise ValueError(f"--cost_e: {run.source} has a column cost_e; leave one of them out")
        return (
            (cost_1, 1.0),
            "the file's column cost_e",
            [(cost_1, float(x)) for x in np.geomspace(1 / 8, 8, AROUND)],
        )
    if args.cost_e is None:
        return (cost_1, ASSUMED), NO_COSTS, [(cost_1, c) for c in COST_E]
    around = [args.cost_e * float(x) for x in np.geomspace(1 / 8, 8, AROUND)]
    return (cost_1, args.cost_e), "", [(cost_1, c) for c in (around if args.cost_e else COST_E)]
