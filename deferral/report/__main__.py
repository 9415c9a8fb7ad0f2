"""One page that says what deferral gains on a data set: every rule, every cost, how sure it is.

  python -m deferral.report results/runs/first/cifar10-predictions.npz --cost_1 1.25 --cost_e 0.25
  python -m deferral.report run-43 run-44 run-45 --costs 1:0.25 1.25:0 --out results/report
  python -m deferral.report answers.csv --cost_1 1 --cost_e 0.1
  python -m deferral.report joined/digits-predictions.npz --cost_1 1 --cost_e 0.1 --cost_flops 1e-9

Takes predictions.npz of this project, or directories with *-predictions.npz below them; several of
one data set are runs of several seeds. Or anyone's npz or CSV: labels, local scores or logits,
remote scores, logits or answers, optionally rejectors, split, images (deferral/external.py says
how they are called). Or a device with exits and a server behind it, in one file (deferral/join.py):
then rules say at which exit a sample stops, or that it is sent. Writes NAME-report.html, which
needs no other file, and NAME-report.json with every number of the page.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deferral import external
from deferral import predictions as saved
from deferral.decide import Decision, answered_by, decide
from deferral.predictions import Predictions
from deferral.report import numbers
from deferral.report.guarantee import RATES, rate_promises, risk_promise
from deferral.report.numbers import Options, exit_numbers
from deferral.report.page import page
from deferral.report.words import about_data, facts, verdict
from deferral.risk import Pair
from deferral.stages import device_costs
from experiment import Parser, number, one_line_errors, script, sha256, write_bytes

COST_E = tuple(round(0.025 * k, 3) for k in range(21))  # the paper's, where no rejector says others
SHOWN_PICTURES = 16  # of each side


def cost_pair(text: str) -> Pair:
    """An argparse type: C1:CE."""
    c1, colon, ce = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not C1:CE, as 1.25:0.25")
    return number(float, 0)(c1), number(float, 0)(ce)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__, "deferral.report")
    parser.add_argument(
        "paths", metavar="FILE_OR_RUN_DIR", type=Path, nargs="+", help="predictions, one a seed"
    )
    seed = number(int, 0)
    parser.add_argument("--seeds", type=seed, nargs="+", help="only the runs of these seeds")
    group = parser.add_argument_group("costs")
    group.add_argument("--cost_1", type=number(float, 0), default=1.25, help="of a remote error")
    group.add_argument("--cost_e", type=number(float, 0), default=0.25, help="of asking")
    group.add_argument(
        "--costs", type=cost_pair, nargs="+", metavar="C1:CE",
        help="more pairs, each with a table of all rules",
    )  # fmt: skip
    group.add_argument(
        "--grid", type=cost_pair, nargs="+", metavar="C1:CE",
        help="pairs of the grid; if not given, those of the rejector that was trained for most, "
        "or else --cost_1 with c_e from 0 to 0.5",
    )  # fmt: skip
    group.add_argument(
        "--cost_flops", type=number(float, 0), metavar="C",
        help="of a multiply-add of a device with exits, instead of what the file says",
    )  # fmt: skip
    group = parser.add_argument_group("promises")
    group.add_argument(
        "--max_reject_rate", type=number(float, 0, 1, above=True, below=True), metavar="Q",
        help=f"a rate to promise, beside {', '.join(f'{r:g}' for r in RATES)}",
    )  # fmt: skip
    group.add_argument("--max_risk", type=number(float, 0), metavar="R", help="the risk to promise")
    group.add_argument(
        "--delta", type=number(float, 0, 1, above=True, below=True), default=0.05,
        help="how often a promise may be broken",
    )  # fmt: skip
    group = parser.add_argument_group("certainty")
    group.add_argument("--draws", type=number(int, 1), default=1000, help="of the bootstrap")
    group.add_argument(
        "--level",
        type=number(float, 0, 1, above=True, below=True),
        default=0.95,
        help="of the intervals",
    )
    group.add_argument("--seed", type=seed, default=0, help="of the bootstrap")
    group.add_argument(
        "--split_seed", type=seed, help="of val, where a file has no split; 0 if not given"
    )
    group = parser.add_argument_group("page")
    group.add_argument("--rule", help="whose classes and pictures are shown, not the best on val")
    group.add_argument("--title", help="of the page")
    group.add_argument("--out", type=Path, metavar="DIR_OR_HTML", help="if not beside the input")
    group.add_argument("--overwrite", action="store_true", help="replace a report that is there")
    return parser.parse_args(argv)


def read_runs(
    paths: Sequence[Path],
    seeds: Sequence[int] | None,
    costs: list[Pair],
    split_seed: int | None,
    cost_flops: float | None = None,
) -> list[Predictions]:
    """The runs of one data set. ValueError or OSError for what cannot be read or compared.

    `cost_flops` takes the place of the files' own.
    """
    files = [f for path in paths for f in (saved.find(path) if path.is_dir() else [path])]
    if len({f.resolve() for f in files}) < len(files):
        raise ValueError("a file is given twice; runs must differ in their seeds")
    runs = []
    for path in files:
        ours = external.is_native(path)
        runs.append(saved.load(path) if ours else external.load(path, costs, split_seed or 0))
        if split_seed is not None and (ours or runs[-1].settings["split"] == "as in the file"):
            raise ValueError(f"--split_seed: {path} says itself which rows are val; leave it out")
    if seeds is not None:
        there = [run.settings.get("seed") for run in runs]
        if absent := [seed for seed in seeds if seed not in there]:
            raise ValueError(f"--seeds {absent[0]}: no such run; the seeds are {_list(there)}")
        runs = [run for run in runs if run.settings.get("seed") in seeds]
    known = [run.settings["seed"] for run in runs if run.settings.get("seed") is not None]
    if len(set(known)) < len(known):
        raise ValueError(f"runs must differ in their seeds, but these are {_list(known)}")
    if cost_flops is not None:
        runs = [_with_cost(run, cost_flops) for run in runs]
    for run in runs:
        device_costs(run)  # refuses what has no server, and stages that do not say what they cost
        if run.settings.get("multiply_adds") != runs[0].settings.get("multiply_adds"):
            raise ValueError(f"{runs[0].source} and {run.source}: exits differ in multiply_adds")
        _same_data(runs[0], run)
    return runs


def _with_cost(run: Predictions, cost_flops: float) -> Predictions:
    """The same with another cost of a multiply-add."""
    if "multiply_adds" not in run.settings:
        raise ValueError(f"--cost_flops: {run.source} does not say what its device computes")
    return replace(run, settings=run.settings | {"cost_flops": cost_flops})


def _same_data(first: Predictions, other: Predictions) -> None:
    """ValueError unless both have val and test, the same classes and the same test rows."""
    tests = [run.part("test") for run in (first, other)]
    other.part("val")
    same = first.settings["classes"] == other.settings["classes"] and all(
        np.array_equal(getattr(tests[0], key), getattr(tests[1], key))
        for key in ("labels", "index")
    )
    if not same:
        raise ValueError(
            f"{first.source} and {other.source} are of different data (classes or test rows); "
            "report one data set at a time"
        )


def _list(values: Sequence[Any]) -> str:
    return ", ".join("unknown" if value is None else str(value) for value in values)


def measure(runs: list[Predictions], args: argparse.Namespace, command: str) -> dict[str, Any]:
    """The whole report but for pictures' pixels: what the JSON holds. ValueError for --rule."""
    options = Options(args.draws, args.seed, args.level)
    pairs = list(dict.fromkeys([(args.cost_1, args.cost_e), *(args.costs or [])]))
    grid = list(dict.fromkeys(args.grid or default_grid(runs, args.cost_1)))
    main = pairs[0]
    settings = [numbers.at_costs(runs, pair, options) for pair in pairs]
    rows, decided = settings[0]["rules"], decide(runs[0], *main)
    scored = [row["name"] for row in rows if decided[row["name"]].score is not None]
    shown = args.rule or numbers.shown_rule(runs, main, settings[0]["best_confidence"])
    if shown not in scored:
        raise ValueError(f"--rule {shown}: no such rule at these costs; {', '.join(scored)} are")
    asked = [] if args.max_reject_rate is None else [args.max_reject_rate]
    keys = ("draws", "seed", "level", "delta", "max_reject_rate", "max_risk")
    said = {key: getattr(args, key) for key in keys} | {"split_seed": args.split_seed or 0}
    data = about_data(runs)
    report: dict[str, Any] = {
        "title": args.title or f"Whom to ask: {data['dataset']}",
        "verdict": [],
        "command": command,
        "options": said,
        "data": data,
        "facts": facts(data, said),
        "settings": settings,
        "grid": numbers.over_grid(runs, grid, options),
        "curves": numbers.curve_numbers(runs, main),
        "shown": shown,
        "shown_because": "asked for by --rule" if args.rule else _because(shown, settings[0]),
        "rate_promises": rate_promises(runs, main, shown, sorted({*RATES, *asked}), args.delta),
        "risk_promise": None
        if args.max_risk is None
        else risk_promise(runs, main, shown, args.max_risk, args.delta),
        "reliability": numbers.reliability(runs),
        "classes": numbers.classes(runs, main, shown),
        "pictures": pictures(runs[0], decided[shown]),
    }
    if exits := exit_numbers(runs, main, [row["name"] for row in rows]):
        report["exits"] = exits
    return report | {"verdict": verdict(report)}


def _because(shown: str, setting: dict[str, Any]) -> str:
    if shown == setting["best_confidence"]:
        return "the best confidence rule on val; the file has no rule of its own at these costs"
    return "of the file's own rules the one with least risk on val"


def default_grid(runs: Sequence[Predictions], cost_1: float) -> list[Pair]:
    """The costs of the rejector that was trained for most of them, sorted; else the paper's c_e.

    Of all rejectors together, there may be costs that most were not trained for.
    """
    trained: dict[tuple, set[Pair]] = {}
    for setting in (setting for run in runs for setting in run.settings["rejectors"]):
        if not setting.get("any_cost"):
            name = setting["surrogate"], setting["async_freq"]
            trained.setdefault(name, set()).add((setting["cost_1"], setting["cost_e"]))
    if not trained:
        return [(cost_1, cost_e) for cost_e in COST_E]
    return sorted(max(trained.values(), key=len))


def pictures(run: Predictions, decision: Decision) -> dict[str, Any] | None:
    """Which example pictures of a run the page shows: evenly over those kept, and those sent."""
    test, stop = answered_by(run.part("test"), decision.exit), decision.stop
    if test.example_index is None or not len(test.example_index):
        return None
    names = [str(name) for name in run.settings["classes"]]
    answers = test.stage_logits.argmax(-1)
    sent = stop[test.example_index] > 0
    found: dict[str, Any] = {"count": len(sent), "kept_count": int((~sent).sum())}
    found |= {"sent_count": int(sent.sum()), "shown": []}
    for side, members in (("kept", ~sent), ("sent", sent)):
        places = np.flatnonzero(members)
        spread = np.linspace(0, len(places) - 1, min(SHOWN_PICTURES, len(places)))
        for example in places[np.unique(spread.astype(int))]:
            row = test.example_index[example]
            one = {"side": side, "example": int(example), "index": int(test.index[row])}
            one |= {"class": names[test.labels[row]]}
            for stage, who in enumerate(("local", "remote")):
                one |= {who: names[answers[stage, row]]}
                one |= {f"{who}_right": bool(test.correct[stage, row])}
            if len(run.stage_logits) > 2:
                one |= {"exit": int(decision.exit[row]) + 1}
            found["shown"].append(one)
    return found


def output_paths(first: Path, out: Path | None) -> tuple[Path, Path]:
    """The page and its JSON, beside the first input or where --out says."""
    if out is not None and out.suffix.lower() == ".html":
        return out, out.with_suffix(".json")
    file = saved.find(first)[0] if first.is_dir() else first
    where = out if out is not None else first if first.is_dir() else first.parent
    name = f"{file.stem.removesuffix('-predictions')}-report"
    return where / f"{name}.html", where / f"{name}.json"


@script
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "-m", "deferral.report", *map(str, given)])
    with one_line_errors():
        html, data = output_paths(args.paths[0], args.out)
        for path in (html, data):
            if path.exists() and not args.overwrite:
                raise ValueError(f"{path}: a report is here; --overwrite replaces it")
        wanted = [(args.cost_1, args.cost_e), *(args.costs or [])]
        wanted += args.grid or [(args.cost_1, cost_e) for cost_e in COST_E]
        wanted = list(dict.fromkeys(wanted))
        runs = read_runs(args.paths, args.seeds, wanted, args.split_seed, args.cost_flops)
        report = measure(runs, args, command)
        # Two runs may be given by one name; each file is an input once.
        report["inputs"] = {
            os.path.relpath(run.source, data.parent): sha256(run.source) for run in runs
        }
    content = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    for path, text in {data: content + "\n", html: page(report, runs[0])}.items():
        write_bytes(path, text.encode())
    print("\n".join(report["verdict"]), html, data, sep="\n")


if __name__ == "__main__":
    main()
