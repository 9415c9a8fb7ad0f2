"""Exits and a server in one file: a device with early exits, and an edge net behind it.

  python -m deferral.join results/runs/exits results/runs/server --device_cost 0.1
  python -m deferral.join exits/digits-predictions.npz answers.csv --cost_flops 1e-9 --out joined
  python -m deferral.join exits server --seeds 0 1 2 --device_cost 0.1 --out joined

EXITS is a predictions.npz of early_exit.eval, SERVER one of eval_all.py, whose edge net becomes the
server, or of another early_exit.eval, whose last exit does, or anyone's npz or CSV
(deferral/external.py); both must be of the same samples. Rejectors and estimates of SERVER are kept
if they were made for this device: if the logits of its first stage are those of the last exit.

Writes {dataset}-predictions.npz with the exits and then the server as its stages, for
deferral.report, whose rules decide at which exit each sample stops or whether it is sent.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from deferral import external
from deferral import predictions as saved
from deferral.cascade import as_predictions
from deferral.predictions import Predictions
from experiment import (
    PREDICTIONS,
    Parser,
    RunPaths,
    lock,
    number,
    one_line_errors,
    script,
    sha256,
    write_npz,
)

TOLERANCE = 1e-3  # of logits of one network computed by two scripts in other batches
# Settings of the joined file, and where the server's file has them; remote_scores, of an external
# file, says how its scores were read.
EDGE = {"edge": "edge", "edge_seed": "seed", "remote_scores": "remote_scores"}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__, "deferral.join")
    for name, text in (
        ("exits", "predictions of a device's exits, or a run directory with one such file"),
        ("server", "predictions of a server on the same samples, likewise"),
    ):
        parser.add_argument(name, metavar=name.upper(), type=Path, help=text)
    parser.add_argument(
        "--seeds",
        type=number(int, 0),
        nargs="+",
        help="join EXITS/seed-N with SERVER/seed-N, into OUT/seed-N",
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--cost_flops",
        type=number(float, 0),
        default=0.0,
        help="cost of one multiply-add of the device, in units of one local error",
    )
    group.add_argument(
        "--device_cost",
        type=number(float, 0),
        help="instead, the cost of running the whole device, in units of one local error",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR_OR_NPZ",
        help="where the file goes (default: defer/ in EXITS)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    args = parser.parse_args(argv)
    if args.seeds:
        args.seeds = list(dict.fromkeys(args.seeds))
        for name in ("exits", "server"):
            if getattr(args, name).is_file():
                parser.error(
                    f"{name.upper()}: with --seeds it is a folder with a run in each seed-N"
                )
        if args.out is not None and args.out.suffix == ".npz":
            parser.error("--out: with --seeds it is a folder, which gets a seed-N for each")
    return args


def join(exits: Predictions, server: Predictions, cost_flops: float = 0.0) -> Predictions:
    """The exits of `exits`, [E, N, K], and behind them the last stage of `server`: [E + 1, N, K].

    Rows are in the order of `exits`; those of `server` may have another order. Scores and estimates
    of `server` decide at the last exit: they are kept if its first stage's logits equal those of
    that exit to within TOLERANCE, else `joined` in the settings says why they are left out. Its
    pictures are kept, its training losses are not. Settings are those of `exits`, except that
    `local` describes the device, and `edge` and `edge_seed` the server.
    cost_flops: the cost of one multiply-add, in units of one local error.

    ValueError, one line, where `exits` lacks the multiply-adds of its exits, or the two are not of
    the same samples and classes.
    """
    exit_costs, settings = _multiply_adds(exits), exits.settings
    rows = _same_samples(exits, server)
    if settings["classes"] != server.settings["classes"]:
        raise ValueError(f"{exits.source} and {server.source} name their classes differently")
    server_answers = server.stage_logits[-1:, rows].astype(exits.stage_logits.dtype)
    left_out = _foreign(exits, server, rows)
    scores, estimates = server.scores[:, rows], server.estimates
    rules: dict[str, Any] = {
        key: server.settings[key] for key in ("rejectors", "estimators") if key in server.settings
    }
    if left_out:
        scores, estimates, rules = scores[:0], None, {"rejectors": []}
    about = {name: server.settings.get(key) for name, key in EDGE.items()}
    if about["edge"] is None and "arch" in server.settings:
        about["edge"] = f"{server.settings['arch']}:{len(server.stage_logits)}"
    device = f"{settings.get('arch', 'device')}, {len(exit_costs)} exit"
    place = np.argsort(rows)  # of each row of `server` among those of `exits`
    shown = server.example_index
    return Predictions(
        labels=exits.labels,
        stage_logits=np.concatenate([exits.stage_logits, server_answers]),
        split=exits.split,
        index=exits.index,
        scores=scores,
        settings={
            **settings,
            **rules,
            **{name: value for name, value in about.items() if value is not None},
            "local": device + "s" * (len(exit_costs) > 1),
            "cost_flops": float(cost_flops),
            "joined": {"exits": exits.source, "server": server.source, "left_out": left_out},
        },
        example_index=None if shown is None else place[shown],
        example_images=server.example_images,
        estimates=None if estimates is None else estimates[..., rows],
        source=f"{exits.source} and {server.source}",
    )


def _multiply_adds(exits: Predictions) -> list[int]:
    """The multiply-adds of each exit. ValueError where the settings lack them."""
    counts, stages = exits.settings.get("multiply_adds"), len(exits.stage_logits)
    if counts is None:
        raise ValueError(
            f"{exits.source}: does not say what its exits cost (multiply_adds); give predictions "
            "of early_exit.eval"
        )
    if len(counts) != stages:
        raise ValueError(f"{exits.source}: has a server already; give exits alone")
    return list(counts)


def _same_samples(exits: Predictions, server: Predictions) -> np.ndarray:
    """Rows of `server` in the order of `exits`, int64 [N]. ValueError unless they are the same."""
    both = f"{exits.source} and {server.source}"
    if exits.stage_logits.shape[1:] != server.stage_logits.shape[1:]:
        sizes = [
            f"{samples} samples, {classes} classes"
            for _, samples, classes in (p.stage_logits.shape for p in (exits, server))
        ]
        raise ValueError(f"{both} are of different data: {sizes[0]}; {sizes[1]}")
    keys, server_keys = (np.stack([p.split, p.index]) for p in (exits, server))
    if not np.array_equal(keys, server_keys) and np.unique(keys, axis=1).shape[1] < keys.shape[1]:
        raise ValueError(f"{both} have their rows in another order, and some have the same index")
    order = [np.lexsort((p.index, p.split)) for p in (exits, server)]
    for name in ("split", "index"):
        first, second = (getattr(p, name)[o] for p, o in zip((exits, server), order, strict=True))
        if not np.array_equal(first, second):
            raise ValueError(
                f"{both} are of different samples ({name}): evaluate both on the same data, "
                "--val_size and --split_seed"
            )
    rows = np.empty(len(order[0]), dtype=np.int64)
    rows[order[0]] = order[1]
    if not np.array_equal(exits.labels, server.labels[rows]):
        raise ValueError(f"{both} are of different data: the labels of the same rows differ")
    return rows


def _foreign(exits: Predictions, server: Predictions, rows: np.ndarray) -> str:
    """Why the rules of `server` do not fit this device; "" where they do, or there are none."""
    if not len(server.scores) and server.estimates is None:
        return ""
    far = np.abs(server.stage_logits[0, rows] - exits.stage_logits[-1]).max()
    if len(server.stage_logits) > 1 and far <= TOLERANCE:
        return ""
    return (
        "rejectors and estimates: they were made for another device, whose logits differ from "
        f"those of the last exit by up to {far:.3g}"
    )


def read(path: Path, exits: Predictions | None = None) -> Predictions:
    """One file, or that of a run directory; `exits` describe the rows of an external server file.

    An external file has no row numbers: its rows are those of `exits`, in that order, with their
    class names, and with their split where it has none. Its rejectors are dropped, because they
    belong to no particular costs. ValueError or OSError for what cannot be read.
    """
    if path.is_dir():
        files = sorted(path.glob(PREDICTIONS))
        if len(files) != 1:
            names = ", ".join(file.name for file in files) or "none"
            raise ValueError(f"{path}: need one {PREDICTIONS} there, and there is {names}")
        path = files[0]
    if exits is None or external.is_native(path):
        return saved.load(path)
    answers = as_predictions(external.load(path), most_classes=len(exits.settings["classes"]))
    same = len(answers.labels) == len(exits.labels)
    if not same or not np.array_equal(answers.labels, exits.labels):
        raise ValueError(
            f"{path}: its labels are not those of {exits.source}, row by row: write its rows in "
            "the order of that file"
        )
    split = answers.split if answers.settings["split"] == "as in the file" else exits.split
    settings = answers.settings | {"classes": exits.settings["classes"]}
    return replace(answers, split=split, index=exits.index, settings=settings)


def output_path(exits: Path, out: Path | None, name: str, seed: int | None) -> Path:
    """Where the file of one run goes; `exits` is EXITS as given on the command line."""
    if out is not None and out.suffix == ".npz":
        return out
    folder = out or (exits if exits.is_dir() else exits.parent) / "defer"
    return RunPaths(folder if seed is None else folder / f"seed-{seed}", name).predictions


def write(path: Path, joined: Predictions) -> None:
    """Write predictions.npz atomically."""
    arrays = {field.name: getattr(joined, field.name) for field in fields(joined)}
    arrays = {name: a for name, a in arrays.items() if isinstance(a, np.ndarray)}
    write_npz(path, **arrays, settings=np.array(json.dumps(joined.settings)))


@script
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    outputs: dict[Path, Predictions] = {}
    with one_line_errors():
        for seed in args.seeds or [None]:
            below = "" if seed is None else f"seed-{seed}"
            exits = read(args.exits / below)
            server = read(args.server / below, exits)
            path = output_path(args.exits, args.out, exits.settings["dataset"], seed)
            if path.resolve() in (Path(p.source).resolve() for p in (exits, server)):
                raise ValueError(f"{path}: is what is to be joined; give another --out")
            if path.exists() and not args.overwrite:
                raise ValueError(f"{path}: predictions are here; --overwrite replaces them")
            cost_flops = args.cost_flops
            if args.device_cost is not None:
                cost_flops = args.device_cost / max(1, _multiply_adds(exits)[-1])
            joined = join(exits, server, cost_flops)
            joined.settings["inputs"] = {}
            for name, source in (("exits", exits.source), ("server", server.source)):
                digest = sha256(source)
                joined.settings["joined"][f"{name}_sha256"] = digest
                joined.settings["inputs"][os.path.relpath(source, path.parent)] = digest
            outputs[path] = joined
        for path in outputs:
            lock(path.parent)
    for path, joined in outputs.items():
        write(path, joined)
        if left_out := joined.settings["joined"]["left_out"]:
            print(f"{path}: left out: {left_out}")
        print(
            f"{path}: {len(joined.stage_logits) - 1} exits and a server, {len(joined.scores)} "
            f"rejectors, {0 if joined.estimates is None else len(joined.estimates)} estimators"
        )


if __name__ == "__main__":
    main()
