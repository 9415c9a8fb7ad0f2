"""Run real early exit and measure its decisions, latency and throughput.

  python -m early_exit.infer --dataset digits --save_dir results/runs/early-exit
  python -m early_exit.infer --dataset digits --save_dir results/runs/early-exit --budget 6e6

A sample that has left at an exit is not computed any further. Thresholds are those that
early_exit.eval fitted on val: the point nearest to each --q, or for each --budget the point of
highest val accuracy whose mean multiply-adds on val keep to it; or your own --thresholds. Runs the
test set with real early exit and compares each sample's exit with that of the saved logits of all
exits ("on paper"). Then times test batches at each of --batch_sizes: the network with all exits,
its last exit alone, and early exit at each point. Writes {dataset}-infer.json.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import data
import experiment
from data.batches import Steps
from deferral import exits
from deferral import predictions as saved
from deferral.budgets import anytime
from early_exit.inference import Inference, LastExit, OperatingPoint
from early_exit.latency import latencies
from early_exit.load import add_flags, check_flags, open_all
from experiment import number
from models.cost import multiply_adds as count


def parse_args(argv=None):
    parser = experiment.Parser(__doc__)
    add_flags(parser, argv)
    group = parser.add_argument_group("points and timing")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--q",
        type=number(float, 1 / 20, exits.POINTS / 20),
        nargs="+",
        default=[0.5, 0.75, 1.0, 1.25],
        help="operating points, rounded to 0.05: exit k answers a share proportional to q^k on val",
    )
    which.add_argument(
        "--budget",
        type=number(float, 0, above=True),
        nargs="+",
        help="operating points by cost: mean multiply-adds an image on val, at most",
    )
    which.add_argument(
        "--thresholds",
        type=confidence,
        nargs="+",
        help="one operating point: thresholds on max softmax for all exits but the last; inf: no "
        "sample leaves there",
    )
    group.add_argument(
        "--batch_sizes",
        type=number(int, 1),
        nargs="+",
        default=[1, 256],
        help="images a batch, for timing",
    )
    group.add_argument(
        "--seconds", type=number(float, 0), default=20.0, help="timing at each batch size, seconds"
    )
    parser.add_common(seed=0)
    args = parser.parse_args(argv)
    check_flags(parser, args, argv)
    return args


def confidence(text: str) -> float:
    """An argparse type: a number from 0 up, or inf."""
    return math.inf if text == "inf" else number(float, 0)(text)


def given_point(thresholds: Sequence[float], num_exits: int) -> OperatingPoint:
    """The point of --thresholds, which are on max softmax: `exits.confidence` + 1."""
    if len(thresholds) != num_exits - 1:
        raise ValueError(
            f"--thresholds: {len(thresholds)} for {num_exits} exits: give {num_exits - 1}; the "
            "last exit answers all that are left"
        )
    return OperatingPoint(None, np.array([*thresholds, -np.inf]) - 1)


def fitted_points(
    pred: saved.Predictions,
    multiply_adds: Sequence[int],
    wanted_q: Sequence[float],
    budgets: Sequence[float] | None,
) -> list[OperatingPoint]:
    """Points fitted on val: the best within each of `budgets`, or those nearest to `wanted_q`."""
    num_exits = len(pred.stage_logits)
    qs = exits.q_of_points()
    val = pred.part("val")
    sure = exits.confidence(val.stage_logits)
    thresholds = exits.fit_thresholds(sure, exits.shares(qs, num_exits))
    _, accuracy, cost = exits.spent(exits.stops(sure, thresholds), val.correct, multiply_adds)
    if budgets:
        rows = [best_within(budget, accuracy, cost) for budget in budgets]
    else:
        rows = [int(np.abs(qs - q).argmin()) for q in wanted_q]
    return [OperatingPoint(float(qs[i]), thresholds[i]) for i in dict.fromkeys(rows)]


def best_within(budget: float, accuracy: np.ndarray, cost: np.ndarray) -> int:
    """The point of highest val accuracy among those that cost at most `budget` on val.

    The cheapest of several. ValueError where there is none.
    """
    affordable = np.flatnonzero(cost <= budget)
    if not len(affordable):
        raise ValueError(
            f"--budget {budget:g}: the cheapest point takes {cost.min():,.0f} multiply-adds on val"
        )
    return int(affordable[np.lexsort((cost[affordable], -accuracy[affordable]))[0]])


def run_early(
    inference: Inference, batches: Steps, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The exit of each sample and whether it is right there, int64 [N] and bool [N]."""
    stop, right = [], []
    with inference.ready():
        for _, images, labels in batches.epoch(0):
            exit_of_sample, logits = inference.early(images, thresholds)
            stop.append(exit_of_sample.cpu())
            right.append((logits.argmax(-1) == labels).cpu())
    return torch.cat(stop).numpy(), torch.cat(right).numpy()


def check(
    inference: Inference,
    batches: Steps,
    test: saved.Predictions,
    point: OperatingPoint,
    multiply_adds: Sequence[int],
) -> dict[str, Any]:
    """Real early exit on test, compared with the decisions on the saved logits of `test`."""
    stop, right = run_early(inference, batches, point.thresholds)
    on_paper = exits.stops(exits.confidence(test.stage_logits), point.thresholds)
    counts = np.bincount(stop, minlength=len(multiply_adds))
    return {
        "q": point.q,
        "max_doubt": exits.max_doubt(point.thresholds),
        "shares": (counts / len(stop)).tolist(),
        "accuracy": float(right.sum() / len(right)),
        "multiply_adds": float(counts @ np.array(multiply_adds) / len(stop)),
        "differences": int((stop != on_paper).sum()),
    }


def print_report(result: dict[str, Any]) -> None:
    points = {("early exit", p["q"]): p for p in result["points"]}
    points["all exits", None] = result["all_exits"]
    points["last exit alone", None] = result.get("last_exit_alone")
    print(
        f"{result['arch']}, {result['method']}, {result['dataset']}; {result['hardware']}"
        f"{', bfloat16' if result['bf16'] else ''}"
    )
    print(
        f"{'batch':>6}  {'':20}  {'multiply-adds':>14}  {'test':>7}  {'median ms':>9}  "
        f"{'90 % ms':>9}  {'images/s':>9}"
    )
    for row in result["latency"]:
        point = points[row["way"], row["q"]]
        way = row["way"] + ("" if row["q"] is None else f", q {row['q']:g}")
        print(
            f"{row['batch_size']:6}  {way:20}  {point['multiply_adds']:14,.0f}  "
            f"{point['accuracy']:7.2%}  {row['median_ms']:9.3f}  {row['p90_ms']:9.3f}  "
            f"{row['images_per_second']:9,.0f}"
        )
    total = sum(p["differences"] for p in result["points"])
    print(
        f"{total} of {len(result['points']) * result['test_images']} decisions differ from those "
        "on paper"
    )


def infer(args):
    """One network: its decisions compared with those on paper, its latency, and the JSON."""
    with experiment.one_line_errors():
        device = experiment.pick_device(args.device)
        name = data.stem(args.dataset)
        paths = experiment.RunPaths(args.save_dir, name)
        run = experiment.Run(args.save_dir, paths.stem("infer"), args, remake=True)
        path, done = paths.predictions, paths.result("eval")
        if not (path.exists() and done.exists()):
            raise ValueError(f"{done}: not there; python -m early_exit.eval makes it")
        opened = open_all(args)
        inputs = opened.inputs() | {path.name: path}
        if run.is_complete(opened.fingerprint, inputs):
            return print(f"{run.result}: complete")
        pred = saved.load(path)
        if any(pred.settings.get(k) != value for k, value in opened.settings().items()):
            raise ValueError(
                f"{path}: is not of {opened.trained.path} and this data; "
                "python -m early_exit.eval --overwrite makes it again"
            )
        multiply_adds = pred.settings["multiply_adds"]
        if args.thresholds:
            points = [given_point(args.thresholds, len(pred.stage_logits))]
        else:
            points = fitted_points(pred, multiply_adds, args.q, args.budget)
        test = pred.part("test")
        batches = opened.batches(opened.dataset.test, args.batch_size, device, args.workers)
        run.start(device, opened.fingerprint)

    trained = opened.trained
    alone = LastExit(trained.net)
    last_alone = count(alone, trained.net.example(trained.size))
    inference = Inference(
        trained.net,
        device,
        trained.ensemble_reweight,
        bf16=args.bf16,
        channels_last=args.channels_last,
    )
    result = {
        "dataset": name,
        "arch": trained.arch,
        "method": trained.method,
        "seed": trained.about.get("seed"),
        "bf16": args.bf16,
        "channels_last": args.channels_last,
        "commit": experiment.commit_with_changes(),
        "hardware": experiment.hardware(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "test_images": len(test.labels),
    }
    full = {"accuracy": anytime(pred, multiply_adds)[-1]["accuracy"]}
    result["all_exits"] = full | {"multiply_adds": multiply_adds[-1]}
    if not trained.ensemble_reweight:
        result["last_exit_alone"] = full | {"multiply_adds": last_alone}
    with experiment.one_line_errors():  # streamed pictures are read only now
        result["points"] = [check(inference, batches, test, p, multiply_adds) for p in points]
        result["latency"] = latencies(inference, opened, points, args.batch_sizes, args.seconds)
    run.finish(result)
    print_report(result)
    print(run.result)
    return None


@experiment.script
def main(argv=None):
    for args in experiment.each_seed(parse_args(argv)):
        infer(args)


if __name__ == "__main__":
    main()
