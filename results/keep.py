"""Copy the predictions and records that a published run needs.

    python -m results.keep results/runs/digits/seed-43 results/published/digits/seed-43

Of every *-predictions.npz in or below RUN it keeps labels, splits, scores, estimates and logits,
and beside them each args.json, without directories outside the repository. Logits are kept in
float16, or in float32 if float16 would change a printed digit of any accuracy or of any rule's risk
at the costs of the rejectors. Nothing is kept if a digit changes even so, or if the folder OUT
would hold more than 8 MB. --without_rejectors leaves out the rejectors that were trained for one
pair of costs each, which are the bulk of a file. --files keeps results and figures instead:

    python -m results.keep RUN OUT --files "*-eval.json" args.json "figures/*.png"
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import experiment
from deferral import budgets, npz_checks, predictions
from deferral.decide import decide, prepared
from deferral.predictions import Predictions
from deferral.risk import risk
from deferral.summary import summarise

MEGABYTES = 8  # of OUT
LOGITS = ("stage_logits", "student_logits")
NEEDED = (*LOGITS, "labels", "split", "index", "scores", "settings", "estimates")
DIGITS = 4  # the most that a table prints of a share or a risk


def portable_json(value: Any) -> Any:
    """A JSON value in which no string is a path outside the repository, or a command with one."""
    if isinstance(value, dict):
        return {key: portable_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable_json(item) for item in value]
    if isinstance(value, str):
        value = re.sub(r"(?<=[\s=])/\S+", lambda path: experiment.portable(path[0]), value)
    return experiment.portable(value)


def compact(path: Path, dtype: type[np.floating], rejectors: bool) -> dict[str, np.ndarray]:
    """The arrays of a predictions file that numbers are computed from, its logits in `dtype`.

    rejectors: whether those that were trained for one pair of costs are among them.
    """
    arrays = npz_checks.read_npz(path, NEEDED)
    arrays |= {name: arrays[name].astype(dtype) for name in LOGITS if name in arrays}
    settings = portable_json(json.loads(str(arrays["settings"])))
    if not rejectors:
        settings["rejectors"], arrays["scores"] = [], arrays["scores"][:0]
    return arrays | {"settings": np.array(json.dumps(settings))}


def numbers(pred: Predictions, trained: Predictions) -> dict[str, Any]:
    """Every number that tables show of a file: accuracies and curves, or risks.

    The risks are at the costs that the rejectors of `trained` were trained for.
    """
    adds = pred.settings.get("multiply_adds")
    if adds is not None and len(adds) == len(pred.stage_logits):
        result = budgets.evaluate(pred, adds)
        return {key: result[key] for key in ("anytime", "at_share", "area")}
    found: dict[str, Any] = {}
    if len(pred.stage_logits) == 2:
        found["summary"] = summarise(pred)
    if pred.student_logits is not None:
        right = pred.student_logits.argmax(-1) == pred.labels
        found["students"] = right[:, pred.split == predictions.SPLITS["test"]].mean(1).tolist()
    machine = prepared(pred)
    for pair in sorted({(s["cost_1"], s["cost_e"]) for s in trained.settings["rejectors"]}):
        for name, decision in decide(pred, *pair).items():
            stage = machine.stage(decision)
            cost = risk(machine.correct_test, stage, *machine.price(*pair))
            found[f"{name} at {pair}"] = [cost, float((decision.stop > 0).mean())]
    return found


def rounded(value: Any) -> Any:
    """The same with every float as printed."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return f"{value:.{DIGITS}f}" if isinstance(value, float) else value


def changed(run: Predictions, kept: Predictions, rejectors: bool = True) -> list[str]:
    """The names of numbers whose printed digits differ between a run's file and a kept one.

    rejectors: whether the kept one has those that were trained for one pair of costs.
    """
    whole = run
    if not rejectors:
        whole = replace(run, scores=run.scores[:0], settings=run.settings | {"rejectors": []})
    before, after = (rounded(numbers(pred, run)) for pred in (whole, kept))
    return [key for key in before if before[key] != after.get(key)]


def keep_predictions(path: Path, out: Path, rejectors: bool = True) -> str:
    """Write a file's compact copy; returns the dtype of its logits. ValueError if digits change."""
    names = []
    for dtype in (np.float16, np.float32):
        experiment.write_npz(out, **compact(path, dtype, rejectors))
        names = changed(predictions.load(path), predictions.load(out), rejectors)
        if not names:
            return dtype.__name__
        out.unlink()
    raise ValueError(f"{path}: not kept, since {names[0]} would change in a printed digit")


def keep_files(run: Path, out: Path, patterns: list[str]) -> list[str]:
    """Copy the files of a run with these names; returns a line for each, in their order.

    ValueError keeps nothing.
    """
    found = {path for pattern in patterns for path in run.rglob(pattern)}
    if not found:
        raise ValueError(f"{run}: holds no {' or '.join(patterns)}")
    copies = {path: out / path.relative_to(run) for path in sorted(found)}
    if there := [kept for kept in copies.values() if kept.exists()]:
        raise ValueError(f"{there[0]}: exists; delete it first")
    contents = {path: experiment.read_json(path) for path in copies if path.suffix == ".json"}
    for path, kept in copies.items():
        if path in contents:
            experiment.write_json(kept, portable_json(contents[path]))
        else:
            experiment.write_bytes(kept, path.read_bytes())
    return [str(kept) for kept in copies.values()]


def keep(run: Path, out: Path, rejectors: bool = True) -> list[str]:
    """Write what is kept of a run; returns a line for each file. ValueError keeps nothing."""
    paths = {path: out / path.relative_to(run) for path in predictions.find(run)}
    if there := [path for path in paths.values() if path.exists()]:
        raise ValueError(f"{there[0]}: exists; delete it first")
    records = {path: out / path.relative_to(run) for path in sorted(run.rglob("args.json"))}
    new = [*paths.values(), *(path for path in records.values() if not path.exists())]
    lines = []
    try:
        for path, kept in paths.items():
            dtype = keep_predictions(path, kept, rejectors)
            lines.append(f"{kept}: logits in {dtype}")
        for record, kept in records.items():
            experiment.write_json(kept, portable_json(experiment.read_json(record)))
            lines.append(str(kept))
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        if size > MEGABYTES * 1e6:
            raise ValueError(f"{out}: would hold {size / 1e6:.1f} MB, more than {MEGABYTES} MB")
    except ValueError:
        for kept in new:
            kept.unlink(missing_ok=True)
        raise
    return lines


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="holds *-predictions.npz")
    parser.add_argument("out", metavar="OUT", type=Path, help="a folder of results/published")
    parser.add_argument(
        "--without_rejectors",
        action="store_true",
        help="leave out the rejectors that were trained for one pair of costs each",
    )
    parser.add_argument(
        "--files", nargs="+", metavar="NAME", help="keep files of these names, with * for any"
    )
    args = parser.parse_args(argv)
    if args.files and args.without_rejectors:
        parser.error("--without_rejectors is of predictions; it has no effect with --files")
    with experiment.one_line_errors():
        if args.files:
            lines = keep_files(args.run, args.out, args.files)
        else:
            lines = keep(args.run, args.out, not args.without_rejectors)
        for line in lines:
            print(line)


if __name__ == "__main__":
    main()
