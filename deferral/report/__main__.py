"""A one-page report of what deferral gains on a data set, for every rule, with intervals.

  python -m deferral.report results/runs/first/cifar10-predictions.npz --cost_1 1.25 --cost_e 0.25
  python -m deferral.report run-43 run-44 run-45 --costs 1:0.25 1.25:0 --out results/report
  python -m deferral.report answers.csv --cost_1 1 --cost_e 0.1
  python -m deferral.report joined/digits-predictions.npz --cost_1 1 --cost_e 0.1 --cost_flops 1e-9

Takes predictions.npz of this project, or directories with *-predictions.npz below them; several of
one data set are runs of several seeds. Or anyone's npz or CSV: labels, local scores or logits,
remote scores, logits or answers, optionally rejectors, split, images (deferral/external.py lists
their names). Or a device with exits and a server behind it, in one file (deferral/join.py): then
rules decide at which exit a sample stops, or that it is sent. Writes NAME-report.html, which needs
no other file, and NAME-report.json with every number of the page.
"""

import argparse
import json
import os
import shlex
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from deferral import external
from deferral import predictions as saved
from deferral.decide import Decision, answered_by, decide, scored
from deferral.predictions import Predictions
from deferral.report import numbers
from deferral.report.guarantee import RATES, rate_promises, risk_promise
from deferral.report.numbers import Options, exit_numbers
from deferral.report.page import page
from deferral.report.words import about_data, facts, verdict
from deferral.risk import Pair
from deferral.stages import device_costs
from experiment import Parser, number, one_line_errors, script, sha256, write_bytes

COST_E = tuple(round(0.025 * k, 3) for k in range(21))  # the paper's grid
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
    parser.add_argument("--seeds", type=seed, nargs="+", help="use only the runs of these seeds")
    group = parser.add_argument_group("costs")
    group.add_argument(
        "--cost_1",
        type=number(float, 0),
        default=1.25,
        help="cost of a remote error, in units of one local error",
    )
    group.add_argument(
        "--cost_e",
        type=number(float, 0),
        default=0.25,
        help="cost of asking the remote net, likewise",
    )
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
    group = parser.add_argument_group("promises")
    group.add_argument(
        "--max_reject_rate", type=number(float, 0, 1, above=True, below=True), metavar="Q",
        help=f"a reject rate to promise, beside {', '.join(f'{r:g}' for r in RATES)}",
    )  # fmt: skip
    group.add_argument("--max_risk", type=number(float, 0), metavar="R", help="a risk to promise")
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


def read_runs(
    paths: Sequence[Path],
    seeds: Sequence[int] | None,
    costs: list[Pair],
    split_seed: int | None,
    cost_flops: float | None = None,
) -> list[Predictions]:
    """The runs of one data set. ValueError or OSError for what cannot be read or compared.

    `cost_flops` replaces that of the files.
    """
    files = [f for path in paths for f in (saved.find(path) if path.is_dir() else [path])]
    if len({f.resolve() for f in files}) < len(files):
        raise ValueError("a file is given twice; runs must differ in their seeds")
    runs = []
    for path in files:
        native = external.is_native(path)
        runs.append(saved.load(path) if native else external.load(path, costs, split_seed or 0))
        if split_seed is not None and (native or runs[-1].settings["split"] == "as in the file"):
            raise ValueError(f"--split_seed: {path} says itself which rows are val; leave it out")
    if seeds is not None:
        present = [run.settings.get("seed") for run in runs]
        if absent := [seed for seed in seeds if seed not in present]:
            raise ValueError(f"--seeds {absent[0]}: no such run; the seeds are {_list(present)}")
        runs = [run for run in runs if run.settings.get("seed") in seeds]
    given = [run.settings["seed"] for run in runs if run.settings.get("seed") is not None]
    if len(set(given)) < len(given):
        raise ValueError(f"runs must differ in their seeds, but these are {_list(given)}")
    if cost_flops is not None:
        runs = [_with_cost(run, cost_flops) for run in runs]
    for run in runs:
        device_costs(run)  # ValueError without a server, or where stages lack their costs
        if run.settings.get("multiply_adds") != runs[0].settings.get("multiply_adds"):
            raise ValueError(f"{runs[0].source} and {run.source}: exits differ in multiply_adds")
        _same_data(runs[0], run)
    return runs


def _with_cost(run: Predictions, cost_flops: float) -> Predictions:
    """The same predictions with another cost of a multiply-add."""
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


def measure(
    runs: list[Predictions],
    pairs: list[Pair],
    grid: list[Pair],
    options: Options,
    command: str,
    rule: str | None = None,
    title: str | None = None,
) -> dict[str, Any]:
    """Everything that the JSON holds, which is the whole report but for the pixels of pictures.

    The first of `pairs` is the main one. ValueError where `rule` has no score at its costs.
    """
    main = pairs[0]
    settings = [numbers.at_costs(runs, pair, options) for pair in pairs]
    rows, decided = settings[0]["rules"], decide(runs[0], *main)
    names = [row["name"] for row in rows if row["name"] in scored(decided)]
    shown = rule or numbers.shown_rule(runs, main, settings[0]["best_confidence"])
    if shown not in names:
        raise ValueError(f"--rule {shown}: no such rule at these costs; {', '.join(names)} are")
    rates = sorted({*RATES, options.max_reject_rate or RATES[0]})
    data = about_data(runs)
    report: dict[str, Any] = {
        "title": title or f"Whom to ask: {data['dataset']}",
        "verdict": [],
        "command": command,
        "options": asdict(options),
        "data": data,
        "facts": facts(data, options),
        "settings": settings,
        "grid": numbers.over_grid(runs, grid, options),
        "curves": numbers.curve_numbers(runs, main),
        "shown": shown,
        "shown_because": "asked for by --rule" if rule else _because(shown, settings[0]),
        "rate_promises": rate_promises(runs, main, shown, rates, options.delta),
        "risk_promise": None
        if options.max_risk is None
        else risk_promise(runs, main, shown, options.max_risk, options.delta),
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


def pictures(run: Predictions, decision: Decision) -> dict[str, Any] | None:
    """Which example pictures of a run the page shows: evenly over those kept, and those sent."""
    test, stop = answered_by(run.part("test"), decision.exit), decision.stop
    if test.examples is None:
        return None
    names = [str(name) for name in run.settings["classes"]]
    answers = test.stage_logits.argmax(-1)
    sent = stop[test.examples.rows] > 0
    shown = []
    for side, members in (("kept", ~sent), ("sent", sent)):
        places = np.flatnonzero(members)
        spread = np.linspace(0, len(places) - 1, min(SHOWN_PICTURES, len(places)))
        for example in places[np.unique(spread.astype(int))]:
            row = test.examples.rows[example]
            picture = {"side": side, "example": int(example), "index": int(test.index[row])}
            picture["class"] = names[test.labels[row]]
            for stage, net in enumerate(("local", "remote")):
                picture[net] = names[answers[stage, row]]
                picture[f"{net}_right"] = bool(test.correct[stage, row])
            if len(run.stage_logits) > 2:
                picture["exit"] = int(decision.exit[row]) + 1
            shown.append(picture)
    return {
        "count": len(sent),
        "kept_count": int((~sent).sum()),
        "sent_count": int(sent.sum()),
        "shown": shown,
    }


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
        pairs = list(dict.fromkeys([(args.cost_1, args.cost_e), *(args.costs or [])]))
        paper = [(args.cost_1, cost_e) for cost_e in COST_E]
        costs = list(dict.fromkeys([*pairs, *(args.grid or paper)]))
        runs = read_runs(args.paths, args.seeds, costs, args.split_seed, args.cost_flops)
        grid = list(dict.fromkeys(args.grid or trained_costs(runs) or paper))
        options = Options(
            args.draws,
            args.seed,
            args.level,
            args.delta,
            args.max_reject_rate,
            args.max_risk,
            args.split_seed or 0,
        )
        report = measure(runs, pairs, grid, options, command, args.rule, args.title)
        report["inputs"] = {
            os.path.relpath(run.source, data.parent): sha256(run.source) for run in runs
        }
    content = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    for path, text in {data: content + "\n", html: page(report, runs[0])}.items():
        write_bytes(path, text.encode())
    print("\n".join(report["verdict"]), html, data, sep="\n")


if __name__ == "__main__":
    main()
