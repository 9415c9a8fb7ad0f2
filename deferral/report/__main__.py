"""When should the dear model be asked? A one-page report from a file of answers, and a policy.

  python -m deferral.report results/published/router-made-up/answers.csv.gz --pay router \\
      --unit dollars --min_quality 97% --out results/runs/router
  python -m deferral.report results/runs/answers/people.csv.gz --budget 0.1 \\
      --out results/runs/people
  python -m deferral.report results/published/digits/seed-43 --cost_1 1.25 --cost_e 0.2 \\
      --out results/runs/digits

The first asks for the least cost, in dollars as in the file, at 97 % of the large model's quality;
the second for the highest quality at no more than 0.1 people asked a sample; the third for the
least risk, where an error of the remote model costs 1.25 errors of the local one, and asking 0.2.

Takes one CSV, TSV, JSON lines, Parquet or npz file of two models or more: labels, and of every
model class scores, answers, whether they are right, or their quality; optionally scores, costs,
groups and a split (docs/report.md has an example of each). Or predictions.npz of this project, or
directories with *-predictions.npz below them; several of one data set are runs of several seeds.
Or a device with exits and a server behind it, in one file (deferral/join.py).

Writes NAME-report.html, which needs no other file, NAME-report.json with every number of the page,
and NAME-policy.json, by which `python -m deferral.apply` decides for new samples.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from deferral import external
from deferral import predictions as saved
from deferral.cascade import as_predictions, exits_alone
from deferral.decide import decide, scored
from deferral.policy import Policy
from deferral.predictions import Predictions
from deferral.report import flags, numbers
from deferral.report.choice import choose
from deferral.report.examples import pictures, texts
from deferral.report.flags import Goal, goal, reading
from deferral.report.guarantee import RATES, rate_promises
from deferral.report.headline import headline
from deferral.report.numbers import Options, exit_numbers
from deferral.report.page import page
from deferral.report.routers import router_numbers
from deferral.report.use import how, policy_of
from deferral.report.words import about_data, facts
from deferral.stages import device_costs, without_server
from experiment import one_line_errors, script, sha256, write_bytes


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    return flags.parse_args(__doc__, argv)


def read_runs(
    paths: Sequence[Path],
    seeds: Sequence[int] | None,
    split_seed: int | None,
    cost_flops: float | None = None,
    reading: external.Reading | None = None,
    pay: str = "cascade",
) -> list[Predictions]:
    """The runs of one data set. ValueError or OSError for what cannot be read or compared.

    `cost_flops` replaces that of the files.
    """
    files = [f for path in paths for f in (saved.find(path) if path.is_dir() else [path])]
    if len({f.resolve() for f in files}) < len(files):
        raise ValueError("a file is given twice; runs must differ in their seeds")
    runs, reading = [], reading or external.Reading()
    for path in files:
        native = external.is_native(path)
        if native:
            run = saved.load(path)
            runs.append(exits_alone(run) if without_server(run) else run)
        else:
            answers = external.load(path, replace(reading, split_seed=split_seed or 0))
            runs.append(as_predictions(answers, pay))
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


def in_unit(run: Predictions, unit: str) -> Predictions:
    """The same predictions with a name for the unit of their costs."""
    if run.settings.get("cost_unit") != "file" or "unit_name" in run.settings:
        raise ValueError(f"--unit: {run.source} has no columns cost_NAME")
    return replace(run, settings=run.settings | {"unit_name": unit})


def _same_data(first: Predictions, other: Predictions) -> None:
    """ValueError unless both have val and test, the same classes and the same test rows."""
    tests = [run.part("test") for run in (first, other)]
    other.part("val")
    equal = [*map(np.array_equal, first.correct, other.correct)]
    if first.own and other.own and all(equal[:-1]) and not equal[-1]:
        raise ValueError(
            f"{first.source} and {other.source} differ in the last model alone: two remotes are "
            "not two seeds; write both into one file, as two models"
        )
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
    aim: Goal,
    options: Options,
    command: str,
    rule: str | None = None,
    title: str | None = None,
    policy_file: str = "policy.json",
    inputs: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], Policy | None]:
    """The policy, and all that the JSON holds: the whole report but for the pixels of pictures.

    ValueError where `rule` has no score at its costs.
    """
    main = aim.pairs[0]
    settings = [numbers.at_costs(runs, pair, options) for pair in aim.pairs]
    rows, decided = settings[0]["rules"], decide(runs[0], *main)
    names = [row["name"] for row in rows if row["name"] in scored(decided)]
    shown: str | None = rule or numbers.shown_rule(runs, main, settings[0]["best_confidence"])
    if rule is None and shown not in names:
        shown = names[0] if names else None
    if shown not in names and names:
        raise ValueError(f"--rule {shown}: no such rule at these costs; {', '.join(names)} are")
    rates = sorted({*RATES, options.max_reject_rate or RATES[0]})
    data = about_data(runs)
    option, choice = choose(runs, main, aim.wanted, options)
    report: dict[str, Any] = {
        "title": title or f"Whom to ask: {data['dataset']}",
        "headline": [],
        "choice": choice,
        "costs_from": aim.about,
        "command": command,
        "options": asdict(options),
        "data": data,
        "facts": facts(data, options),
        "settings": settings,
        "grid": numbers.over_grid(runs, aim.grid, options),
        "curves": numbers.curve_numbers(runs, main),
        "routers": router_numbers(runs, main),
        "shown": shown,
        "shown_because": "asked for by --rule" if rule else _because(shown, settings[0]),
        "rate_promises": shown and rate_promises(runs, main, shown, rates, options.delta),
        "reliability": numbers.reliability(runs),
        "classes": shown and numbers.classes(runs, main, shown),
        "pictures": shown and pictures(runs[0], decided[shown]),
        "texts": texts(runs[0], option.test[0]),
    }
    if exits := exit_numbers(runs, main, [row["name"] for row in rows]):
        report["exits"] = exits
    policy = policy_of(runs, option, choice, inputs)
    report["policy"] = how(policy, policy_file)
    report["headline"] = headline(choice, options.level, main)
    return report, policy


def _because(shown: str | None, setting: dict[str, Any]) -> str:
    if shown is None:
        return "no model says how sure it is, so there is no rule"
    if shown == setting["best_confidence"]:
        return "the best confidence rule on val; the file has no rule of its own at these costs"
    return "of the file's own rules the one with least risk on val"


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
        written = [data, html, data.with_name(f"{data.stem.removesuffix('-report')}-policy.json")]
        for path in written:
            if path.exists() and not args.overwrite:
                raise ValueError(f"{path}: a report is here; --overwrite replaces it")
        runs = read_runs(
            args.paths,
            args.seeds,
            args.split_seed,
            args.cost_flops,
            reading(args),
            args.pay or "cascade",
        )
        if args.unit is not None:
            runs = [in_unit(run, args.unit) for run in runs]
        options = Options(**{f.name: getattr(args, f.name) for f in fields(Options)})
        inputs = {os.path.relpath(run.source, data.parent): sha256(run.source) for run in runs}
        aim, policy_file = goal(args, runs), written[2]
        report, policy = measure(
            runs, aim, options, command, args.rule, args.title, policy_file.name, inputs
        )
        report["inputs"] = inputs
    content = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    files = {data: content + "\n", html: page(report, runs[0])}
    if policy is not None:
        files[policy_file] = policy.to_json()
    for path, text in files.items():
        write_bytes(path, text.encode())
    if policy is None:  # one that --overwrite replaces would be of another rule
        policy_file.unlink(missing_ok=True)
    for what, how_read in report["data"]["understood"] or []:
        print(f"{what:>16}  {how_read}")
    print("", *report["headline"], *files, sep="\n")


if __name__ == "__main__":
    main()
